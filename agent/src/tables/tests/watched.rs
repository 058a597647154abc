//! What user space compares execs with: entries behind those of the image.

use agent_common::image::Action as Decision;

use super::*;
use crate::intel::parse::pattern::Program;
use crate::intel::{Indicators, Source};
use crate::policy::{Rules, Supply, rule};
use crate::tables::watch::MOST;
use crate::tables::{Compilation, Provenance, UnenforcedReason, Watch};

fn compiled(ruled: Vec<Ruled>) -> (Watch, Provenance, crate::tables::Summary) {
    let mut compilation =
        Compilation::new(Ruling { ruled: ruled.into(), ..Ruling::default() }, 7, SEED).expect("it compiles");
    let watch = compilation.take_watch();
    let mut image = vec![[0; 8]; compilation.blocks()];
    let (provenance, summary) = compilation.write(&mut image).expect("it is written");
    (watch, provenance, summary)
}

fn program<'a>(path: &'a str, line: &'a str) -> Program<'a> {
    Program { paths: vec![path], command_line: Some(line) }
}

fn report(value: Observable, source: &str) -> Ruled {
    ruled(value, source, Action::Report, 0)
}

#[test]
fn an_exec_leads_to_all_indicators_that_it_meets_and_the_image_to_its_own() {
    let line = |text: &str| Observable::Process(text.into());
    let (watch, provenance, summary) = compiled(vec![
        report(value("192.0.2.1"), "address"),
        report(Observable::FileName("evil".into()), "name"),
        report(line("process:command_line = 'evil -x'"), "line"),
        report(line("process:command_line LIKE '%-x%'"), "pattern"),
        report(line("process:command_line LIKE '%-y%'"), "other"),
        report(value("/opt/evil"), "path"),
        ruled(Observable::FileName("evil".into()), "second", Action::Report, 9),
    ]);
    let found = watch.find(&program("/opt/evil", "evil -x"));
    let matched: Vec<_> = found.iter().map(|entry| provenance.get(*entry).unwrap().unwrap()).collect();
    let sources: Vec<&str> = matched.iter().map(|matched| &*matched.primary().source).collect();
    assert_eq!(sources, ["name", "line", "pattern"]);
    let others: Vec<&str> = matched[0].others().map(|ruled| &*ruled.source).collect();
    assert_eq!(others, ["second"], "what lives longer decides, the other is named");
    assert_eq!(watch.find(&program("/opt/evil2", "evil")), [0; 0]);
    assert_eq!((watch.len(), summary.entries()), (4, 6));
    assert_eq!(summary.unenforced, []);

    let tables = tables(vec![report(value("192.0.2.1"), "address"), report(line("file:name LIKE 'a%'"), "p")], vec![]);
    let Ok(Bearing::Hit(hit)) = look_up(tables.image.as_slice(), &value("192.0.2.1"), 1) else { panic!("no hit") };
    assert_eq!(hit.action, Decision::Report);
    assert_eq!(&*tables.provenance.get(hit.entry).unwrap().unwrap().primary().source, "address");
}

#[test]
fn a_name_beside_a_digest_is_not_looked_for() {
    let origin = Origin { file: "sample".into(), place: Place::Line(1) };
    let observables = vec![Observable::FileName("sh".into()), Observable::Md5([1; 16])];
    let indicators = Indicators::from_iter([Indicator::new(observables, origin)]);
    let (source, indicators) = (Source::new("sample", "sample"), Arc::new(indicators));
    let supply = Supply::new(&source, &indicators);
    let ruling = rule(&[supply], &Rules::default(), Timestamp::UNIX_EPOCH);
    let mut compilation = Compilation::new(ruling, 7, SEED).expect("it compiles");
    assert!(compilation.take_watch().is_empty());
    let mut image = vec![[0; 8]; compilation.blocks()];
    let (_, summary) = compilation.write(&mut image).expect("it is written");
    let [loss] = &*summary.unenforced else { panic!("{:?}", summary.unenforced) };
    assert_eq!((loss.reason, loss.count, summary.entries()), (UnenforcedReason::NameBesideDigest, 1, 1));
}

#[test]
fn patterns_beyond_those_that_are_tried_are_counted() {
    let pattern = |number: usize| Observable::Process(format!("process:command_line LIKE '%-{number} %'").into());
    let equal = |number: usize| Observable::Process(format!("process:command_line = 'x {number}'").into());
    let patterns = (0..MOST + 3).map(|number| report(pattern(number), "p"));
    let (watch, _, summary) =
        compiled(patterns.chain((0..MOST + 3).map(|number| report(equal(number), "e"))).collect());
    assert_eq!(watch.len(), MOST + MOST + 3, "command lines in full are looked up");
    let [loss] = &*summary.unenforced else { panic!("{:?}", summary.unenforced) };
    assert_eq!((loss.reason, loss.count), (UnenforcedReason::TooManyConditions, 3));
}

#[test]
fn an_expression_that_is_too_large_is_counted_and_the_next_has_its_entry() {
    let large = Observable::Process("process:command_line MATCHES '(abcdefgh{1,900}){1,90}'".into());
    let (watch, provenance, summary) =
        compiled(vec![report(large, "large"), report(Observable::Process("file:name LIKE 'x%'".into()), "small")]);
    let [loss] = &*summary.unenforced else { panic!("{:?}", summary.unenforced) };
    assert_eq!((loss.reason, loss.count), (UnenforcedReason::ExpressionTooLarge, 1));
    let [entry] = watch.find(&program("/bin/x1", ""))[..] else { panic!("one entry") };
    assert_eq!(&*provenance.get(entry).unwrap().unwrap().primary().source, "small");
}
