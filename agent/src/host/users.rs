//! User names from the passwd file.
//!
//! Only the file is read: a lookup through NSS (LDAP, SSSD) can block for seconds on the network, and an agent that names
//! processes must not. A user that only a directory service knows has no name here.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// More than any passwd file; what lies beyond is not read.
const MAX_BYTES: u64 = 16 << 20;

/// User id → name, read again when the file changes.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    stamp: Option<(u64, u64, i64, i64)>,
    names: HashMap<u32, Arc<str>>,
}

impl Users {
    /// Names from `path`, `/etc/passwd` in the form of passwd(5).
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, stamp: None, names: HashMap::new() }
    }

    /// The name of `uid`, if the file has one.
    pub fn name(&mut self, uid: u32) -> Option<Arc<str>> {
        self.refresh();
        self.names.get(&uid).cloned()
    }

    fn refresh(&mut self) {
        let Ok(file) = File::open(&self.path) else {
            self.stamp = None;
            self.names.clear();
            return;
        };
        let Ok(metadata) = file.metadata() else { return };
        let stamp = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if self.stamp == Some(stamp) {
            return;
        }
        let mut bytes = Vec::new();
        if file.take(MAX_BYTES).read_to_end(&mut bytes).is_ok() {
            self.names = parse(&String::from_utf8_lossy(&bytes));
            self.stamp = Some(stamp);
        }
    }
}

/// The first name of each user id, as getpwuid(3) gives it. Lines without one (comments, NIS `+` lines) name nobody.
fn parse(text: &str) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_password), Some(uid)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if let Ok(uid) = uid.parse::<u32>()
            && !name.is_empty()
            && !name.starts_with(['#', '+', '-'])
        {
            names.entry(uid).or_insert_with(|| Arc::from(name));
        }
    }
    names
}

/// The id of a local group; `None` when `/etc/group` names none such.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    group_in(&std::fs::read_to_string("/etc/group").ok()?, name)
}

/// In the form of group(5): name, password, id, members.
fn group_in(text: &str, name: &str) -> Option<u32> {
    let mut groups = text.lines().map(|line| line.split(':'));
    groups.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests;
