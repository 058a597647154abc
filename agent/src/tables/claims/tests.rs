use agent_common::image::Seed;

use super::{Claimants, Claims, tell_apart};
use crate::intel::Observable;
use crate::policy::{Action, RuledValues};
use crate::tables::compile::{Keys, Plan};
use crate::tables::summary::Losses;
use crate::tables::tests::ruled;
use crate::tables::{Bearing, look_up};

#[test]
fn keys_with_one_tag_are_told_apart_and_get_another_seed() {
    let domain = |name: &str| Observable::Domain(name.into());
    let claim = |name: &str, source: &str| ruled(domain(name), source, Action::Block, 0);
    let ruled =
        RuledValues::from(vec![claim("one.example", "a"), claim("two.example", "b"), claim("one.example", "c")]);
    let claimants = Claimants { ruled: &ruled, exceptions: &[domain("three.example")] };
    let seed = Seed(1, 2);
    let mut claims = Claims::of(claimants, seed, &mut Losses::default()).unwrap();
    // No two names are known that share a tag, and none will be found by looking for them.
    for table in &mut claims.tagged {
        table.iter_mut().for_each(|claim| claim.tag = 7);
        tell_apart(table, claimants).unwrap();
    }
    let grouped = claims.group(&ruled).unwrap();
    assert_eq!(grouped.merged, 1);
    let (mut plan, members) = Plan::new(grouped, claimants, 3, seed).unwrap();
    let mut image = vec![[0; 8]; plan.segments.blocks as usize];
    plan.write(&mut image, Keys { claimants, members: &members }).unwrap();
    let entry = |name: &str| match look_up(image.as_slice(), &domain(name), 1).unwrap() {
        Bearing::Hit(hit) => Some(hit.entry),
        _ => None,
    };
    let entries = ["one.example", "two.example", "three.example"].map(|name| entry(name).expect("an entry"));
    assert_ne!(entries[0], entries[1]);
    assert_ne!(entries[1], entries[2]);
    assert_eq!(entry("four.example"), None);
}
