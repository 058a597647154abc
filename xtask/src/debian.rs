//! Packages of Debian and its kin: what is installed, installing what is missing, and private lists that leave the
//! system's own alone. Mirrors are always those that the machine is configured with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::tool;

#[cfg(test)]
mod tests;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const LISTS_ARE_FRESH_FOR: Duration = Duration::from_secs(24 * 3600);

/// Whether this system has apt at all.
pub fn is_here() -> bool {
    tool::find("apt-get").is_some() && tool::find("dpkg-query").is_some()
}

/// Whether apt knows a package of this name.
pub fn offers(package: &str) -> bool {
    Command::new("apt-cache")
        .args(["policy", package])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(is_candidate))
}

/// As [`offers`], after a look at the mirrors when the lists at hand do not know the package: they may be older than it.
pub fn offers_if_refreshed(package: &str) -> bool {
    // Without root nothing could be installed either, and whoever tries then says what to do.
    offers(package) || (refresh().is_ok() && offers(package))
}

fn is_candidate(line: &str) -> bool {
    line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)")
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// Installs those of `packages` that are missing, as root or through sudo; `why` says what they are for.
pub fn ensure_installed(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let words = missing.join(" ");
    ensure!(is_here(), "{why} needs what Debian packages as `{words}`: install its like from your distribution");
    tool::progress(format_args!("installing Debian packages for {why}: {words}"));
    let mut install = apt_get()?;
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    if tool::succeeds(&mut install) {
        return Ok(());
    }
    refresh()?;
    tool::run(
        install.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()),
        &format!("`apt-get install {words}`, which {why} needs,"),
    )
}

/// Fetches the system's package lists.
pub fn refresh() -> Result<()> {
    tool::progress("refreshing the package lists (apt-get update)");
    // A third party's source that cannot be reached fails the update, and is none of our business.
    let _ = apt_get()?.arg("update").stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(())
}

fn apt_get() -> Result<Command> {
    let mut command = if tool::is_root() {
        Command::new("apt-get")
    } else {
        ensure!(
            tool::find("sudo").is_some(),
            "packages are missing and neither root nor sudo is here to install them: run `cargo xtask setup` as root once"
        );
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

/// The Debian mirrors that this machine is configured with: one for releases, one for security updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    release: String,
    security: String,
}

impl Mirrors {
    /// Reads the system's apt sources, both the one-line and the deb822 form.
    pub fn of_this_system() -> Result<Self> {
        let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        let mut stanzas = String::new();
        for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
            let path = entry.path();
            let content = fs::read_to_string(&path).unwrap_or_default();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => text.push_str(&format!("\n{content}")),
                Some("sources") => stanzas.push_str(&format!("\n\n{content}")),
                _ => {}
            }
        }
        Self::parse(&text, &stanzas)
            .context("this machine's apt sources name no Debian mirror, so other kernels cannot be had from Debian")
    }

    fn parse(lines: &str, stanzas: &str) -> Option<Self> {
        let mut pairs = Vec::new();
        for line in lines.lines().filter(|line| line.trim_start().starts_with("deb ")) {
            let words: Vec<&str> = line.split_whitespace().filter(|word| !word.contains(['[', ']', '='])).collect();
            if let [_, uri, suite, ..] = words[..] {
                pairs.push((uri.to_owned(), suite.to_owned()));
            }
        }
        for stanza in stanzas.split("\n\n") {
            let fields: BTreeMap<&str, &str> = stanza
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key.trim(), value.trim()))
                .collect();
            let (Some(uri), Some(suites)) = (fields.get("URIs"), fields.get("Suites")) else { continue };
            pairs.extend(suites.split_whitespace().map(|suite| ((*uri).to_owned(), suite.to_owned())));
        }
        let is_release = |suite: &str| ["bullseye", "bookworm", "trixie", "forky", "sid"].contains(&suite);
        let release = pairs.iter().find(|(_, suite)| is_release(suite))?.0.clone();
        let security =
            pairs.iter().find(|(_, suite)| suite.strip_suffix("-security").is_some_and(is_release))?.0.clone();
        Some(Self { release, security })
    }

    /// Lines of a sources.list for these suites.
    pub fn sources(&self, suites: &[&str]) -> String {
        let line = |suite: &&str| {
            let mirror = if suite.ends_with("-security") { &self.security } else { &self.release };
            format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")
        };
        suites.iter().map(line).collect()
    }
}

/// apt with lists and a cache of its own.
pub struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Fetches the lists of `suites` into `folder`, at most once a day.
    pub fn open(folder: &Path, suites: &[&str]) -> Result<Self> {
        ensure!(is_here(), "apt is not here");
        ensure!(Path::new(KEYRING).exists(), "Debian's keyring is missing: install debian-archive-keyring");
        let apt = Self { folder: folder.to_path_buf() };
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let sources = Mirrors::of_this_system()?.sources(suites);
        let list = folder.join("sources.list");
        let stamp = folder.join("fetched");
        let is_fresh = fs::read_to_string(&list).is_ok_and(|old| old == sources)
            && fs::metadata(&stamp).and_then(|metadata| metadata.modified()).is_ok_and(is_recent);
        if !is_fresh {
            fs::write(&list, &sources).with_context(|| format!("cannot write {}", list.display()))?;
            tool::progress(format_args!("fetching the package lists of {}", suites.join(", ")));
            tool::run(apt.get().args(["-qq", "update"]).stdout(Stdio::null()), "fetching Debian's package lists")?;
            fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        Ok(apt)
    }

    fn options(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let place = |option: &str, path: &str| format!("{option}={}", self.folder.join(path).display());
        command
            .current_dir(self.folder.join("cache"))
            .args(["-o", &place("Dir::Etc::sourcelist", "sources.list"), "-o", "Dir::Etc::sourceparts=/dev/null"])
            .args(["-o", &place("Dir::State::lists", "lists"), "-o", &place("Dir::Cache", "cache")])
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"]);
        command
    }

    fn get(&self) -> Command {
        self.options("apt-get")
    }

    /// Names of all packages that start with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = tool::output(self.options("apt-cache").args(["pkgnames", prefix]), "listing Debian's packages")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Downloads a package, whose signature chain apt verifies, and unpacks it into `into` without installing it.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let cache = self.folder.join("cache");
        tool::progress(format_args!("downloading {package}"));
        tool::run(self.get().args(["-qq", "download", package]), &format!("downloading {package}"))?;
        let file = downloaded(&cache, package)?;
        fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
        tool::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into), &format!("unpacking {package}"))?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
    }
}

/// Whether that moment is less than a day ago.
pub fn is_recent(moment: SystemTime) -> bool {
    moment.elapsed().is_ok_and(|age| age < LISTS_ARE_FRESH_FOR)
}

fn downloaded(cache: &Path, package: &str) -> Result<PathBuf> {
    let start = format!("{package}_");
    for entry in fs::read_dir(cache).with_context(|| format!("cannot read {}", cache.display()))? {
        let path = entry?.path();
        let name = tool::name(&path);
        if name.starts_with(&start) && name.ends_with(".deb") {
            return Ok(path);
        }
    }
    bail!("apt downloaded {package} and left no file of it in {}", cache.display())
}

/// The codename of this machine's Debian release.
pub fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let is_debian = text.lines().any(|line| line == "ID=debian");
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match name {
        Some(name) if is_debian => Ok(name.trim_matches('"').to_owned()),
        _ => bail!(
            "this machine does not run Debian, whose packages the tests in other kernels and under systemd are made of"
        ),
    }
}
