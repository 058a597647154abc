//! `cargo xtask package`: the .deb and the .rpm. What they hold is listed in agent/Cargo.toml; what of it is built or generated
//! is put into target/package/stage first, so that both take the same files.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tool::{self, progress};
use crate::workspace::Workspace;
use crate::{build, debian};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where each shell looks for a file of which name is for agent/Cargo.toml to say.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "cordon"), ("zsh", "_cordon"), ("fish", "cordon.fish")];

/// Which packages, of what.
#[derive(clap::Args)]
pub struct Arguments {
    /// Make the .deb only
    #[arg(long, conflicts_with = "rpm")]
    deb: bool,
    /// Make the .rpm only
    #[arg(long)]
    rpm: bool,
    /// Package this `cordon` as it is, instead of building one in release mode
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Which packaging of this version it is, from 1
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    revision: u32,
}

/// A kind of package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For dpkg.
    Deb,
    /// For rpm.
    Rpm,
}

impl Kind {
    /// Finds or builds what makes it.
    fn tool(self, workspace: &Workspace) -> Result<PathBuf> {
        match self {
            Self::Deb => tool::installed(workspace, "cargo-deb", "3.8.0"),
            Self::Rpm => tool::installed(workspace, "cargo-generate-rpm", "0.21.1"),
        }
    }
}

/// What packages are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Small ones in target/package.
    Release,
    /// Quickly made ones in target/test/package.
    Test,
}

impl Purpose {
    fn folder(self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::Release => workspace.target("package"),
            Self::Test => workspace.target("test/package"),
        }
    }
}

/// What to package.
#[derive(Clone, Debug)]
pub struct Order {
    /// The `cordon` that is in it; it must run here, since it prints its manual page and completions itself.
    pub binary: PathBuf,
    /// Which packaging of this version it is, from 1.
    pub revision: u32,
    /// What for.
    pub purpose: Purpose,
}

/// Makes the packages in target/package.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let kinds: &[Kind] = match (arguments.deb, arguments.rpm) {
        (true, _) => &[Kind::Deb],
        (_, true) => &[Kind::Rpm],
        _ => &[Kind::Deb, Kind::Rpm],
    };
    // Before the build: that one takes minutes, and this may not be possible.
    for kind in kinds {
        kind.tool(workspace)?;
    }
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => {
            build::run(workspace)?;
            workspace.binary()
        }
    };
    let order = Order { binary, revision: arguments.revision, purpose: Purpose::Release };
    for kind in kinds {
        progress(format_args!("done: {}", make(workspace, *kind, &order)?.display()));
    }
    Ok(())
}

/// Finds or builds what makes the packages.
pub fn ensure_tools(workspace: &Workspace) -> Result<()> {
    [Kind::Deb, Kind::Rpm].iter().try_for_each(|kind| kind.tool(workspace).map(drop))
}

/// Makes a package and returns its path.
pub fn make(workspace: &Workspace, kind: Kind, order: &Order) -> Result<PathBuf> {
    let program = kind.tool(workspace)?;
    stage(workspace, order)?;
    let folder = order.purpose.folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    match kind {
        Kind::Deb => deb(workspace, &program, order, &folder),
        Kind::Rpm => rpm(workspace, &program, order, &folder),
    }
}

fn deb(workspace: &Workspace, program: &Path, order: &Order, folder: &Path) -> Result<PathBuf> {
    if debian::is_here() {
        // It knows which version of the C library a binary asks for.
        debian::ensure_installed(&["dpkg-dev"], "packaging")?;
    }
    let mut command = Command::new(program);
    command.args(["--manifest-path", "agent/Cargo.toml", "--no-build", "--no-strip", "--quiet", "--locked"]);
    command.args(["--deb-revision", &order.revision.to_string(), "--output"]).arg(folder);
    if order.purpose == Purpose::Test {
        // Its own gzip is Zopfli, which takes minutes.
        command.args(["--compress-type", "gz", "--compress-system", "--fast"]);
    }
    let said = tool::output(command.current_dir(workspace.root()), "cargo-deb")?;
    let path = said.lines().last().context("cargo-deb has not said where it left the package")?;
    Ok(path.into())
}

fn rpm(workspace: &Workspace, program: &Path, order: &Order, folder: &Path) -> Result<PathBuf> {
    let revision = order.revision;
    let path = folder.join(format!("cordon-{VERSION}-{revision}.{ARCH}.rpm"));
    let mut command = Command::new(program);
    command.args(["--package", "agent", "--set-metadata", &format!("release = \"{revision}\""), "--output"]).arg(&path);
    if order.purpose == Purpose::Test {
        command.args(["--payload-compress", "none"]);
    }
    tool::run(command.current_dir(workspace.root()), "cargo-generate-rpm")?;
    Ok(path)
}

/// Puts the binary and what it prints about itself into target/package/stage.
fn stage(workspace: &Workspace, order: &Order) -> Result<()> {
    let binary = &order.binary;
    let folder = workspace.target("package/stage");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("cannot make {}", completions.display()))?;
    let cordon = folder.join("cordon");
    fs::copy(binary, &cordon).with_context(|| format!("cannot copy {}", binary.display()))?;
    for (shell, name) in COMPLETIONS {
        let what = format!("`{} completions {shell}`", binary.display());
        let script = tool::output(Command::new(&cordon).args(["completions", shell]), &what)?;
        write(&completions.join(name), &script)?;
    }
    let page = tool::output(Command::new(&cordon).arg("manual"), &format!("`{} manual`", binary.display()))?;
    write(&folder.join("cordon.1"), &page)?;
    let mut gzip = Command::new("gzip");
    tool::run(
        gzip.args(["--best", "--no-name", "--force"]).arg(folder.join("cordon.1")),
        "compressing the manual page",
    )?;
    write(&folder.join("changelog"), &changelog(workspace, order.revision)?)
}

/// Debian's form of a changelog, which points to ours.
fn changelog(workspace: &Workspace, revision: u32) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--reference"]).arg(workspace.path("CHANGELOG.md"));
    let date = tool::output(date.env("LC_ALL", "C"), "asking for the date of CHANGELOG.md")?;
    Ok(format!(
        "cordon ({VERSION}-{revision}) unstable; urgency=medium\n\n  * changelog.gz beside this file says what changed.\n\n \
         -- The Cordon authors  {date}"
    ))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
