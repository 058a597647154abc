//! The hashes that keys go through: SipHash-1-3 as everybody else computes it, and keys that differ where values do.

use std::hash::{DefaultHasher, Hasher};

use agent_common::canon::component_words;
use agent_common::image::{
    DigestKind, NameHasher, Seed, SipHasher13, digest_tag, endpoint_tag, ipv4_alternate, ipv4_primary, ipv6_tag, table,
};
use proptest::prelude::*;

/// `std` documents no algorithm for this hasher, but has computed SipHash-1-3 with a zero key since it exists.
fn standard(words: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
    hasher.finish()
}

fn own(seed: Seed, words: &[u64]) -> u64 {
    let mut hasher = SipHasher13::new(seed.0, seed.1);
    words.iter().for_each(|word| hasher.write(*word));
    hasher.finish()
}

/// SipHash-1-3 of bytes, written from the paper and not for speed.
fn by_the_paper(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f6d6570736575,
        key[1] ^ 0x646f72616e646f6d,
        key[0] ^ 0x6c7967656e657261,
        key[1] ^ 0x7465646279746573,
    ];
    let round = |v: &mut [u64; 4]| {
        for (a, b, turn) in [(0, 1, 13), (2, 3, 16)] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(turn) ^ v[a];
        }
        v[0] = v[0].rotate_left(32);
        for (a, b, turn) in [(2, 1, 17), (0, 3, 21)] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(turn) ^ v[a];
        }
        v[2] = v[2].rotate_left(32);
    };
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() / 8 * 8 + 7, 0);
    padded.push(bytes.len() as u8);
    for chunk in padded.chunks(8) {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    v.iter().fold(0, |all, word| all ^ word)
}

proptest! {
    #[test]
    fn siphash_is_what_std_computes(words in prop::collection::vec(any::<u64>(), 0..40)) {
        prop_assert_eq!(own(Seed(0, 0), &words), standard(&words));
    }

    #[test]
    fn siphash_is_what_the_paper_says(key: [u64; 2], words in prop::collection::vec(any::<u64>(), 0..40)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        prop_assert_eq!(own(Seed(key[0], key[1]), &words), by_the_paper(key, &bytes));
    }

    #[test]
    fn both_choices_lie_in_the_table_and_differ(hash: u64, blocks in 1_u32..) {
        let tag = table::tag(hash);
        for (first, second) in [
            (table::primary(tag, blocks), table::alternate(tag, blocks)),
            (ipv4_primary(hash, blocks), ipv4_alternate(hash, blocks)),
        ] {
            prop_assert!(first < blocks && second < blocks);
            prop_assert_eq!(first == second, blocks == 1);
        }
        prop_assert!(tag != 0 && tag & table::MOVED == 0);
    }

    #[test]
    fn a_component_is_its_length_and_its_words(bytes in prop::collection::vec(any::<u8>(), 0..=255), seed: (u64, u64)) {
        let seed = Seed(seed.0, seed.1);
        let words = component_words(&bytes);
        let mut whole = NameHasher::path(seed);
        whole.component(&words, bytes.len() as u32);
        let mut parts = NameHasher::path(seed);
        parts.length(bytes.len() as u32);
        let count = NameHasher::words(bytes.len() as u32) as usize;
        words.iter().take(count).for_each(|word| parts.word(*word));
        prop_assert_eq!(whole.key(), parts.key());
        let mut longer = NameHasher::path(seed);
        longer.component(&words, bytes.len() as u32 + 1);
        prop_assert_ne!(whole.key(), longer.key());
    }
}

#[test]
fn a_published_vector() {
    // Key 00 01 … 0f, no message: the first vector that implementations are tested with.
    let key = Seed(u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]), u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]));
    let empty = u64::from_le_bytes([0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab]);
    assert_eq!(own(key, &[]), empty);
}

#[test]
fn keys_differ_where_values_do() {
    let seed = Seed(1, 2);
    let mut keys = vec![
        ipv6_tag(seed, 1, 2),
        ipv6_tag(seed, 2, 1),
        endpoint_tag(seed, 1, 2, 0),
        endpoint_tag(seed, 1, 2, 443),
        digest_tag(seed, DigestKind::Md5, &[0; 16]),
        digest_tag(seed, DigestKind::Sha1, &[0; 20]),
        digest_tag(seed, DigestKind::Sha256, &[0; 32]),
        digest_tag(Seed(1, 3), DigestKind::Sha256, &[0; 32]),
    ];
    keys.extend((0..32).map(|byte| {
        let mut digest = [0_u8; 32];
        if let Some(byte) = digest.get_mut(byte) {
            *byte = 1;
        }
        digest_tag(seed, DigestKind::Sha256, &digest)
    }));
    keys.extend([["ab", "c"], ["a", "bc"], ["c", "ab"]].map(|parts| {
        let mut hasher = NameHasher::path(seed);
        parts.iter().for_each(|part| hasher.component(&component_words(part.as_bytes()), part.len() as u32));
        hasher.key()
    }));
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}
