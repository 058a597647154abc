//! What the guard and the daemon tell each other: frames on a Unix stream socket, a kind, a length and so many bytes.

use std::io::{self, Read, Write};

use agent_common::wire::ExecRecord;
use zerocopy::{FromBytes, IntoBytes};

use super::{GuardOptions, GuardStatus};

/// Longer than any frame.
const MAX_LEN: u32 = 1 << 20;

/// One message.
#[derive(Debug)]
pub(super) enum Frame {
    /// Daemon to guard, first of all.
    Options(GuardOptions),
    /// Guard to daemon: it works. Sent only while it does.
    Status(GuardStatus),
    /// Guard to daemon: an indicator matched an exec.
    Hit(Box<ExecRecord>),
    /// Guard to daemon: something is wrong, in words.
    Fault(String),
}

impl Frame {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = match self {
            Self::Options(options) => (1, serde_json::to_vec(options)?),
            Self::Status(status) => (2, serde_json::to_vec(status)?),
            Self::Hit(record) => (3, record.as_bytes().to_vec()),
            Self::Fault(text) => (4, text.as_bytes().to_vec()),
        };
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(payload.len() + 5);
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&payload);
        to.write_all(&bytes)
    }

    /// The next message; an error of kind `UnexpectedEof` when the other side is gone.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("frame {kind} {what}"));
        if length > MAX_LEN {
            return Err(wrong("is too long"));
        }
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        match kind {
            1 => Ok(Self::Options(serde_json::from_slice(&payload)?)),
            2 => Ok(Self::Status(serde_json::from_slice(&payload)?)),
            3 => {
                let record = ExecRecord::read_from_bytes(&payload).map_err(|_| wrong("is no exec record"))?;
                Ok(Self::Hit(Box::new(record)))
            }
            4 => Ok(Self::Fault(String::from_utf8_lossy(&payload).into_owned())),
            _ => Err(wrong("is of no known kind")),
        }
    }
}

#[cfg(test)]
mod tests;
