//! Files and directories on disk, with caps.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::intel::parse::{self, Fault, MAX_JSON_BYTES, Opened, ParseError, Parsed, Reading, SNIFF_BYTES};

/// Directories below a source's; deeper ones are refused.
pub const MAX_DEPTH: usize = 16;
/// Files of one directory source.
pub const MAX_FILES: usize = 100_000;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The kernel refused it.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// A pipe, device or socket.
    #[error("{0}: neither a file nor a directory")]
    Kind(String),
    /// A symbolic link that leads out of the directory.
    #[error("{0}: a symbolic link out of the directory is not followed; copy the file")]
    LeadsOut(String),
    /// Too deep, or too many.
    #[error("{path}: more than {limit} {what} below it")]
    TooMany {
        /// The directory.
        path: String,
        /// How many are accepted.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// The content.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_string_lossy().into_owned();
    move |error| FileError::Io { path, error }
}

/// Whether a source's path is a directory.
pub(super) fn is_directory(path: &Path) -> Result<bool, FileError> {
    Ok(fs::metadata(path).map_err(failed(path))?.is_dir())
}

/// Editors' and package managers' leavings, and what is hidden.
fn is_ignored(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || name.ends_with(".swp") || name.ends_with(".tmp")
}

/// What is below a directory.
#[derive(Default)]
pub(super) struct Below {
    /// Files, in the order of their paths.
    pub(super) files: Vec<PathBuf>,
    /// Symbolic links that lead out of it, which are not followed.
    pub(super) leads_out: Vec<PathBuf>,
}

/// Walks a directory. A symbolic link is followed to a file inside it only, and only if that is not found otherwise.
pub(super) fn below(root: &Path) -> Result<Below, FileError> {
    let inside = root.canonicalize().map_err(failed(root))?;
    let too_many = |limit, what| FileError::TooMany { path: root.to_string_lossy().into_owned(), limit, what };
    let mut found = Below::default();
    let mut links = Vec::new();
    let mut waiting = vec![(root.to_path_buf(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        if depth > MAX_DEPTH {
            return Err(too_many(MAX_DEPTH, "levels"));
        }
        for entry in fs::read_dir(&directory).map_err(failed(&directory))? {
            let entry = entry.map_err(failed(&directory))?;
            let path = entry.path();
            if is_ignored(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let kind = entry.file_type().map_err(failed(&path))?;
            if kind.is_dir() {
                waiting.push((path, depth + 1));
            } else if kind.is_symlink() {
                match path.canonicalize() {
                    Ok(target) if target.starts_with(&inside) => links.push((path, target)),
                    _ => found.leads_out.push(path),
                }
            } else {
                found.files.push(path);
            }
            if found.files.len() + found.leads_out.len() + links.len() > MAX_FILES {
                return Err(too_many(MAX_FILES, "files"));
            }
        }
    }
    let mut known: HashSet<PathBuf> =
        found.files.iter().filter_map(|file| file.strip_prefix(root).ok()).map(|file| inside.join(file)).collect();
    for (path, target) in links {
        if target.is_file() && known.insert(target) {
            found.files.push(path);
        }
    }
    found.files.sort();
    found.leads_out.sort();
    Ok(found)
}

/// Reads one file; what it holds says that it comes from `name`.
///
/// # Errors
/// What the kernel says, or what is wrong with the content, with line and column.
pub fn read(path: &Path, name: &Path, reading: &Reading) -> Result<Parsed, FileError> {
    // Asked before opening: opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed(path))?;
    if !metadata.is_file() {
        return Err(FileError::Kind(path.to_string_lossy().into_owned()));
    }
    let name = super::display(name);
    let mut file = File::open(path).map_err(failed(path))?;
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    file.by_ref().take(SNIFF_BYTES as u64).read_to_end(&mut head).map_err(failed(path))?;
    match parse::open(reading, &name, &head)? {
        Opened::Json => {
            if metadata.len() > MAX_JSON_BYTES {
                return Err(ParseError { file: name, line: 1, column: 1, fault: Fault::TooLarge }.into());
            }
            // The file may grow while it is read.
            let rest = MAX_JSON_BYTES + 1 - head.len() as u64;
            // One byte more, in which reading finds the end.
            head.reserve_exact((metadata.len() + 1).saturating_sub(head.len() as u64) as usize);
            file.take(rest).read_to_end(&mut head).map_err(failed(path))?;
            if head.len() as u64 > MAX_JSON_BYTES {
                return Err(ParseError { file: name, line: 1, column: 1, fault: Fault::TooLarge }.into());
            }
            Ok(parse::json(reading, &name, &head)?)
        }
        Opened::Text(mut text) => {
            text.push(&head)?;
            let mut piece = vec![0; SNIFF_BYTES];
            loop {
                let length = match file.read(&mut piece) {
                    Ok(0) => return Ok(text.finish()?),
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(failed(path)(error)),
                };
                text.push(piece.get(..length).unwrap_or_default())?;
            }
        }
    }
}
