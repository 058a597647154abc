//! A cgroup for what a verb starts, gone when the verb ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

#[cfg(test)]
mod tests;

const PATIENCE: Duration = Duration::from_secs(5);

/// A directory of one cgroup hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the root of cgroup2, which Cordon enforces by.
    pub fn make(name: &str) -> Result<Self> {
        match hierarchies()?.unified {
            Some(root) => Self::below(&root, name),
            None => bail!(
                "no cgroup2 file system is mounted, and Cordon enforces by cgroup: mount one at /sys/fs/cgroup/unified"
            ),
        }
    }

    /// Makes one in cgroup2, and one in systemd's own hierarchy where that is another.
    pub fn make_for_systemd(name: &str) -> Result<Vec<Self>> {
        let own = hierarchies()?.systemd.map(|root| Self::below(&root, name)).transpose()?;
        Ok(std::iter::once(Self::make(name)?).chain(own).collect())
    }

    fn below(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends what still runs in it and removes it with all below it.
    pub fn remove(self) -> Result<()> {
        // cgroup.kill is of Linux 5.14 and cgroup2; without it nothing is left to kill unless what ran here failed.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let end = Instant::now() + PATIENCE;
        while let Err(error) = remove_tree(&self.path) {
            if Instant::now() > end {
                return Err(error).with_context(|| format!("cannot remove the cgroup {}", self.path.display()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Its files go with a cgroup; only the directories are removed.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Hierarchies {
    /// cgroup2.
    unified: Option<PathBuf>,
    /// The named hierarchy of cgroup v1 in which systemd keeps its units on hybrid hosts.
    systemd: Option<PathBuf>,
}

fn hierarchies() -> Result<Hierarchies> {
    Ok(parse(&fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?))
}

/// In the words of /proc/self/mounts.
fn parse(mounts: &str) -> Hierarchies {
    let mut found = Hierarchies::default();
    for line in mounts.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [_, folder, "cgroup2", ..] => found.unified = found.unified.or_else(|| Some(folder.into())),
            [_, folder, "cgroup", options, ..] if options.split(',').any(|option| option == "name=systemd") => {
                found.systemd = found.systemd.or_else(|| Some(folder.into()));
            }
            _ => {}
        }
    }
    found
}
