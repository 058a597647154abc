use std::path::PathBuf;

use super::source::Source;
use super::table::{ROOMS, render};
use super::{BEGIN, END, Unsafe, room_faults, size_faults, unsafe_faults, with_table};

fn source(path: &str, text: &str) -> Source {
    Source::parse(PathBuf::from(path), text).expect("the example is Rust")
}

fn faults(path: &str, text: &str) -> Vec<String> {
    room_faults(&source(path, text))
}

#[test]
fn an_import_against_the_flow_is_found() {
    assert_eq!(
        faults("agent/src/event/mod.rs", "\nuse crate::journal::Entry;"),
        ["agent/src/event/mod.rs:2: `event` may not use `journal`"]
    );
}

#[test]
fn an_import_inside_a_group_a_macro_or_an_expression_is_found() {
    for text in [
        "use crate::{event::Event, app};",
        "fn f() { vec![crate::app::start()] }",
        "fn f() { crate::app::start(); }",
        "use super::super::app::start;",
    ] {
        let words = faults("agent/src/journal/store.rs", text).join(" ");
        assert!(words.contains("`journal` may not use `app`"), "{text}: {words}");
    }
}

#[test]
fn super_inside_a_room_stays_there() {
    assert_eq!(faults("agent/src/journal/store.rs", "use super::app;"), Vec::<String>::new());
}

#[test]
fn the_flow_itself_passes() {
    assert_eq!(faults("agent/src/attribute/mod.rs", "use crate::enrich::Observation;"), Vec::<String>::new());
}

#[test]
fn comments_strings_and_tests_do_not_count() {
    let text = "// use crate::app;\nconst A: &str = \"crate::app\";\n#[cfg(test)]\nmod tests { use crate::app; }";
    assert_eq!(faults("agent/src/event/mod.rs", text), Vec::<String>::new());
    assert_eq!(faults("agent/src/event/tests.rs", "use crate::app;"), Vec::<String>::new());
}

#[test]
fn a_pure_room_may_not_ask_the_world() {
    for text in
        ["use std::fs;", "use std::{fs::File};", "fn f() { jiff::Timestamp::now() }", "fn f() { SystemTime::now() }"]
    {
        let words = faults("agent/src/intel/parse/stix.rs", text).join(" ");
        assert!(words.contains("is pure and may not name"), "{text}: {words}");
    }
    assert_eq!(faults("agent/src/intel/source.rs", "use std::fs;"), Vec::<String>::new());
}

#[test]
fn only_kernel_names_aya_and_libc() {
    assert_eq!(faults("agent/src/kernel/load.rs", "use aya::Ebpf;"), Vec::<String>::new());
    assert!(faults("agent/src/app.rs", "use aya::Ebpf;").join(" ").contains("only `kernel` may name `aya`"));
    assert!(faults("agent/src/host/proc.rs", "fn f() { libc::getpid() }").join(" ").contains("`libc`"));
}

#[test]
fn unsafe_code_is_confined() {
    let text = "fn f() { unsafe { g() } }";
    assert_eq!(unsafe_faults(&source("agent/src/app.rs", text), Unsafe::InFolder("agent/src/kernel")).len(), 1);
    assert_eq!(unsafe_faults(&source("agent/src/kernel/raw.rs", text), Unsafe::InFolder("agent/src/kernel")).len(), 0);
    assert_eq!(unsafe_faults(&source("agent-common/src/lib.rs", text), Unsafe::Nowhere).len(), 1);
    assert_eq!(unsafe_faults(&source("agent-ebpf/src/main.rs", text), Unsafe::Anywhere).len(), 0);
}

#[test]
fn drawers_and_unknown_rooms_are_refused() {
    assert!(faults("agent/src/intel/utils.rs", "").join(" ").contains("no room is called `utils`"));
    assert!(faults("agent/src/stuff.rs", "").join(" ").contains("knows no room `stuff`"));
}

#[test]
fn sizes_are_measured() {
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(79));
    assert_eq!(size_faults(&source("agent/src/a.rs", &long)), ["agent/src/a.rs:1: `long` has 81 lines, at most 80"]);
    let fits = format!("fn fits() {{\n{}}}\n", "    step();\n".repeat(78));
    assert_eq!(size_faults(&source("agent/src/a.rs", &fits)), Vec::<String>::new());
    let file = "// a line\n".repeat(601);
    assert_eq!(size_faults(&source("agent/src/a.rs", &file)).len(), 1);
    assert_eq!(size_faults(&source("agent/src/main.rs", &"// a line\n".repeat(81))).len(), 1);
}

#[test]
fn the_table_has_no_cycle() {
    let mut below: Vec<&str> = Vec::new();
    let mut waiting: Vec<_> = ROOMS.iter().collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|room| {
            let ready = ROOMS
                .iter()
                .all(|other| other.name == room.name || !room.may_use(other.name) || below.contains(&other.name));
            if ready {
                below.push(room.name);
            }
            !ready
        });
        assert!(waiting.len() < before, "a cycle among {:?}", waiting.iter().map(|room| room.name).collect::<Vec<_>>());
    }
}

#[test]
fn the_table_goes_between_the_marks() {
    let text = format!("# House\n{BEGIN}\nold\n{END}\nrest\n");
    let fresh = with_table(&text, &render()).expect("the marks are there");
    assert!(fresh.starts_with("# House\n") && fresh.ends_with(&format!("{END}\nrest\n")) && !fresh.contains("old"));
    assert_eq!(with_table(&fresh, &render()).expect("the marks are there"), fresh);
    assert!(with_table("# House\n", "").is_err());
}
