//! Where things are, and how `--root` moves them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::intel::source::Source;

/// Every place the agent reads or writes (see the manual page, FILES).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `--root`, if given.
    pub root: Option<PathBuf>,
    /// The settings file.
    pub settings: PathBuf,
    /// Its drop-ins.
    pub drop_ins: PathBuf,
    /// Local intelligence, watched.
    pub intel: PathBuf,
    /// State that survives a restart.
    pub state: PathBuf,
    /// The journal.
    pub journal: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Pinned links and maps.
    pub pins: PathBuf,
}

impl Places {
    /// All places below `root`, or of the host itself. The pins cannot be below `root`, being in bpffs, so each root gets a
    /// directory of its own there.
    #[must_use]
    pub fn new(root: Option<&Path>) -> Self {
        let base = root.unwrap_or_else(|| Path::new("/"));
        let pins = root.map_or_else(
            || PathBuf::from("/sys/fs/bpf/cordon"),
            |root| {
                let mut hasher = DefaultHasher::new();
                std::path::absolute(root).unwrap_or_else(|_| root.to_owned()).hash(&mut hasher);
                PathBuf::from(format!("/sys/fs/bpf/cordon-{:016x}", hasher.finish()))
            },
        );
        Self {
            root: root.map(Path::to_owned),
            settings: base.join("etc/cordon/cordon.toml"),
            drop_ins: base.join("etc/cordon/cordon.d"),
            intel: base.join("etc/cordon/intel.d"),
            state: base.join("var/lib/cordon"),
            journal: base.join("var/log/cordon"),
            socket: base.join("run/cordon/cordon.sock"),
            pins,
        }
    }

    /// A source as seen from `root`; what is fetched is read from where it is kept.
    #[must_use]
    pub fn relocate(&self, mut source: Source) -> Source {
        source.path = match source.remote() {
            Some(remote) => remote.place(&self.sources(), &source.name),
            None => self.path(source.path),
        };
        source.access = source.access.relocated(|path| self.path(path));
        source
    }

    /// A path of the settings as seen from `root`: one under `/etc/cordon` moves with it, any other is taken as written.
    #[must_use]
    pub fn path(&self, path: PathBuf) -> PathBuf {
        match (&self.root, path.strip_prefix("/etc/cordon")) {
            (Some(root), Ok(rest)) => root.join("etc/cordon").join(rest),
            _ => path,
        }
    }

    /// Whose intelligence the entries of the last generations are: a file for each.
    #[must_use]
    pub fn generations(&self) -> PathBuf {
        self.state.join("generations")
    }

    /// What sources said last, and what was fetched of them: a directory for each.
    #[must_use]
    pub fn sources(&self) -> PathBuf {
        self.state.join("sources")
    }
}
