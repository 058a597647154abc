use std::fs;
use std::net::Ipv4Addr;

use super::{addresses, is_public, prepare};

const DIGEST: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

#[test]
fn the_example_gets_the_digest_and_offers_its_control_server() {
    let folder = tempfile::tempdir().unwrap();
    let example = prepare(None, folder.path(), DIGEST).unwrap();
    let text = fs::read_to_string(&example.place).unwrap();
    assert!(text.contains(DIGEST) && !text.contains(super::EXAMPLE_DIGEST));
    assert!(example.is_example);
    assert!(!example.addresses.is_empty() && example.addresses.iter().all(Ipv4Addr::is_documentation));
}

#[test]
fn a_list_with_digests_gets_one_more_and_its_addresses_come_first() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let list = from.path().join("2026/10");
    fs::create_dir_all(&list).unwrap();
    fs::write(from.path().join("a.json"), "{\"pattern\": \"[ipv4-addr:value = '9.9.9.9']\"}").unwrap();
    fs::write(list.join("report.txt"), format!("8[.]8[.]4[.]4\n{}", "ab".repeat(32))).unwrap();
    let made = prepare(Some(from.path()), into.path(), DIGEST).unwrap();
    assert_eq!(made.addresses, [Ipv4Addr::new(8, 8, 4, 4), Ipv4Addr::new(9, 9, 9, 9)]);
    let copy = fs::read_to_string(made.place.join("2026/10/report.txt")).unwrap();
    assert_eq!(copy, format!("8[.]8[.]4[.]4\n{}\n{DIGEST}\n", "ab".repeat(32)));
    assert!(!fs::read_to_string(list.join("report.txt")).unwrap().contains(DIGEST), "the original stays as it was");
}

#[test]
fn a_bundle_gets_a_list_beside_it() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("a.json"), "'9.9.9.9'").unwrap();
    let made = prepare(Some(from.path()), into.path(), DIGEST).unwrap();
    assert_eq!(fs::read_to_string(made.place.join("demonstration.txt")).unwrap(), format!("{DIGEST}\n"));
}

#[test]
fn intelligence_without_an_address_is_refused_with_a_sentence() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("a.txt"), "example.org\n10.0.0.1\n").unwrap();
    let words = prepare(Some(from.path()), into.path(), DIGEST).unwrap_err().to_string();
    assert!(words.contains("names no public IPv4 address"), "{words}");
}

#[test]
fn versions_prefixes_and_private_addresses_are_not_taken() {
    assert_eq!(addresses("v1.2.3.4 1.2.3.0/24 10.0.0.1 5.6.7.8.", is_public), Vec::<Ipv4Addr>::new());
    assert_eq!(addresses("'5.6.7.8', (1.2.3.4)", is_public), [Ipv4Addr::new(5, 6, 7, 8), Ipv4Addr::new(1, 2, 3, 4)]);
}
