//! A generation's file says what the generation itself says.

use std::sync::Arc;

use proptest::prelude::*;

use super::properties::rule;
use super::tables;
use crate::intel::packed::{Bytes, Damaged};
use crate::intel::{Origin, Place, SkipReason, Skipped, Skips};
use crate::policy::Ruled;
use crate::tables::{Identity, KeptGeneration, Provenance};

#[derive(Debug)]
struct File(Vec<u8>);

impl Bytes for File {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Damaged> {
        into.copy_from_slice(self.0.get(at as usize..).and_then(|rest| rest.get(..into.len())).ok_or(Damaged)?);
        Ok(())
    }
}

fn told(provenance: &Provenance, entry: u32) -> Vec<String> {
    let found = provenance.get(entry).unwrap();
    found.iter().flat_map(|found| std::iter::once(found.primary()).chain(found.others())).map(text).collect()
}

fn text(ruled: &Ruled) -> String {
    format!("{ruled:?}")
}

proptest! {
    #[test]
    fn what_was_kept_says_what_the_generation_said(rules in prop::collection::vec(rule(), 0..40), lines in 0_u32..300) {
        let tables = tables(rules, Vec::new());
        let identity = Identity::of(tables.image.as_slice()).unwrap();
        let before = Identity { generation: 6, mark: 9 };
        let mut skips = Skips::default();
        skips.extend((0..lines).map(|line| Skipped {
            reason: SkipReason::Malformed,
            origin: Origin { file: "list.txt".into(), place: Place::Line(line) },
            value: format!("value {line}"),
            why: "not an IP address".into(),
        }));
        let mut file = Vec::new();
        KeptGeneration::write(&tables.provenance, identity, Some(before), Some(44), &[&Skips::EMPTY, &skips], &mut file).unwrap();
        let kept = KeptGeneration::open(Arc::new(File(file.clone())), identity).unwrap();
        prop_assert_eq!((kept.before, kept.serial), (Some(before), Some(44)));
        for entry in 0..1_024 {
            prop_assert_eq!(told(&kept.provenance, entry), told(&tables.provenance, entry));
        }
        let (own, kept_ruled) = (tables.provenance.ruled(), kept.provenance.ruled());
        prop_assert_eq!(kept_ruled.len(), own.len());
        prop_assert!(kept_ruled.resident().unwrap().iter().map(|ruled| text(&ruled)).eq(own.iter().map(|ruled| text(&ruled))));
        prop_assert_eq!(kept.skips[1].resident().unwrap().iter().count(), lines as usize);
        prop_assert_eq!(kept.skips[1].counts(), skips.counts());
        let other = Identity { mark: identity.mark ^ 1, ..identity };
        prop_assert!(KeptGeneration::open(Arc::new(File(file)), other).is_err());
    }
}
