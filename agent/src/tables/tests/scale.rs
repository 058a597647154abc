//! Larger sets: tables that are 90 % full, images that are dense, and what they cost.

use std::collections::HashSet;

use agent_common::image::{self, Action as Said, Seed, SipHasher13};

use super::{SEED, ruled, tables};
use crate::intel::Observable;
use crate::policy::Action;
use crate::tables::AddressCompilation;

/// Numbers that look random and are the same every time.
fn numbers(stream: u64) -> impl Iterator<Item = u64> {
    (0_u64..).map(move |index| {
        let mut hasher = SipHasher13::new(stream, 42);
        hasher.write(index);
        hasher.finish()
    })
}

#[test]
fn twenty_thousand_addresses_are_found_and_no_others() {
    let addresses: HashSet<u32> = numbers(1).map(|number| number as u32).take(20_000).collect();
    let compilation = AddressCompilation::new(addresses.iter().copied().collect(), 3, SEED).unwrap();
    let bytes = compilation.blocks() * 64;
    assert!(bytes < 1_900_000, "{bytes} bytes");
    let mut image = vec![[u64::MAX; 8]; compilation.blocks()];
    compilation.write(&mut image).unwrap();
    for address in &addresses {
        let hit = image::ipv4(image.as_slice(), *address, 1).unwrap().expect("a hit");
        assert_eq!(hit.action, Said::Block);
    }
    let near = addresses.iter().map(|address| address ^ 1).chain(numbers(2).map(|number| number as u32).take(20_000));
    for address in near.filter(|address| !addresses.contains(address)) {
        assert_eq!(image::ipv4(image.as_slice(), address, 1), Ok(None));
    }
}

#[test]
fn entries_of_a_dense_image_are_distinct() {
    let count = 300_000_u32;
    let addresses: Vec<u32> = (0..count).map(|index| index.wrapping_mul(0x9e37_79b1)).collect();
    let compilation = AddressCompilation::new(addresses.clone(), 3, Seed(1, 2)).unwrap();
    let mut image = vec![[0; 8]; compilation.blocks()];
    compilation.write(&mut image).unwrap();
    // Almost every /17 is in use, so there is no directory: 8 MiB of tops and 4.5 bytes each.
    let bytes = image.len() * 64;
    assert!(bytes < (8 << 20) + 5 * count as usize, "{bytes} bytes");
    let entries: HashSet<u32> = addresses
        .iter()
        .map(|address| image::ipv4(image.as_slice(), *address, 1).unwrap().expect("a hit").entry)
        .collect();
    assert_eq!(entries.len(), addresses.len());
}

#[test]
fn full_tables_find_all_of_theirs_and_name_them() {
    let digests: Vec<[u8; 32]> = numbers(3)
        .take(10_000)
        .map(|number| std::array::from_fn(|index| (number >> (index % 8 * 8)) as u8 ^ index as u8))
        .collect();
    // Expiries that are all different, so that classes need four bytes' worth of numbers.
    let rules = digests
        .iter()
        .zip(100_u32..)
        .map(|(digest, expires)| ruled(Observable::Sha256(*digest), "talos", Action::Block, expires));
    let tables = tables(rules.collect(), Vec::new());
    for (digest, expires) in digests.iter().zip(100_u32..) {
        let hit = image::sha256(tables.image.as_slice(), digest, expires - 1).unwrap().expect("a hit");
        let found = tables.provenance.get(hit.entry).unwrap().unwrap();
        let primary = found.primary();
        assert_eq!(primary.observable, Observable::Sha256(*digest));
        assert_eq!(image::sha256(tables.image.as_slice(), digest, expires), Ok(None));
        let mut other = *digest;
        other[31] ^= 1;
        assert_eq!(image::sha256(tables.image.as_slice(), &other, 1), Ok(None));
    }
    let bytes = tables.summary.tables.iter().find(|table| table.table == "digest").map(|table| table.bytes);
    assert!(bytes.is_some_and(|bytes| bytes < 9 * 10_000), "{bytes:?}");
}

#[test]
fn addresses_with_the_unspecified_one_among_them() {
    let compilation = AddressCompilation::new(vec![256, 0, 7, 7, 255], 1, SEED).unwrap();
    let mut image = vec![[0; 8]; compilation.blocks()];
    compilation.write(&mut image).unwrap();
    for address in [0, 7, 255, 256] {
        assert!(image::ipv4(image.as_slice(), address, 1).unwrap().is_some(), "{address}");
    }
    for address in [1, 6, 8, 254, 257, u32::MAX] {
        assert_eq!(image::ipv4(image.as_slice(), address, 1), Ok(None), "{address}");
    }
}
