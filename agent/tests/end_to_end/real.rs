//! Real published intelligence, read in place from the directory that `CORDON_DATA` names (`cargo xtask test --data DIR`).
//!
//! A listed address is only ever connected to where it was put on `lo` of a network namespace of the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::Sandbox;

const NAME: &str = "a_real_talos_address_and_a_file_on_the_list_are_blocked_and_the_record_names_the_report";

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("CORDON_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("NOT RUN {NAME}: CORDON_DATA names no directory with real intelligence");
    }
    data
}

#[test]
fn a_real_talos_address_and_a_file_on_the_list_are_blocked_and_the_record_names_the_report() {
    let Some(data) = data() else { return };
    let talos = data.join("talos");
    let settings = format!(
        "mode = \"enforce\"\n[[source]]\nname = \"talos\"\npath = \"{}\"\naction = \"block\"\n\
         [[source]]\nname = \"copy\"\npath = \"/etc/cordon/intel.d\"\naction = \"block\"\n",
        talos.display()
    );
    let mut sandbox = Sandbox::new(&settings);
    let report = fs::read_to_string(
        talos.join("2024/04/arcanedoor-new-espionage-focused-campaign-found-targeting-perimeter-network-devices.json"),
    )
    .unwrap();
    let bundle: serde_json::Value = serde_json::from_str(&report).unwrap();
    let objects = bundle["objects"].as_array().unwrap();
    let title = objects.iter().find(|object| object["type"] == "report").unwrap()["name"].as_str().unwrap();
    let pattern = objects.iter().find(|object| object["type"] == "indicator").unwrap()["pattern"].as_str().unwrap();
    let address = pattern.split('\'').find(|part| part.parse::<std::net::Ipv4Addr>().is_ok()).unwrap();

    let (bad, digest) = sandbox.program("bad");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    assert!(!Command::new(&bad).status().is_ok_and(|status| status.success()));
    let exec = sandbox.record("the exec", |record| record["kind"] == "exec");
    assert_eq!(exec["indicator"]["value"], digest.as_str());

    // In a namespace without any route out: the address is on its lo, so even a missed block stays there.
    let script = format!("ip link set lo up && ip address add {address}/32 dev lo && exec 3<>/dev/tcp/{address}/443");
    let output = Command::new("unshare").args(["--net", "bash", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Operation not permitted"), "{said}");
    let hit = sandbox.record("the connect", |record| record["kind"] == "connect");
    assert_eq!(hit["destination"]["ip"], address);
    assert_eq!(hit["indicator"]["source"], "talos");
    assert!(hit["attribution"]["reports"].as_array().unwrap().iter().any(|name| name == title), "{hit}");
}
