//! Bundles of a size that nobody publishes: they cost in proportion, and everything in them is counted.

use std::fmt::Write as _;
use std::time::Duration;

use agent::intel::parse::{Parsed, Reading, parse};
use agent::policy::{Rules, Supply, rule};
use agent::tables::{Bearing, Tables, compile, look_up};
use agent_common::image::Seed;
use rustix::time::{ClockId, clock_gettime};

use super::*;

/// CPU time of this thread: other tests run beside it.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = thread_time();
    let done = work();
    (done, thread_time() - start)
}

/// A bundle of so many indicators, each of the value that `value` gives it.
fn bundle(objects: u32, value: impl Fn(u32) -> std::net::Ipv4Addr) -> Vec<u8> {
    let mut text = String::from("{\"type\": \"bundle\", \"objects\": [");
    for number in 0..objects {
        let comma = if number == 0 { "" } else { "," };
        let (id, address) = (uuid::Uuid::from_u128(number.into()), value(number));
        let object = format_args!(
            r#"{comma}{{"type":"indicator","id":"indicator--{id}","pattern":"[ipv4-addr:value = '{address}']"}}"#
        );
        text.write_fmt(object).unwrap();
    }
    text.push_str("]}");
    text.into_bytes()
}

fn parsed(bundle: &[u8]) -> Parsed {
    parse(&Reading::default(), &"bundle.json".into(), bundle).unwrap()
}

#[test]
fn a_bundle_of_a_million_objects_is_read_in_proportion() {
    let bundle = |objects| bundle(objects, |number| (0x0b00_0000 + number).into());
    let (tenth, all) = (bundle(100_000), bundle(1_000_000));
    let (_, least) = timed(|| parsed(&tenth));
    let (parsed, most) = timed(|| parsed(&all));
    assert_eq!((parsed.read, parsed.indicators.len()), (1_000_000, 1_000_000));
    // Ten times as much, and room for a larger hash table and a colder cache.
    assert!(most < least * 25, "{least:?} for 100,000, {most:?} for 1,000,000");
}

/// From the bundle to the image, and the CPU time of it.
fn compiled(objects: u32) -> (Tables, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    std::fs::write(&file, bundle(objects, |_| [45, 0, 0, 7].into())).unwrap();
    timed(|| {
        let source = Source::new("crowd", &file);
        let load = load(&source, REFERENCE.parse().unwrap()).unwrap();
        let supply = Supply::new(&source, &load.indicators);
        compile(rule(&[supply], &Rules::default(), REFERENCE.parse().unwrap()), 1, Seed(1, 2)).unwrap()
    })
}

#[test]
fn a_hundred_thousand_objects_that_claim_one_value_are_one_entry_and_counted() {
    let (_, least) = compiled(10_000);
    let (tables, most) = compiled(100_000);
    assert!(most < least * 25, "{least:?} for 10,000, {most:?} for 100,000");
    assert_eq!((tables.summary.entries(), tables.summary.merged), (1, 99_999));
    let value = Observable::Ipv4([45, 0, 0, 7].into());
    let Bearing::Hit(hit) = look_up(tables.image.as_slice(), &value, 1).unwrap() else { panic!("not found") };
    let matched = tables.provenance.get(hit.entry).unwrap().unwrap();
    assert_eq!(matched.primary().indicator.id.as_deref(), Some("indicator--00000000-0000-0000-0000-000000000000"));
    let named = matched.others().count() as u32;
    assert!(named < 64, "{named} are named beside the one that decides");
    assert_eq!(named + matched.beyond(), 99_999);
}
