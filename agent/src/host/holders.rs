//! Whose a socket is: the processes that hold a descriptor of it.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::Error;

/// A descriptor of a socket in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Which process.
    pub pid: u32,
    /// Its number there.
    pub descriptor: i32,
}

/// Who holds the sockets with these inodes, by inode. Goes through every descriptor of every process, so it is asked when there
/// is something to find. What ends meanwhile, or may not be looked into, is passed over.
///
/// # Errors
/// `/proc` cannot be read.
pub fn socket_holders(wanted: &HashSet<u64>) -> Result<HashMap<u64, Vec<Holder>>, Error> {
    let mut holders: HashMap<u64, Vec<Holder>> = HashMap::new();
    if wanted.is_empty() {
        return Ok(holders);
    }
    let processes = fs::read_dir("/proc").map_err(|source| Error::Read { path: "/proc".into(), source })?;
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let descriptor = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let inode = fs::read_link(entry.path()).ok().as_deref().and_then(|link| socket_inode(link.to_str()?));
            if let (Some(descriptor), Some(inode)) = (descriptor, inode.filter(|inode| wanted.contains(inode))) {
                holders.entry(inode).or_default().push(Holder { pid, descriptor });
            }
        }
    }
    Ok(holders)
}

/// Of `socket:[INODE]` (proc(5), `/proc/<pid>/fd`).
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_socket_is_found_by_each_descriptor_of_it_and_no_other_is() {
        let [socket, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let again = socket.try_clone().unwrap();
        let inode = |socket: &UdpSocket| fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
        let mut found = socket_holders(&HashSet::from([inode(&socket)])).unwrap();
        assert!(!found.contains_key(&inode(&other)));
        let mut holders = found.remove(&inode(&socket)).unwrap();
        holders.sort();
        let mut expected =
            [&socket, &again].map(|socket| Holder { pid: std::process::id(), descriptor: socket.as_raw_fd() });
        expected.sort();
        assert_eq!(holders, expected);
    }

    #[test]
    fn only_sockets_are_taken_for_sockets() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        for other in ["pipe:[4711]", "/tmp/socket:[4711]", "socket:[4711", "socket:[]", "socket:[-1]"] {
            assert_eq!(socket_inode(other), None, "{other}");
        }
    }
}
