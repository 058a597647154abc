//! The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3).

use crate::image::Octets;
use crate::stream::Named;

/// `ContentType.handshake` and `HandshakeType.client_hello`.
const HANDSHAKE: u64 = 22;
const CLIENT_HELLO: u64 = 1;
/// Octets of the record and handshake headers, the version and the random.
const SESSION_ID: u32 = 5 + 4 + 2 + 32;
/// `ExtensionType.server_name`, and `encrypted_client_hello` (RFC 9849).
const SERVER_NAME: u64 = 0;
const ENCRYPTED_CLIENT_HELLO: u64 = 0xfe0d;
/// Octets of a `ServerNameList` before the name: the list's length, `NameType.host_name`, the name's length.
const BEFORE_NAME: u64 = 5;

/// The way through the extensions. What it does not know (RFC 8701) it goes past.
#[derive(Clone, Copy, Debug)]
pub struct HelloWalk {
    at: u64,
    end: u64,
    name_at: u64,
    name_length: u64,
    encrypted: u64,
    unread: u64,
}

#[inline(always)]
fn be16(word: u64) -> u64 {
    (word & 0xff) << 8 | word >> 8 & 0xff
}

#[inline(always)]
fn be24(word: u64) -> u64 {
    (word & 0xff) << 16 | be16(word >> 8)
}

impl HelloWalk {
    /// Extensions that are gone past: browsers send a score.
    pub const STEPS: u32 = 64;

    /// Starts at the first extension; `None` where the octets do not begin with a ClientHello. One that ends before its
    /// extensions is unread.
    #[inline(always)]
    pub fn new<O: Octets + ?Sized>(octets: &O) -> Option<Self> {
        let head = octets.word(0, 6)?;
        if head & 0xffff != HANDSHAKE | 3 << 8 || head >> 40 != CLIENT_HELLO {
            return None;
        }
        let mut walk = Self { at: 0, end: 0, name_at: 0, name_length: 0, encrypted: 0, unread: 1 };
        if let Some((at, end)) = Self::extensions(octets) {
            (walk.at, walk.end, walk.unread) = (at, end, 0);
        }
        for field in [&mut walk.name_at, &mut walk.name_length, &mut walk.encrypted, &mut walk.unread] {
            *field = octets.blurred(*field);
        }
        Some(walk)
    }

    /// Whether the octets end before it is clear that a ClientHello begins with them.
    #[inline(always)]
    pub fn is_begun<O: Octets + ?Sized>(octets: &O) -> bool {
        octets.word(0, 1) == Some(HANDSHAKE) && octets.word(0, 6).is_none()
    }

    #[inline(always)]
    fn extensions<O: Octets + ?Sized>(octets: &O) -> Option<(u64, u64)> {
        let (record, hello) = (be16(octets.word(3, 2)?), be24(octets.word(6, 3)?));
        // The rest is in further records (RFC 8446 §5.1): the headers of these are in between.
        if hello + 4 > record {
            return None;
        }
        let session_id = octets.word(SESSION_ID, 1)?;
        let cipher_suites = u64::from(SESSION_ID) + 1 + session_id;
        let compression = cipher_suites + 2 + be16(octets.word(cipher_suites as u32, 2)?);
        let extensions = compression + 1 + octets.word(compression as u32, 1)?;
        let at = extensions + 2;
        Some((at, at + be16(octets.word(extensions as u32, 2)?)))
    }

    /// Goes past one extension; whether to go on.
    #[inline(always)]
    pub fn step<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        if self.at >= self.end {
            return false;
        }
        let Some(header) = octets.word(self.at as u32, 4) else {
            self.unread = 1;
            return false;
        };
        let (kind, length) = (be16(header), be16(header >> 16));
        let content = self.at.wrapping_add(4);
        if kind == ENCRYPTED_CLIENT_HELLO {
            self.encrypted = 1;
        }
        if kind == SERVER_NAME && length > BEFORE_NAME {
            let Some(before) = octets.word(content as u32, BEFORE_NAME as u32) else {
                self.unread = 1;
                return false;
            };
            self.name_at = octets.blurred(content.wrapping_add(BEFORE_NAME));
            self.name_length = octets.blurred(be16(before >> 24));
        }
        self.at = octets.blurred(content.wrapping_add(length)) & 0xf_ffff;
        true
    }

    /// Whether the name that counts is hidden in an encrypted hello; the one that is seen is its provider's.
    #[inline(always)]
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted != 0
    }

    /// What was found on the way.
    #[inline(always)]
    #[must_use]
    pub const fn finish(&self) -> Named {
        if self.name_length != 0 {
            Named::Text { at: self.name_at as u32, length: self.name_length as u32 }
        } else if self.unread != 0 {
            Named::Unread
        } else {
            Named::Nothing
        }
    }
}
