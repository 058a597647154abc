use std::fmt::Write as _;
use std::thread;

use super::*;

fn register_for_people() -> String {
    let mut page = String::from(
        "# Faults\n\nA fault is something that is wrong and lasts until it is put right. `cordon status` lists those that are\n\
         there now, with a detail, since when, and how often they came. A number never changes its meaning.\n",
    );
    for fault in Fault::ALL {
        write!(
            page,
            "\n## {} {}\n\n- **Cause:** {}\n- **Effect on coverage:** {}\n- **Fix:** {}\n",
            fault.number(),
            fault.title(),
            fault.cause(),
            fault.effect(),
            fault.fix()
        )
        .unwrap();
    }
    page
}

#[test]
fn the_page_for_people_is_the_register() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
    let expected = register_for_people();
    if std::env::var_os("CORDON_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "docs/faults.md is stale: run this test with CORDON_BLESS=1");
}

#[test]
fn numbers_are_ascending_and_well_formed() {
    let numbers: Vec<_> = Fault::ALL.iter().map(|fault| fault.number()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    for number in numbers {
        assert!(number.len() == 4 && number.starts_with('C') && number[1..].bytes().all(|b| b.is_ascii_digit()));
    }
}

#[test]
fn a_fault_lasts_from_its_first_raise_until_it_is_cleared() {
    let health = Health::new();
    assert!(!health.clear(Fault::HookMissing, "connect4"));
    health.raise(Fault::HookMissing, "connect4", "first");
    let since = health.faults()[0].since;
    health.raise(Fault::HookMissing, "connect4", "second");
    health.raise(Fault::HookMissing, "connect6", "other");
    let faults = health.faults();
    assert_eq!(faults.len(), 2);
    assert_eq!((faults[0].subject.as_str(), faults[0].detail.as_str(), faults[0].times), ("connect4", "second", 2));
    assert_eq!(faults[0].since, since);
    assert!(health.clear(Fault::HookMissing, "connect4"));
    assert!(health.is_raised(Fault::HookMissing));
    assert!(health.clear(Fault::HookMissing, "connect6"));
    assert!(!health.is_raised(Fault::HookMissing));
    health.raise(Fault::HookMissing, "connect4", "again");
    assert_eq!(health.faults()[0].times, 1);
}

#[test]
fn counters_of_one_name_are_one_counter() {
    let health = Health::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            let counter = health.counter("journal.written");
            scope.spawn(move || (0..1000).for_each(|_| counter.add(1)));
        }
    });
    assert_eq!(health.counter("journal.written").get(), 4000);
    assert_eq!(health.snapshot().counters["journal.written"], 4000);
}

#[test]
fn a_stage_stalls_when_it_does_not_tick_and_recovers_when_it_does() {
    let health = Health::new();
    let silent = health.stage("silent", Duration::from_millis(1));
    let patient = health.stage("patient", Duration::from_secs(3600));
    thread::sleep(Duration::from_millis(30));
    assert_eq!(health.stalled(Duration::ZERO), ["silent"]);
    assert!(health.stalled(Duration::from_secs(3600)).is_empty());
    silent.end();
    assert!(health.stalled(Duration::ZERO).is_empty());
    patient.tick();
    let snapshot = serde_json::to_value(health.snapshot()).unwrap();
    assert_eq!(snapshot["stages"]["silent"]["idle_ms"], serde_json::Value::Null);
    assert_eq!(snapshot["stages"]["patient"]["ticks"], 1);
}
