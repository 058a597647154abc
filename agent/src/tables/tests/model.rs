//! What should come out, found by looking at every rule.

use std::net::IpAddr;

use agent_common::image::{self, Hit};

use crate::intel::Observable;
use crate::policy::{Action, Ruled};
use crate::tables::{Bearing, Tables, look_up};

/// How closely a key names a value, higher is closer; `None` if it does not name it.
fn names(key: &Observable, value: &Observable) -> Option<u32> {
    let exact = (key == value).then_some(1_000);
    let address = match value {
        Observable::Ipv4(address) => Some(IpAddr::V4(*address)),
        Observable::Ipv6(address) => Some(IpAddr::V6(*address)),
        Observable::Endpoint(address, _) => Some(*address),
        _ => None,
    };
    match (key, value) {
        (Observable::Ipv4(key), _) => (address == Some((*key).into())).then_some(500),
        (Observable::Ipv6(key), _) => (address == Some((*key).into())).then_some(500),
        (Observable::Ipv4Prefix(key), _) => match address {
            Some(IpAddr::V4(address)) if key.contains(&address) => Some(key.prefix_len().into()),
            _ => None,
        },
        (Observable::Ipv6Prefix(key), _) => match address {
            Some(IpAddr::V6(address)) if key.contains(&address) => Some(key.prefix_len().into()),
            _ => None,
        },
        (Observable::Domain(key), Observable::Domain(name)) => {
            let below = name.strip_suffix(&**key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            below.then(|| key.split('.').count() as u32)
        }
        _ => exact,
    }
}

fn live(ruled: &Ruled, now: u32) -> bool {
    match ruled.expires {
        Some(expires) => i64::from(now) < expires.as_second(),
        None => true,
    }
}

/// The strongest of the live rules with the closest key; `Allow` inside any exception.
fn expected<'a>(
    rules: &'a [Ruled],
    exceptions: &[Observable],
    value: &Observable,
    now: u32,
) -> Option<(image::Action, Vec<&'a Ruled>)> {
    if exceptions.iter().any(|exception| names(exception, value).is_some()) {
        return Some((image::Action::Allow, Vec::new()));
    }
    let live: Vec<(u32, &Ruled)> = rules
        .iter()
        .filter(|ruled| live(ruled, now))
        .filter_map(|ruled| Some((names(&ruled.observable, value)?, ruled)))
        .collect();
    let closest = live.iter().map(|(closeness, _)| *closeness).max()?;
    let at_key: Vec<&Ruled> =
        live.into_iter().filter(|(closeness, _)| *closeness == closest).map(|(_, ruled)| ruled).collect();
    let strongest = at_key.iter().map(|ruled| ruled.action).max()?;
    let life = |ruled: &Ruled| ruled.expires.map_or(i64::MAX, |expires| expires.as_second());
    let strong = || at_key.iter().filter(|ruled| ruled.action == strongest);
    let longest = strong().map(|ruled| life(ruled)).max()?;
    let primary = strong().filter(|ruled| life(ruled) == longest).copied().collect();
    let action = match strongest {
        Action::Block => image::Action::Block,
        Action::Report => image::Action::Report,
    };
    Some((action, primary))
}

/// Looks a value up in the tables and panics unless the model says the same, the provenance included.
pub(super) fn check(tables: &Tables, rules: &[Ruled], exceptions: &[Observable], value: &Observable, now: u32) {
    let found = match look_up(tables.image.as_slice(), value, now).expect("a sound image") {
        Bearing::Hit(hit) => Some(hit),
        Bearing::Unknown => None,
        Bearing::Unseen => panic!("{value} cannot be looked up"),
    };
    let expected = expected(rules, exceptions, value, now);
    let context = || format!("{value} at {now}: found {found:?}, expected {expected:?}");
    assert_eq!(found.map(|hit| hit.action), expected.as_ref().map(|(action, _)| *action), "{}", context());
    let (Some(Hit { entry, action, .. }), Some((_, primaries))) = (found, &expected) else { return };
    let Some(matched) = tables.provenance.get(entry).unwrap() else {
        assert_eq!(action, image::Action::Allow, "no provenance: {}", context());
        return;
    };
    let primary = matched.primary();
    assert!(primaries.iter().any(|ruled| same(ruled, primary)), "{primary:?} decided: {}", context());
    let sharing = rules.iter().filter(|ruled| ruled.observable == primary.observable).count();
    assert_eq!(matched.others().count() + matched.beyond() as usize + 1, sharing, "{}", context());
    assert!(matched.others().all(|other| other.observable == primary.observable), "{}", context());
}

fn same(one: &Ruled, other: &Ruled) -> bool {
    one.observable == other.observable && one.action == other.action && one.expires == other.expires
}
