use super::{ExecPath, Plan, State, Terminal, advise, document, page, plan, probe};
use crate::kernel::Bprm;

#[test]
fn the_document_begins_with_its_schema_and_names_every_capability() {
    let facts = probe();
    let plan = plan(&facts);
    let capabilities = advise(&facts, &plan);
    let text = serde_json::to_string(&document(&facts, &plan, &capabilities)).unwrap();
    assert!(text.starts_with(r#"{"schema":1,"#), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["can_enforce"], plan.can_enforce());
    let lines = value["capabilities"].as_array().unwrap();
    assert_eq!(lines.len(), capabilities.len());
    for line in lines {
        assert!(["available", "fallback", "impossible"].contains(&line["state"].as_str().unwrap()));
    }
}

#[test]
fn the_page_says_what_is_judged_and_what_mends() {
    let facts = probe();
    let nothing = Plan { network: Vec::new(), exec: ExecPath::None, bprm: Bprm::None, guard: false };
    let plain = Terminal { width: None, is_coloured: false };
    let mut capabilities = advise(&facts, &nothing);
    let line = capabilities.iter_mut().find(|line| line.capability == "bpffs").unwrap();
    (line.state, line.fix) = (State::Impossible, Some("mount it".into()));
    let text = page(&plain, &facts, &nothing, &capabilities);
    assert!(text.contains("Nothing can be enforced here") && text.contains("sudo cordon doctor"), "{text}");
    assert!(text.lines().any(|line| line.trim_start().starts_with("bpffs")
        && line.contains("impossible")
        && line.ends_with("mount it")));
    assert!(!text.contains('\x1b'));
    let good = Plan { exec: ExecPath::LsmIma, ..nothing };
    assert!(!page(&plain, &facts, &good, &capabilities).contains("Nothing can be enforced"));
}
