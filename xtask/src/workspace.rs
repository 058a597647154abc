//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The checkout that this xtask belongs to.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Asks cargo at run time, so that a checkout that was moved after it was built still finds itself.
    pub fn find() -> Self {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf);
        Self { root }
    }

    /// The checkout's top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the checkout.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path in `target`, which is never committed.
    pub fn target(&self, relative: &str) -> PathBuf {
        self.root.join("target").join(relative)
    }

    /// The kernel half as the agent embeds it.
    pub fn ebpf_object(&self) -> PathBuf {
        self.target("ebpf/cordon.o")
    }

    /// The release binary.
    pub fn binary(&self) -> PathBuf {
        self.target("release/cordon")
    }
}
