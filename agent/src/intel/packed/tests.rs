use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::intel::{
    Attribution, Indicator, Name, Observable, Origin, Path, Place, SkipReason, Skipped, Tlp, TlpOrigin,
};

/// Bytes elsewhere, handed out as a file would.
#[derive(Debug)]
struct Far(Vec<u8>);

impl Bytes for Far {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Damaged> {
        let from = self.0.get(at as usize..).and_then(|rest| rest.get(..into.len())).ok_or(Damaged)?;
        into.copy_from_slice(from);
        Ok(())
    }
}

fn far(indicators: &Indicators) -> Held {
    Held::Elsewhere(Stored {
        bytes: Arc::new(Far(indicators.bytes().to_vec())),
        live: indicators.len(),
        is_dated: indicators.is_dated(),
        unmarked: indicators.unmarked(),
    })
}

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["[a-z.]{1,12}", "\\PC{0,300}"].prop_map(Arc::from)
}

fn observable() -> impl Strategy<Value = Observable> {
    let v4 = || any::<u32>().prop_map(Ipv4Addr::from);
    let v6 = || any::<u128>().prop_map(Ipv6Addr::from);
    prop_oneof![
        v4().prop_map(Observable::Ipv4),
        (v4(), 0_u8..32).prop_map(|(a, l)| Observable::Ipv4Prefix(Ipv4Net::new(a, l).unwrap().trunc())),
        v6().prop_map(Observable::Ipv6),
        (v6(), 0_u8..128).prop_map(|(a, l)| Observable::Ipv6Prefix(Ipv6Net::new(a, l).unwrap().trunc())),
        (v4(), any::<u16>()).prop_map(|(a, p)| Observable::Endpoint(IpAddr::V4(a), p)),
        (v6(), any::<u16>()).prop_map(|(a, p)| Observable::Endpoint(IpAddr::V6(a), p)),
        text().prop_map(Observable::Domain),
        text().prop_map(Observable::Url),
        any::<[u8; 32]>().prop_map(Observable::Sha256),
        any::<[u8; 20]>().prop_map(Observable::Sha1),
        any::<[u8; 16]>().prop_map(Observable::Md5),
        text().prop_map(Observable::Path),
        text().prop_map(Observable::FileName),
    ]
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    let nanosecond = prop_oneof![Just(0), 0..1_000_000_000];
    let time = (-10_000_000_000_i64..10_000_000_000, nanosecond).prop_map(|(s, n)| Timestamp::new(s, n).unwrap());
    option::of(time)
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![any::<u32>().prop_map(Place::Line), text().prop_map(Place::Object)]
}

fn attribution() -> impl Strategy<Value = Arc<Attribution>> {
    let path = prop_oneof![Just(Path::Indicates), Just(Path::Report), Just(Path::MispAttribute), Just(Path::Label)];
    let names =
        || prop::collection::vec(("\\PC{1,9}", path.clone()).prop_map(|(name, path)| Name { name, path }), 0..3);
    let texts = || prop::collection::vec("\\PC{0,40}", 0..3);
    (names(), names(), names(), names(), texts(), texts()).prop_map(
        |(actors, campaigns, malware, techniques, reports, references)| {
            Arc::new(Attribution { actors, campaigns, malware, techniques, reports, references })
        },
    )
}

fn indicator() -> impl Strategy<Value = Indicator> {
    let tlp = prop_oneof![Just(Tlp::Clear), Just(Tlp::Green), Just(Tlp::Amber), Just(Tlp::AmberStrict), Just(Tlp::Red)];
    let origin = prop_oneof![Just(TlpOrigin::Own), Just(TlpOrigin::Report), Just(TlpOrigin::SourceDefault)];
    let head = (option::of(text()), option::of(text()), text(), place(), any::<bool>());
    let rest = (option::of(0_u8..=100), option::of((tlp, origin)), time(), time(), time());
    let values = prop_oneof![observable().prop_map(|value| vec![value]), prop::collection::vec(observable(), 0..6)];
    (head, rest, values, attribution(), prop::collection::vec("\\PC{0,40}", 0..3)).prop_map(
        |((id, name, file, place, is_own), rest, observables, attribution, references)| {
            let (confidence, tlp, valid_from, valid_until, modified) = rest;
            let place = id.clone().filter(|_| is_own).map_or(place, Place::Object);
            let origin = Origin { file, place };
            Indicator {
                id,
                name,
                observables,
                origin,
                confidence,
                tlp,
                valid_from,
                valid_until,
                modified,
                attribution,
                references,
            }
        },
    )
}

fn skipped() -> impl Strategy<Value = Skipped> {
    let reason = prop_oneof![Just(SkipReason::Expired), Just(SkipReason::Malformed), Just(SkipReason::NotToIds)];
    let file = prop_oneof![Just(Arc::from("a.txt")), text()];
    (reason, file, place(), "\\PC{0,200}", prop_oneof![Just("why".to_owned()), "\\PC{0,60}"])
        .prop_map(|(reason, file, place, value, why)| Skipped { reason, origin: Origin { file, place }, value, why })
}

proptest! {
    #[test]
    fn what_is_packed_is_what_comes_out(
        parts in prop::collection::vec(prop::collection::vec(indicator(), 0..8), 0..4),
        dead in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut packed = Indicators::default();
        for part in &parts {
            packed.append(part.iter().cloned().collect());
        }
        let mut expected: Vec<Indicator> = parts.concat();
        for dead in dead.into_iter().filter(|_| !expected.is_empty()).collect::<Vec<_>>() {
            if expected.is_empty() { break; }
            let index = dead.index(expected.len());
            let at = packed.views().nth(index).unwrap().at;
            packed.supersede(at);
            packed.supersede(at);
            expected.remove(index);
        }
        packed.seal();
        prop_assert_eq!(packed.len(), expected.len());
        prop_assert_eq!(packed.iter().collect::<Vec<_>>(), expected.clone());
        let far = far(&packed);
        let here = Held::Here(Arc::new(packed.clone()));
        prop_assert_eq!(far.resident().unwrap().iter().collect::<Vec<_>>(), expected.clone());
        for (view, expected) in packed.views().zip(&expected) {
            prop_assert_eq!(view.origin(&packed).unwrap(), expected.origin.clone());
            for ((place, value), observable) in view.values().zip(&expected.observables) {
                prop_assert_eq!(&value, observable);
                prop_assert_eq!(here.value(place).unwrap(), value.clone());
                prop_assert_eq!(far.value(place).unwrap(), value.clone());
                prop_assert_eq!(here.get(place).unwrap(), (value.clone(), expected.clone()));
                prop_assert_eq!(far.get(place).unwrap(), (value, expected.clone()));
                prop_assert_eq!(far.dates(place).unwrap(), view.dates);
            }
        }
    }

    #[test]
    fn damaged_bytes_are_an_end_or_an_error_and_never_a_panic(
        indicators in prop::collection::vec(indicator(), 1..6),
        skips in prop::collection::vec(skipped(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let change = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            changes.iter().for_each(|(index, byte)| { let at = index.index(bytes.len()); bytes[at] = *byte; });
            bytes
        };
        let packed: Indicators = indicators.into_iter().collect();
        let changed = change(packed.bytes());
        let length = changed.len() as u32;
        let bytes: Arc<dyn Bytes> = Arc::new(Far(changed));
        let changed = Held::Elsewhere(Stored { bytes, live: 0, is_dated: true, unmarked: None });
        let _ = changed.resident().unwrap().iter().count();
        for at in 0..length + 2 {
            let _ = (changed.get(at), changed.dates(at));
        }
        let mut packed = Skips::default();
        packed.extend(skips);
        let _ = Skips::from_bytes(change(packed.bytes())).len();
    }

    #[test]
    fn what_is_skipped_comes_out_as_it_went_in(
        parts in prop::collection::vec(prop::collection::vec(skipped(), 0..40), 0..3),
        gone in any::<prop::sample::Index>(),
    ) {
        let mut packed = Skips::default();
        let mut places = Vec::new();
        for part in &parts {
            let before = packed.bytes().len() as u32;
            let mut own = Skips::default();
            places.extend(part.iter().map(|skipped| before + own.push(skipped)));
            packed.append(&own);
        }
        let mut expected = parts.concat();
        if !expected.is_empty() {
            let index = gone.index(expected.len());
            packed.remove(places[index]);
            expected.remove(index);
        }
        prop_assert_eq!(packed.iter().collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(packed.len(), expected.len());
        let again = Skips::from_bytes(packed.bytes().to_vec());
        prop_assert_eq!(again.counts(), packed.counts());
    }
}

#[test]
fn a_line_of_a_list_takes_twelve_bytes() {
    let (file, attribution) = (Arc::from("list.txt"), Arc::new(Attribution::default()));
    let line = |line: u32| Indicator {
        attribution: Arc::clone(&attribution),
        ..Indicator::new(
            vec![Observable::Ipv4(line.into())],
            Origin { file: Arc::clone(&file), place: Place::Line(line) },
        )
    };
    let packed: Indicators = (1..=1_000_000).map(line).collect();
    assert!(packed.size() < 12_100_000, "{} bytes", packed.size());
}
