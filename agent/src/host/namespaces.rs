//! The network namespaces that processes live in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use super::Error;

/// A network namespace, held open: it stays what it is when its last process ends.
#[derive(Debug)]
pub struct NetworkNamespace {
    /// What tells it from others that are there now, as in `net:[4026531840]`.
    pub inode: u64,
    /// Whether it is this process's own.
    pub is_own: bool,
    /// What `setns(2)` takes.
    pub descriptor: File,
}

/// Each network namespace that is some process's, the own one first. A process that ends meanwhile is passed over.
///
/// # Errors
/// `/proc` cannot be read.
pub fn network_namespaces() -> Result<Vec<NetworkNamespace>, Error> {
    let open = |process: &str| -> io::Result<NetworkNamespace> {
        let descriptor = File::open(format!("/proc/{process}/ns/net"))?;
        Ok(NetworkNamespace { inode: descriptor.metadata()?.ino(), is_own: process == "self", descriptor })
    };
    let own = open("self").map_err(|source| Error::Read { path: "/proc/self/ns/net".into(), source })?;
    let mut known = BTreeSet::from([own.inode]);
    let mut found = vec![own];
    for entry in fs::read_dir("/proc").map_err(|source| Error::Read { path: "/proc".into(), source })?.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let is_known =
            fs::metadata(format!("/proc/{process}/ns/net")).map(|namespace| known.contains(&namespace.ino()));
        if is_known.unwrap_or(true) {
            continue;
        }
        if let Ok(namespace) = open(process)
            && known.insert(namespace.inode)
        {
            found.push(namespace);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_comes_first_and_none_comes_twice() {
        let found = network_namespaces().unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!((found[0].inode, found[0].is_own), (own, true));
        let inodes: BTreeSet<u64> = found.iter().map(|namespace| namespace.inode).collect();
        assert_eq!(inodes.len(), found.len());
    }
}
