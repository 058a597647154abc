//! The same records as JSON lines in a file, for log shippers: size-rotated, one `write(2)` per batch of whole lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the mirror is, and how large it may get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorSettings {
    /// The file; older ones are `<file>.1`, `<file>.2`, ….
    pub path: PathBuf,
    /// Bytes at which the file becomes `<file>.1`. A batch is never split, so a file may be larger by one batch.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
    /// How many older files are kept; 0 for none.
    #[serde(default = "default_keep")]
    pub keep: u32,
}

const fn default_max_bytes() -> u64 {
    64 << 20
}

const fn default_keep() -> u32 {
    3
}

/// The file, open for appending.
pub(super) struct Mirror {
    settings: MirrorSettings,
    file: Option<File>,
}

impl Mirror {
    pub(super) fn new(settings: MirrorSettings) -> Self {
        Self { settings, file: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Appends whole lines. After an error the file is opened anew the next time.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let result = self.try_write(lines);
        if result.is_err() {
            self.file = None;
        }
        result
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|file| !self.is_at_path(file)) {
            self.file = None;
        }
        let length = match &self.file {
            Some(file) => file.metadata()?.len(),
            None => self.open()?,
        };
        if length > 0 && length + lines.len() as u64 > self.settings.max_bytes {
            self.rotate()?;
            self.open()?;
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines))
    }

    /// Whether the path still leads to the open file; somebody else may rotate it too.
    fn is_at_path(&self, file: &File) -> bool {
        match (file.metadata(), fs::metadata(&self.settings.path)) {
            (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    /// Opens the file and returns its length. A last line cut by a crash is ended, so that it spoils no other.
    fn open(&mut self) -> io::Result<u64> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(&self.settings.path)?;
        let mut length = file.metadata()?.len();
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        self.file = Some(file);
        Ok(length)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let numbered = |number: u32| {
            let mut name = self.settings.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.settings.keep == 0 {
            return fs::remove_file(&self.settings.path);
        }
        for number in (1..self.settings.keep).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.settings.path, numbered(1))
    }
}
