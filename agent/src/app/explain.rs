//! What `cordon explain` is answered: the whole way from the source that listed a value to what would happen to it here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use agent_common::image::Action as Decision;
use agent_common::wire::Hook;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answers::sources;
use super::shared::{Live, Shared, lock, look_up, read};
use crate::attribute::{attribution, hook_name, indicator};
use crate::control::{Answer, Failure};
use crate::health::Fault;
use crate::intel::{Observable, Skipped, normalise};
use crate::kernel::HookState;
use crate::kernel::probe::ExecPath;
use crate::policy::{Action, LocalAction, Ruled};
use crate::settings::Mode;
use crate::tables::Matched;

/// Skips of one value that are told of one source.
const SKIPS_TOLD: usize = 32;

/// Says what would happen to a value, and every step that leads there.
pub async fn explain(shared: &Shared, text: &str) -> Answer {
    let Some(value) = normalise::any(text) else {
        let message = format!("`{text}` is no address, endpoint, prefix, domain, URL, hash or absolute path");
        return Answer::failed(Failure::Failed, message);
    };
    let Some((image, live)) = shared.deciding() else {
        return Answer::failed(Failure::Failed, "no generation is live");
    };
    let mode = shared.mode();
    let hit = look_up(&image, &value);
    let matched = hit.and_then(|hit| shared.known(&live, hit.entry));
    let behind: Vec<Ruled> = matched
        .iter()
        .flat_map(|matched| std::iter::once(matched.primary()).chain(matched.others()))
        .cloned()
        .collect();
    let (listed, more) = match &matched {
        Some(matched) => (behind, matched.beyond() as usize),
        None => shared.listed(&live, &value),
    };
    let judges = Judges::of(shared, &value);
    let decision = hit.map(|hit| hit.action);
    let (outcome, why) = match matched.as_ref().map(Matched::primary).filter(|ruled| ruled.is_trial && judges.is_any) {
        Some(ruled) => ("would_block", format!("its rule {} is in mode monitor", ruled.rule)),
        None => outcome(&value, decision, mode, &judges, !listed.is_empty()),
    };
    let now = Timestamp::now();
    let indicators: Vec<Value> = listed.iter().map(|ruled| describe(ruled, decision, &value, now)).collect();
    let (skipped, skipped_more) = skipped(shared, &value).await;
    let involved: BTreeSet<&str> = listed
        .iter()
        .map(|ruled| &*ruled.source)
        .chain(skipped.iter().filter_map(|skipped| skipped["source"].as_str()))
        .collect();
    let mut all_sources = sources(shared).await;
    let sources: Vec<Value> = all_sources["sources"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let sources: Vec<Value> = sources
        .into_iter()
        .filter(|source| source["name"].as_str().is_some_and(|name| involved.contains(name)))
        .collect();
    Answer::Done(json!({
        "schema": 1, "value": value.to_string(), "type": value.type_name(), "outcome": outcome, "why": why,
        "mode": mode.name(), "generation": live.generation, "sources": sources,
        "indicators": indicators, "indicators_more": more,
        "table": matched.as_ref().map(|matched| table(matched.primary(), &live)),
        "local_rules": local_rules(shared, &value), "hooks": judges.hooks, "exec": judges.exec,
        "skipped": skipped, "skipped_more": skipped_more,
    }))
}

/// What would look the value up when it is met.
struct Judges {
    hooks: Vec<Value>,
    /// How execs are judged; `None` for what is no file.
    exec: Option<ExecPath>,
    is_any: bool,
}

impl Judges {
    fn of(shared: &Shared, value: &Observable) -> Self {
        let report = read(&shared.report);
        let hooks: Vec<Value> = judging(value)
            .iter()
            .filter_map(|hook| report.state(*hook).map(|state| (hook, state)))
            .map(|(hook, state)| match state {
                HookState::Attached { .. } => json!({ "hook": hook_name(*hook), "state": "attached" }),
                HookState::Unavailable { why } => {
                    json!({ "hook": hook_name(*hook), "state": "unavailable", "why": why })
                }
                HookState::Unused { why } => json!({ "hook": hook_name(*hook), "state": "unused", "why": why }),
            })
            .collect();
        let is_file =
            matches!(value, Observable::Sha256(_) | Observable::Sha1(_) | Observable::Md5(_) | Observable::Path(_));
        let exec = is_file.then(|| ExecPath::in_force(&report, shared.guard_works.load(Ordering::Relaxed)));
        let is_any = match exec {
            Some(exec) => !matches!(exec, ExecPath::None),
            None => hooks.iter().any(|hook| hook["state"] == "attached"),
        };
        Self { hooks, exec, is_any }
    }
}

/// The hooks that look such a value up.
fn judging(value: &Observable) -> &'static [Hook] {
    const IPV4: &[Hook] =
        &[Hook::Connect4, Hook::Sendmsg4, Hook::Egress, Hook::Ingress, Hook::SocketConnect, Hook::SocketSendmsg];
    const IPV6: &[Hook] =
        &[Hook::Connect6, Hook::Sendmsg6, Hook::Egress, Hook::Ingress, Hook::SocketConnect, Hook::SocketSendmsg];
    match value {
        Observable::Ipv4(_) | Observable::Ipv4Prefix(_) | Observable::Endpoint(IpAddr::V4(_), _) => IPV4,
        Observable::Ipv6(_) | Observable::Ipv6Prefix(_) | Observable::Endpoint(IpAddr::V6(_), _) => IPV6,
        Observable::Domain(_) => &[Hook::EgressDns, Hook::EgressTls, Hook::EgressHttp],
        Observable::Sha256(_) | Observable::Sha1(_) | Observable::Md5(_) | Observable::Path(_) => {
            &[Hook::BprmCheckIma, Hook::BprmCheck, Hook::SchedProcessExec]
        }
        Observable::FileName(_) | Observable::Process(_) => &[Hook::SchedProcessExec],
        Observable::Url(_) => &[],
    }
}

/// What would happen, and in a sentence why.
fn outcome(
    value: &Observable,
    decision: Option<Decision>,
    mode: Mode,
    judges: &Judges,
    is_listed: bool,
) -> (&'static str, String) {
    match (decision, mode) {
        (Some(Decision::Allow), _) => ("passed", "it is never blocked".to_owned()),
        (Some(_), _) if !judges.is_any => {
            ("passed", format!("it is listed, but no hook sees a {} here; `cordon doctor` says why", value.type_name()))
        }
        (Some(Decision::Report), _) => ("reported", "its source or its type asks for a report".to_owned()),
        (Some(Decision::Block), Mode::Monitor) => ("would_block", "the mode is monitor".to_owned()),
        (Some(Decision::Block), Mode::Enforce) => ("blocked", "an indicator is in force".to_owned()),
        (None, _) if is_listed => {
            ("passed", "it is listed, but not enforced: expired, excepted, or of a type that no hook sees".to_owned())
        }
        (None, _) => ("passed", "no indicator in force matches it".to_owned()),
    }
}

/// One indicator, what the policy makes of it, and why that is not in force if it is not.
fn describe(ruled: &Ruled, decision: Option<Decision>, value: &Observable, now: Timestamp) -> Value {
    let why_not = match ruled.expires {
        Some(ended) if ended <= now => Some(format!("it ended {ended}")),
        _ if matches!(ruled.observable, Observable::Url(_)) => Some(format!("no hook sees a {}", value.type_name())),
        _ if matches!(decision, None | Some(Decision::Allow)) => {
            Some("what is never blocked here, or a local rule, covers it".to_owned())
        }
        _ => None,
    };
    let mut document = json!(indicator(ruled));
    document["action"] = json!(match ruled.action {
        Action::Block => "block",
        Action::Report => "report",
    });
    document["rule"] = json!(ruled.rule);
    document["expires"] = json!(ruled.expires);
    document["in_force"] = json!(why_not.is_none());
    document["why_not"] = json!(why_not);
    document["origin"] = json!(ruled.indicator.origin.to_string());
    document["name"] = json!(ruled.indicator.name);
    document["attribution"] = json!(attribution(ruled));
    document["paths"] = json!(ruled.indicator.attribution.as_ref());
    document
}

/// The entry that decides.
fn table(primary: &Ruled, live: &Live) -> Value {
    let entry = &primary.observable;
    json!({
        "type": entry.type_name(), "entry": entry.to_string(), "generation": live.generation, "published": live.published,
        "expires": primary.expires,
    })
}

/// Rules of this host's operator for this very value.
fn local_rules(shared: &Shared, value: &Observable) -> Vec<Value> {
    let rules = lock(&shared.operator).rules();
    let same = rules.iter().filter(|rule| rule.observable == *value);
    let effect = |action| match action {
        LocalAction::Allow => "allow",
        LocalAction::Report => "report",
        LocalAction::Block => "block",
    };
    same.map(|rule| json!({ "value": &*rule.name, "effect": effect(rule.action), "until": rule.until, "reason": rule.reason })).collect()
}

/// Where the value was read and not used, and why, [`SKIPS_TOLD`] times for each source at the most; how many more times.
async fn skipped(shared: &Shared, value: &Observable) -> (Vec<Value>, usize) {
    let text = value.to_string();
    let intake = shared.intake.lock().await;
    let of = |source: &str, skipped: Skipped| json!({ "source": source, "origin": skipped.origin.to_string(), "reason": skipped.reason, "why": skipped.why });
    let is_same = |skipped: &Skipped| skipped.value.split(", ").any(|part| part == text);
    let (mut found, mut more) = (Vec::new(), 0);
    for supplier in intake.suppliers() {
        let parsed = supplier.good.as_ref().map(|good| &good.skipped);
        let mut told = 0;
        for held in parsed.into_iter().chain([&supplier.skipped]) {
            match held.resident() {
                Ok(skips) => {
                    let mut same = skips.iter().filter(is_same);
                    let first: Vec<Skipped> = same.by_ref().take(SKIPS_TOLD - told).collect();
                    told += first.len();
                    found.extend(first.into_iter().map(|skipped| of(&supplier.source.name, skipped)));
                    more += same.count();
                }
                Err(error) => shared.health.raise(Fault::GenerationNotKept, &supplier.source.name, error.to_string()),
            }
        }
    }
    (found, more)
}
