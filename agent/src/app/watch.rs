//! Says when something that a source reads has changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt;

/// Writers close a file, rename it, touch it again: what happens within this long is one change.
const SETTLE: Duration = Duration::from_millis(150);
/// A writer that never pauses is read anyway after this long.
const PATIENCE: Duration = Duration::from_millis(600);
/// Directories watched for one source; the kernel's own limit is per user.
const MAX_DIRECTORIES: usize = 4_096;

/// Watches files and directory trees. A file is watched through its directory, because editors replace files.
pub struct Watch {
    events: EventStream<Vec<u8>>,
    watches: Watches,
    directories: HashMap<WatchDescriptor, PathBuf>,
    unsettled: Option<Unsettled>,
}

/// A change that may not be over.
struct Unsettled {
    paths: Vec<PathBuf>,
    first: Instant,
    latest: Instant,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel gives no inotify instance.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream(vec![0; 16 << 10])?;
        Ok(Self { events, watches, directories: HashMap::new(), unsettled: None })
    }

    /// Watches `paths` too; those watched already cost nothing. What does not exist is watched through its nearest existing ancestor.
    ///
    /// # Errors
    /// The kernel's limit of watches is reached.
    pub fn add<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
        for path in paths {
            let mut pending = vec![nearest_directory(path)];
            let mut seen = 0;
            while let Some(directory) = pending.pop() {
                seen += 1;
                if seen > MAX_DIRECTORIES {
                    return Err(io::Error::other(format!(
                        "{}: more than {MAX_DIRECTORIES} directories",
                        path.display()
                    )));
                }
                let mask = WatchMask::CREATE
                    | WatchMask::CLOSE_WRITE
                    | WatchMask::DELETE
                    | WatchMask::MOVE
                    | WatchMask::ATTRIB
                    | WatchMask::ONLYDIR;
                let descriptor = self.watches.add(&directory, mask)?;
                self.directories.insert(descriptor, directory.clone());
                if path.is_dir() {
                    pending.extend(subdirectories(&directory));
                }
            }
        }
        Ok(())
    }

    /// Waits for a change to settle and gives the paths that changed. Nothing is lost when the future is dropped: what it has
    /// seen is given by the next.
    ///
    /// # Errors
    /// The inotify instance broke.
    pub async fn changed(&mut self) -> io::Result<Vec<PathBuf>> {
        loop {
            let event = match &self.unsettled {
                None => self.events.next().await,
                Some(Unsettled { first, latest, .. }) => {
                    let end = (*latest + SETTLE).min(*first + PATIENCE);
                    match timeout_at(end, self.events.next()).await {
                        Ok(event) => event,
                        Err(_) => break,
                    }
                }
            };
            self.note(event.ok_or_else(|| io::Error::other("inotify ended"))??);
        }
        let mut changed = self.unsettled.take().map(|change| change.paths).unwrap_or_default();
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    fn note(&mut self, event: inotify::Event<std::ffi::OsString>) {
        if event.mask.contains(EventMask::IGNORED) {
            self.directories.remove(&event.wd);
            return;
        }
        // An overflow names no directory: then everything may have changed, which the root stands for.
        let directory = self.directories.get(&event.wd).cloned().unwrap_or_else(|| PathBuf::from("/"));
        let path = event.name.map_or_else(|| directory.clone(), |name| directory.join(name));
        let now = Instant::now();
        let change = self.unsettled.get_or_insert_with(|| Unsettled { paths: Vec::new(), first: now, latest: now });
        change.latest = now;
        change.paths.push(path);
    }
}

fn nearest_directory(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or_else(|| Path::new("/")).to_owned()
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_in_new_and_old_directories_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let nested = root.path().join("a/b");
        fs::create_dir_all(&nested).unwrap();
        let missing = root.path().join("later/feed.txt");
        let mut watch = Watch::new().unwrap();
        watch.add([root.path(), missing.as_path()]).unwrap();

        fs::write(nested.join("feed.txt"), "192.0.2.1").unwrap();
        assert!(watch.changed().await.unwrap().contains(&nested.join("feed.txt")));
        fs::create_dir(root.path().join("later")).unwrap();
        assert!(watch.changed().await.unwrap().contains(&root.path().join("later")));
        watch.add([missing.as_path()]).unwrap();
        fs::write(&missing, "192.0.2.2").unwrap();
        assert!(watch.changed().await.unwrap().contains(&missing));
        fs::remove_file(&missing).unwrap();
        assert!(watch.changed().await.unwrap().contains(&missing));
    }

    #[tokio::test]
    async fn a_change_outlives_whoever_stopped_waiting_for_it() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        watch.add([root.path()]).unwrap();
        fs::write(root.path().join("feed.txt"), "192.0.2.1").unwrap();
        // Long enough to see the event, not to see it settled.
        assert!(tokio::time::timeout(SETTLE / 3, watch.changed()).await.is_err());
        assert!(watch.unsettled.is_some());
        assert!(watch.changed().await.unwrap().contains(&root.path().join("feed.txt")));
    }
}
