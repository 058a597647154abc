//! The intelligence of the demonstration: the bundle that comes with Cordon, or a copy of somebody's real files, with the
//! digest of the harmless program added to it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

#[cfg(test)]
mod tests;

const EXAMPLE: &str = include_str!("../../../agent/src/intel/example.json");
const EXAMPLE_NAME: &str = "example";
/// The digest of no file, which the example names as the implant's.
const EXAMPLE_DIGEST: &str = "5f2d7c0e9a4b186d3c8e1f7052b9a6d4e8c3075b1d9f4a62e70c8b35d1f69a2e";
/// How many addresses are put on `lo` and tried in turn: some of a real list may be expired or on the never-block list.
const CANDIDATES: usize = 32;
/// Files above this are not searched for addresses; they are loaded all the same.
const SEARCHED_BYTES: u64 = 4 << 20;

/// What the agent is given, and what to try on it.
#[derive(Debug)]
pub struct Intelligence {
    /// The source's name in the settings.
    pub name: String,
    /// The copy.
    pub place: PathBuf,
    /// Addresses that it names, for trying.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether its addresses are reserved ones.
    pub is_example: bool,
}

/// Copies `from`, or the example, into `into`, and adds `digest` to it.
pub fn prepare(from: Option<&Path>, into: &Path, digest: &str) -> Result<Intelligence> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    match from {
        None => example(into, digest),
        Some(from) => copy_of(from, into, digest),
    }
}

fn example(into: &Path, digest: &str) -> Result<Intelligence> {
    ensure!(EXAMPLE.contains(EXAMPLE_DIGEST), "the example names no implant any more");
    let place = into.join(format!("{EXAMPLE_NAME}.json"));
    fs::write(&place, EXAMPLE.replace(EXAMPLE_DIGEST, digest))
        .with_context(|| format!("cannot write {}", place.display()))?;
    let addresses = addresses(EXAMPLE, |_| true);
    Ok(Intelligence { name: EXAMPLE_NAME.to_owned(), place, addresses, is_example: true })
}

fn copy_of(from: &Path, into: &Path, digest: &str) -> Result<Intelligence> {
    let stem = from.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String =
        stem.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '-').collect();
    let name = if name.is_empty() { "intelligence".to_owned() } else { name };
    let place = into.join(from.file_name().context("--intel names no file or folder")?);
    let mut files = Vec::new();
    copy(from, &place, &mut files)?;
    files.sort();
    let mut found = Vec::new();
    let mut list = None;
    for file in &files {
        if fs::metadata(file).is_ok_and(|metadata| metadata.len() > SEARCHED_BYTES) {
            continue;
        }
        let Ok(text) = fs::read_to_string(file) else { continue };
        let addresses = addresses(&text, is_public);
        let is_list = !file.extension().is_some_and(|extension| extension == "json" || extension == "csv");
        if is_list && list.is_none() && !addresses.is_empty() && text.lines().any(is_digest) {
            list = Some(file.clone());
            // The addresses of the list that gets the digest come first: the two records then name the same report.
            found.splice(0..0, addresses);
        } else {
            found.extend(addresses);
        }
    }
    let mut tried = Vec::new();
    found.retain(|address| !tried.contains(address) && (tried.push(*address), true).1);
    found.truncate(CANDIDATES);
    if found.is_empty() {
        bail!("{} names no public IPv4 address to show a blocked connect with", from.display());
    }
    add_digest(list, &place, into, digest)?;
    Ok(Intelligence { name, place, addresses: found, is_example: false })
}

/// Appended to a list that has digests already; a bundle cannot be appended to, so it gets a list beside it.
fn add_digest(list: Option<PathBuf>, place: &Path, into: &Path, digest: &str) -> Result<()> {
    let list = list.unwrap_or_else(|| {
        if place.is_dir() { place.join("demonstration.txt") } else { into.join("demonstration.txt") }
    });
    let mut text = fs::read_to_string(&list).unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(digest);
    text.push('\n');
    fs::write(&list, text).with_context(|| format!("cannot write {}", list.display()))
}

fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !from.is_dir() {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))?;
        files.push(to.to_path_buf());
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()), files)?;
    }
    Ok(())
}

fn is_digest(line: &str) -> bool {
    let line = line.trim();
    line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// IPv4 addresses in a text, defanged or not, in order. A guess that the agent's own verdict then confirms or not.
fn addresses(text: &str, wanted: impl Fn(&Ipv4Addr) -> bool) -> Vec<Ipv4Addr> {
    text.replace("[.]", ".")
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '.' && character != '/')
        .filter_map(|word| word.parse().ok())
        .filter(wanted)
        .collect()
}

fn is_public(address: &Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_broadcast()
        || first == 0
        || first >= 224)
}
