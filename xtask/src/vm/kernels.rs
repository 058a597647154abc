//! Debian's kernels: the newest package of a series, fetched through private apt lists and kept for a day.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::{self, PrivateApt};
use crate::tool;

#[cfg(test)]
mod tests;

/// Series and the suite that has it. Newer series move from suite to suite: what is gone says so by name.
const SERIES: [(&str, &str); 5] = [
    ("5.10", "bullseye-security"),
    ("6.1", "bookworm-security"),
    ("6.12", "bookworm-security"),
    ("6.18", "trixie-backports"),
    ("7.3", "trixie-backports"),
];

/// The names of all series.
pub const NAMES: [&str; SERIES.len()] = {
    let [a, b, c, d, e] = SERIES;
    [a.0, b.0, c.0, d.0, e.0]
};

/// The processor that QEMU is to emulate. The long-term kernels died now and then behind a cmpxchg16b; 7.3 allocates no storage of
/// sockets without one (`kmalloc_nolock`), so that no hook remembers anything of them.
pub fn cpu(series: &str) -> &'static str {
    if series.starts_with("7.") { "max" } else { "max,-cx16" }
}

/// What Debian builds as modules and the tests need, in the order in which it loads: which sockets there are, SCTP, overlayfs.
const MODULES: [&str; 9] = [
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "crc32c_generic",
    "libcrc32c",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "sctp",
    "overlay",
];

/// A kernel ready to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The bzImage.
    pub image: PathBuf,
    /// A folder of those of [`MODULES`] that are not built in, numbered.
    pub modules: PathBuf,
    /// The package that it came from.
    pub package: String,
}

/// Finds the newest kernel of `series`, downloading it when there is none of today.
pub fn obtain(folder: &Path, series: &str) -> Result<Kernel> {
    let known = NAMES.join(", ");
    let Some((_, suite)) = SERIES.iter().find(|(known, _)| *known == series) else {
        bail!("no kernel series `{series}`: there are {known}");
    };
    let place = folder.join(series);
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let (image, modules, note) = (place.join("vmlinuz"), place.join("modules"), place.join("package"));
    // Of the package and what is kept of it.
    let noted = |package: &str| format!("{package} {}", MODULES.join(" "));
    let cached = fs::read_to_string(&note).ok().filter(|_| image.exists() && modules.exists());
    let cached = cached.and_then(|text| {
        let package = text.split(' ').next().unwrap_or_default().to_owned();
        (text == noted(&package)).then_some(package)
    });
    let kernel = |package| Kernel { image: image.clone(), modules: modules.clone(), package };
    let is_fresh = fs::metadata(&note).and_then(|metadata| metadata.modified()).is_ok_and(debian::is_recent);
    if let (Some(package), true) = (&cached, is_fresh) {
        return Ok(kernel(package.clone()));
    }
    match fetch(folder, suite, series, cached.as_deref()) {
        Ok(package) => {
            fs::write(&note, noted(&package)).with_context(|| format!("cannot write {}", note.display()))?;
            Ok(kernel(package))
        }
        // Without a network, yesterday's kernel is as good.
        Err(error) => match cached {
            Some(package) => {
                tool::progress(format_args!("no newer {series} kernel to be had ({error:#}); taking {package}"));
                Ok(kernel(package))
            }
            None => Err(error),
        },
    }
}

fn fetch(folder: &Path, suite: &str, series: &str, cached: Option<&str>) -> Result<String> {
    let apt = PrivateApt::open(&folder.join("apt").join(suite), &[suite])?;
    let mut names = apt.names(&format!("linux-image-{series}"))?;
    names.extend(apt.names(&format!("linux-binary-{series}"))?);
    let package = newest(&names, series).with_context(|| format!("{suite} has no cloud kernel {series} any more"))?;
    if cached == Some(package) {
        return Ok(package.to_owned());
    }
    let place = folder.join(series);
    let unpacked = place.join("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))?;
    }
    apt.unpack(package, &unpacked)?;
    let found = tool::find_file(&unpacked, |name| name.starts_with("vmlinuz"))?
        .with_context(|| format!("{package} holds no vmlinuz"))?;
    keep_modules(&unpacked, &place.join("modules"))?;
    fs::copy(&found, place.join("vmlinuz")).with_context(|| format!("cannot copy {}", found.display()))?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))?;
    Ok(package.to_owned())
}

/// Keeps [`MODULES`] of a package: an initramfs needs no others.
fn keep_modules(unpacked: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (number, module) in MODULES.iter().enumerate() {
        let (plain, packed) = (format!("{module}.ko"), format!("{module}.ko.xz"));
        // One that is not there is built in, or a test says that it is missing.
        let Some(found) = tool::find_file(unpacked, |name| name == plain || name == packed)? else { continue };
        if found.extension().is_some_and(|extension| extension == "xz") {
            tool::run(Command::new("xz").args(["--decompress", "--force"]).arg(&found), "unpacking a kernel module")?;
        }
        let kept = folder.join(format!("{number}-{plain}"));
        fs::copy(found.with_file_name(&plain), &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    }
    Ok(())
}

/// The newest by number. Since 6.19 the image is in `linux-binary-…` and `linux-image-…` is empty; unsigned packages
/// vanish from the archive before the signed ones of the same number.
fn newest<'a>(names: &'a [String], series: &str) -> Option<&'a str> {
    let rank = |name: &str| (numbers(name), name.starts_with("linux-binary-"), !name.ends_with("-unsigned"));
    names
        .iter()
        .map(String::as_str)
        .filter(|name| name.contains("-cloud-amd64") && !name.ends_with("-dbg"))
        .filter(|name| {
            let version = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"));
            version.and_then(|version| version.strip_prefix(series)).is_some_and(|rest| rest.starts_with('.'))
        })
        .max_by_key(|name| rank(name))
}

/// The numbers of a package's version, architecture and suite left out.
fn numbers(name: &str) -> Vec<u32> {
    let version = name.split("-cloud-").next().unwrap_or(name);
    version.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
