use std::os::unix::fs::PermissionsExt;

use agent_common::image::Seed;

use super::*;
use crate::intel::{Indicator, Observable, Origin, Place};
use crate::policy::{Action, Ruled, Ruling};
use crate::tables::{Tables, compile};

fn tables(generation: u32) -> Tables {
    let ruled = |last: u8| {
        let observable = Observable::Ipv4([192, 0, 2, last].into());
        let origin = Origin { file: "list.txt".into(), place: Place::Line(last.into()) };
        Ruled {
            indicator: Arc::new(Indicator::new(vec![observable.clone()], origin)),
            observable,
            source: "lab".into(),
            action: Action::Block,
            inbound: Action::Block.into(),
            expires: None,
            rule: "feeds.lab".into(),
            is_trial: false,
        }
    };
    let ruled: Vec<Ruled> = (1..=200).map(ruled).collect();
    compile(Ruling { ruled: ruled.into(), ..Ruling::default() }, generation, Seed(7, generation.into())).unwrap()
}

fn files() -> (tempfile::TempDir, GenerationFiles) {
    let directory = tempfile::tempdir().unwrap();
    let files = GenerationFiles::new(directory.path().join("generations"));
    (directory, files)
}

fn keep(files: &GenerationFiles, generation: u32, before: Option<Identity>) -> (Tables, Identity) {
    let tables = tables(generation);
    let identity = Identity::of(tables.image.as_slice()).unwrap();
    files.keep(&tables.provenance, identity, before, None, &[]).unwrap();
    (tables, identity)
}

#[test]
fn a_generation_is_opened_by_its_identity_and_leads_to_the_one_before() {
    let (_directory, files) = files();
    let (_, first) = keep(&files, 7, None);
    let (_, second) = keep(&files, 8, Some(first));
    let kept = files.open(second).unwrap();
    assert_eq!((kept.identity, kept.before), (second, Some(first)));
    assert_eq!(files.open(first).unwrap().before, None);
    for wrong in [Identity { mark: first.mark, ..second }, Identity { generation: 9, ..second }] {
        let error = format!("{:#}", files.open(wrong).unwrap_err());
        assert!(error.contains(&format!("generations/{}", wrong.generation)), "{error}");
    }
}

#[test]
fn only_the_agent_may_read_a_file_and_only_wanted_ones_stay() {
    let (_directory, files) = files();
    for generation in 1..=4 {
        keep(&files, generation, None);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&files.directory), mode(&files.path(4))), (0o700, 0o600));
    fs::write(files.directory.join("5.new"), "cut short").unwrap();
    files.keep_only(&[4, 3]).unwrap();
    let mut left: Vec<_> = fs::read_dir(&files.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["3", "4"]);
}

#[test]
fn every_damaged_byte_is_told_and_no_entry_gets_another_name() {
    let (_directory, files) = files();
    let (tables, identity) = keep(&files, 7, None);
    let whole = fs::read(files.path(7)).unwrap();
    let names = |provenance: &Provenance, entry| {
        provenance
            .get(entry)
            .map(|found| found.map(|found| (found.primary().observable.clone(), found.others().count())))
    };
    let entries = 0..300_u32;
    let expected: Vec<_> = entries.clone().map(|entry| names(&tables.provenance, entry).unwrap()).collect();
    assert_eq!(expected.iter().flatten().count(), 200);
    let mut told = 0;
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(files.path(7), bytes).unwrap();
        let Ok(kept) = files.open(identity) else {
            told += 1;
            continue;
        };
        for (entry, expected) in entries.clone().zip(&expected) {
            match names(&kept.provenance, entry) {
                Ok(found) => assert_eq!(found, *expected, "byte {at}, entry {entry}"),
                Err(_) => told += 1,
            }
        }
    }
    assert!(told > 0);
}
