//! From a value to the tag that a table is searched for.

use crate::canon::COMPONENT_WORDS;
use crate::image::SipHasher13;
use crate::image::table::tag;

/// What the keys of a generation are hashed with: random and secret, so that no publisher can frame a harmless value by a
/// collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64, pub u64);

/// Which digest of a file.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestKind {
    /// MD5, 16 bytes.
    Md5 = 1,
    /// SHA-1, 20 bytes.
    Sha1 = 2,
    /// SHA-256, 32 bytes.
    Sha256 = 3,
}

/// The tag of an IPv6 address, its halves in host order.
#[inline(always)]
#[must_use]
pub const fn ipv6_tag(seed: Seed, high: u64, low: u64) -> u64 {
    let mut hasher = SipHasher13::new(seed.0, seed.1);
    hasher.write(high);
    hasher.write(low);
    tag(hasher.finish())
}

/// The tag of an address with a port; IPv4 in its mapped form.
#[inline(always)]
#[must_use]
pub const fn endpoint_tag(seed: Seed, high: u64, low: u64, port: u16) -> u64 {
    let mut hasher = SipHasher13::new(seed.0, seed.1);
    hasher.write(high);
    hasher.write(low);
    hasher.write(port as u64);
    tag(hasher.finish())
}

/// The tag of a digest, given as its bytes in the printed order.
#[inline(always)]
#[must_use]
pub fn digest_tag<const LEN: usize>(seed: Seed, kind: DigestKind, digest: &[u8; LEN]) -> u64 {
    let mut hasher = SipHasher13::new(seed.0, seed.1);
    hasher.write(kind as u64);
    let mut word = 0_u64;
    let mut index = 0;
    while index < LEN {
        word |= (digest[index] as u64) << (index % 8 * 8);
        index += 1;
        if index % 8 == 0 || index == LEN {
            hasher.write(word);
            word = 0;
        }
    }
    tag(hasher.finish())
}

/// Hashes a path's components from leaf to root, or a domain's labels from the root down: each as its length and then its
/// bytes in little-endian words, zero-padded.
#[derive(Clone, Copy, Debug)]
pub struct NameHasher(SipHasher13);

impl NameHasher {
    /// Starts a path.
    #[inline(always)]
    #[must_use]
    pub const fn path(seed: Seed) -> Self {
        Self(SipHasher13::new(seed.0, seed.1))
    }

    /// Starts a domain.
    #[inline(always)]
    #[must_use]
    pub const fn domain(seed: Seed) -> Self {
        Self(SipHasher13::new(seed.0, seed.1))
    }

    /// Takes the length in bytes of the next component, whose words follow.
    #[inline(always)]
    pub const fn length(&mut self, bytes: u32) {
        self.0.write(bytes as u64);
    }

    /// Takes the next word of a component: as many as [`words`](Self::words) says, none for an empty one.
    #[inline(always)]
    pub const fn word(&mut self, word: u64) {
        self.0.write(word);
    }

    /// How many words a component of so many bytes has.
    #[inline(always)]
    #[must_use]
    pub const fn words(bytes: u32) -> u32 {
        bytes.wrapping_add(7) >> 3
    }

    /// Takes a component of `bytes` bytes, at most 255, that is padded with zeros.
    #[inline(always)]
    pub const fn component(&mut self, words: &[u64; COMPONENT_WORDS], bytes: u32) {
        self.length(bytes);
        let mut index = 0_u32;
        while index < COMPONENT_WORDS as u32 {
            if index >= Self::words(bytes) {
                break;
            }
            self.word(words[(index & 31) as usize]);
            index = index.wrapping_add(1);
        }
    }

    /// Passes how many bytes were taken through `same`, which returns the same number, so that the kernel's verifier does
    /// not know it and every length looks alike to it.
    #[inline(always)]
    pub fn blur(&mut self, same: impl Fn(u64) -> u64) {
        self.0.blur(same);
    }

    /// The key of what was taken; of a domain's suffix after each label.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self) -> u64 {
        tag(self.0.finish())
    }
}
