//! Changes made to the hand-written feeds: whatever comes of it is read or refused, never a panic, and each item counts once.

use std::sync::Arc;

use agent::intel::parse::{self, Opened, Parsed, Reading, ToIds};
use agent::intel::source::MAX_DEPTH;

use agent::policy::{Rules, Supply, rule};

use super::*;

/// How many changed files.
const COUNT: usize = 6000;

fn feeds() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/feeds"), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && depth < MAX_DEPTH {
                waiting.push((path, depth + 1));
            } else if path.file_name().unwrap() != "expected.json" {
                found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap()
    }
}

fn changed(bytes: &[u8], others: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 28] = [
        b"\"",
        b"'",
        b",",
        b"\n",
        b"\r\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"\\u0000",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"#",
        b";",
        b"\t",
        b"add x ",
        b"create x hash:net\n",
        b" nomatch",
        b"::/0",
        b"xn--",
        b"\xe2\x80\xae",
        b"|",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len() + 1);
        match random.below(4) {
            0 if place < bytes.len() => {
                let end = (place + 1 + random.below(20)).min(bytes.len());
                bytes.drain(place..end);
            }
            1 if place < bytes.len() => bytes[place] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let other = &others[random.below(others.len())].1;
                let start = random.below(other.len());
                let end = (start + 1 + random.below(60)).min(other.len());
                bytes.splice(place..place, other[start..end].iter().copied());
            }
            _ => {
                bytes.splice(place..place, PIECES[random.below(PIECES.len())].iter().copied());
            }
        }
    }
    bytes
}

fn what(parsed: &Parsed) -> (Vec<Vec<Observable>>, u64) {
    (parsed.indicators.iter().map(|indicator| indicator.observables).collect(), parsed.read)
}

#[test]
fn a_changed_feed_is_read_or_refused_and_each_item_counts_once() {
    let feeds = feeds();
    assert!(feeds.len() > 15);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0, 0);
    for number in 0..COUNT {
        let (name, bytes) = &feeds[number % feeds.len()];
        let bytes = changed(bytes, &feeds, &mut random);
        let to_ids = if number % 2 == 0 { ToIds::Honour } else { ToIds::Ignore };
        let reading = Reading { to_ids, ..Reading::default() };
        let file: Arc<str> = Arc::from(name.as_str());
        let Ok(mut parsed) = parse::parse(&reading, &file, &bytes) else {
            refused += 1;
            continue;
        };
        read += 1;
        let counted = (parsed.indicators.len() + parsed.skipped.len()) as u64;
        assert_eq!(parsed.read, counted, "{name}: {}", String::from_utf8_lossy(&bytes));
        assert!(parsed.indicators.iter().all(|indicator| !indicator.observables.is_empty()));
        if let Ok(Opened::Text(mut text)) = parse::open(&reading, &file, &bytes) {
            // The first piece holds a byte order mark whole, as a file's does.
            bytes.chunks(3 + random.below(40)).for_each(|piece| text.push(piece).unwrap());
            let pieces = text.finish().unwrap();
            assert_eq!(what(&pieces), what(&parsed), "{name}: {}", String::from_utf8_lossy(&bytes));
        }
        let source = Source { allow_reserved: true, ..Source::new("changed", name) };
        let indicators = Arc::new(std::mem::take(&mut parsed.indicators));
        let supply = Supply::new(&source, &indicators);
        let ruling = rule(&[supply], &Rules::default(), REFERENCE.parse().unwrap());
        let outcome = ruling.outcome;
        assert_eq!(outcome.block + outcome.report + outcome.skipped, indicators.len() as u64);
    }
    println!("{read} read, {refused} refused");
    assert!(read > COUNT / 10 && refused > COUNT / 10, "the changes are of one kind: {read} read, {refused} refused");
}
