//! The records of DNS responses: every kind of owner, every cut, and anything at all.

use agent_common::stream::ResponseWalk;
use agent_common::stream::response::{A, AAAA, Data};
use proptest::prelude::*;

const CNAME: u16 = 5;
const TXT: u16 = 16;

struct Read {
    data: Vec<Data>,
    aliases: u64,
    is_whole: bool,
}

fn walk(octets: &[u8], at: u32, count: u16) -> Read {
    let mut walk = ResponseWalk::new(octets, at, count);
    let mut data = Vec::new();
    for _ in 0..ResponseWalk::STEPS {
        let go_on = walk.step(octets);
        data.extend(walk.data());
        if !go_on {
            break;
        }
    }
    Read { data, aliases: walk.aliases(), is_whole: walk.is_whole() }
}

/// A record, and where its data begins in it.
fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    let head = [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes()].concat();
    [head.as_slice(), data].concat()
}

const POINTER: &[u8] = &[0xc0, 12];

#[test]
fn records_of_every_owner_are_passed_and_aliases_kept() {
    let records = [
        record(POINTER, CNAME, 300, b"\x01a\x07example\0"),
        record(b"\x01a\x07example\0", TXT, 7, b"\x02hi"),
        record(b"\x01a\xc0\x0c", A, 60, &[192, 0, 2, 1]),
        record(&[0], AAAA, u32::MAX, &[1; 16]),
    ];
    let octets = records.concat();
    let read = walk(&octets, 0, 4);
    let kinds: Vec<(u16, u32, u16)> = read.data.iter().map(|data| (data.kind, data.ttl, data.length)).collect();
    assert_eq!(kinds, [(CNAME, 300, 11), (TXT, 7, 3), (A, 60, 4), (AAAA, u32::MAX, 16)]);
    let address = read.data[2].at as usize;
    assert_eq!(&octets[address..address + 4], [192, 0, 2, 1]);
    assert_eq!((read.aliases, read.is_whole), (12, true));
}

#[test]
fn what_is_not_read_is_said() {
    let alias = record(POINTER, CNAME, 1, b"\x01b\0");
    assert!(walk(&[], 0, 0).is_whole);
    assert!(!walk(&alias, 0, 2).is_whole, "a record is missing");
    assert!(walk(&alias.repeat(4), 0, 4).is_whole);
    let chain = walk(&alias.repeat(5), 0, 5);
    assert!(!chain.is_whole, "more aliases than are kept");
    assert_eq!(chain.aliases & 0xffff, 4 * alias.len() as u64 + 12);
    assert!(!walk(&record(&[0x40], A, 1, &[0; 4]), 0, 1).is_whole, "a length of no known kind");
    let many = record(POINTER, A, 1, &[0; 4]);
    assert!(walk(&many.repeat(64), 0, 64).is_whole);
    assert!(!walk(&many.repeat(65), 0, 65).is_whole);
}

proptest! {
    #[test]
    fn any_octets_are_walked_through(octets in prop::collection::vec(any::<u8>(), 0..600), at in 0_u32..700, count in any::<u16>()) {
        let read = walk(&octets, at, count);
        prop_assert!(read.data.iter().all(|data| data.at as usize >= 11));
        prop_assert!(read.data.len() <= ResponseWalk::STEPS as usize);
    }

    #[test]
    fn what_was_written_is_read(records in prop::collection::vec((prop::collection::vec(1_u8..64, 0..3), any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..16)) {
        let mut octets = vec![0; 12];
        let mut expected = Vec::new();
        for (labels, kind, ttl, data) in &records {
            let owner: Vec<u8> = labels.iter().flat_map(|length| [vec![*length], vec![b'x'; usize::from(*length)]].concat()).chain([0]).collect();
            octets.extend(record(&owner, *kind, *ttl, data));
            expected.push(Data { kind: *kind, ttl: *ttl, at: (octets.len() - data.len()) as u32, length: data.len() as u16 });
        }
        prop_assert_eq!(walk(&octets, 12, records.len() as u16).data, expected);
    }
}
