//! What the control socket answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_common::wire::Counter;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::explain::explain;
use super::fetch::Wanted;
use super::operator::{Off, Operator};
use super::reload;
use super::shared::{Live, Shared, lock, read};
use crate::attribute::hook_name;
use crate::control::{Answer, Failure, Handler, LocalRule, Request};
use crate::intel::normalise;
use crate::kernel::probe::ExecPath;
use crate::kernel::{self, HookState};
use crate::settings::{self, Places};

/// A little less than whoever asks waits for the answer.
const FETCH_PATIENCE: Duration = Duration::from_secs(110);

/// Answers while the agent enforces.
pub struct Answers(pub Arc<Shared>);

/// Answers while it is switched off.
pub struct Dormant {
    /// Where things are.
    pub places: Places,
    /// Where break-glass is kept.
    pub operator: Arc<Mutex<Operator>>,
    /// Until when and why.
    pub off: Off,
    /// To come up again.
    pub again: Arc<Notify>,
}

impl Handler for Answers {
    async fn handle(&self, request: Request) -> Answer {
        let shared = &self.0;
        match request {
            Request::Status => Answer::Done(status(shared).await),
            Request::Sources => Answer::Done(sources(shared).await),
            Request::Explain { value } => explain(shared, &value).await,
            Request::Reload => generation(reload(shared).await),
            Request::Refresh { source } => refresh(shared, source).await,
            Request::Off { seconds, reason } => self.off(seconds, reason),
            Request::On => Answer::Done(json!({ "schema": 1, "off": false })),
            Request::AddRule { rule } => self.add(rule).await,
            Request::RemoveRule { value } => {
                let removed = lock(&shared.operator).remove(&value);
                match removed {
                    Ok(true) => generation(shared.renew(|_| false).await),
                    Ok(false) => Answer::failed(Failure::Failed, format!("there is no local rule for `{value}`")),
                    Err(error) => Answer::failed(Failure::Failed, format!("{error:#}")),
                }
            }
        }
    }
}

impl Answers {
    fn off(&self, seconds: u64, reason: String) -> Answer {
        let shared = &self.0;
        let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let until = Timestamp::now().checked_add(span).unwrap_or(Timestamp::MAX);
        tracing::warn!(%until, reason, "switching off");
        let kept = lock(&shared.operator).set_off(Some(Off { until, reason }));
        let removed = kept.and_then(|()| Ok(kernel::unpin_all(&shared.places.pins)?));
        match removed {
            Ok(removed) => {
                shared.again.notify_one();
                let pins = removed.links + removed.maps;
                Answer::Done(json!({ "schema": 1, "off": true, "until": until, "pins_removed": pins }))
            }
            Err(error) => Answer::failed(Failure::Failed, format!("{error:#}")),
        }
    }

    async fn add(&self, rule: LocalRule) -> Answer {
        if normalise::any(&rule.value).is_none() {
            let message = format!("`{}` is no address, endpoint, prefix, domain, hash or absolute path", rule.value);
            return Answer::failed(Failure::Invalid, message);
        }
        let added = lock(&self.0.operator).add(rule);
        match added {
            Ok(()) => generation(self.0.renew(|_| false).await),
            Err(error) => Answer::failed(Failure::Failed, format!("{error:#}")),
        }
    }
}

impl Handler for Dormant {
    async fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Done(json!({
                "schema": 1, "version": env!("CARGO_PKG_VERSION"), "mode": "off", "off": self.off, "generation": null,
                "pins": self.places.pins, "hooks": [], "sources": [], "counters": {}, "faults": [],
            })),
            Request::On | Request::Reload => match lock(&self.operator).set_off(None) {
                Ok(()) => {
                    self.again.notify_one();
                    Answer::Done(json!({ "schema": 1, "off": false }))
                }
                Err(error) => Answer::failed(Failure::Failed, format!("{error:#}")),
            },
            Request::Off { .. } => {
                Answer::failed(Failure::Failed, format!("it is off already, until {}", self.off.until))
            }
            _ => Answer::failed(
                Failure::Failed,
                format!("the agent is switched off until {}; `cordon on` ends that", self.off.until),
            ),
        }
    }
}

fn generation(renewed: anyhow::Result<u32>) -> Answer {
    match renewed {
        Ok(generation) => Answer::Done(json!({ "schema": 1, "generation": generation })),
        Err(error) => Answer::failed(
            if error.downcast_ref::<settings::Error>().is_some() { Failure::Invalid } else { Failure::Failed },
            format!("{error:#}"),
        ),
    }
}

/// Fetches and reads again one source, or all.
async fn refresh(shared: &Arc<Shared>, source: Option<String>) -> Answer {
    let is_asked_for = |name: &str| source.as_ref().is_none_or(|source| source == name);
    let (mut local, mut remote) = (BTreeSet::new(), BTreeSet::new());
    for supplier in shared.intake.lock().await.suppliers().iter().filter(|known| is_asked_for(&known.source.name)) {
        let set = if supplier.source.remote().is_some() { &mut remote } else { &mut local };
        set.insert(supplier.source.name.clone());
    }
    if let Some(name) = source.filter(|_| local.is_empty() && remote.is_empty()) {
        let message = format!("there is no source `{name}`; `cordon intel list` names them");
        return Answer::failed(Failure::Failed, message);
    }
    if !remote.is_empty() {
        let (done, told) = oneshot::channel();
        let asked = shared.fetch.send(Wanted { names: remote.clone(), done }).await;
        if asked.is_err() || !matches!(timeout(FETCH_PATIENCE, told).await, Ok(Ok(()))) {
            let message = "it is still being fetched; `cordon intel list` says how that goes";
            return Answer::failed(Failure::Failed, message);
        }
    }
    let failed: Vec<String> = lock(&shared.fetches)
        .iter()
        .filter(|(name, _)| remote.contains(*name))
        .filter_map(|(name, progress)| progress.error.as_ref().map(|error| format!("{name}: {error}")))
        .collect();
    let renewed = if local.is_empty() {
        Ok(shared.live().map_or(0, |live| live.generation))
    } else {
        shared.renew(move |known| local.contains(&known.name)).await
    };
    match (renewed, failed.is_empty()) {
        (Ok(_), false) => Answer::failed(Failure::Failed, failed.join("\n")),
        (renewed, _) => generation(renewed),
    }
}

/// One line for `systemctl status`.
pub fn status_line(shared: &Shared) -> String {
    let mode = shared.mode().name();
    let entries = shared.live().map_or(0, |live| live.summary.entries());
    let blocked = read(&shared.kernel).counters().map_or(0, |counters| counters.get(Counter::Blocked));
    match shared.health.faults().first() {
        Some(fault) => format!("DEGRADED {}: {} · {mode} · {entries} values", fault.number, fault.title),
        None => format!("{mode} · {entries} values · {blocked} blocked"),
    }
}

async fn status(shared: &Shared) -> Value {
    let counters = read(&shared.kernel).counters().ok();
    let live = shared.live();
    let hooks: Vec<Value> = read(&shared.report)
        .hooks
        .iter()
        .map(|(hook, state)| match state {
            HookState::Attached { adopted } => {
                json!({ "hook": hook_name(*hook), "state": "attached", "adopted": adopted })
            }
            HookState::Unavailable { why } => json!({ "hook": hook_name(*hook), "state": "unavailable", "why": why }),
            HookState::Unused { why } => json!({ "hook": hook_name(*hook), "state": "unused", "why": why }),
        })
        .collect();
    let exec = ExecPath::in_force(&read(&shared.report), shared.guard_works.load(Ordering::Relaxed));
    let health = shared.health.snapshot();
    let named: BTreeMap<&str, u64> = counters.iter().flat_map(kernel::Counters::named).collect();
    let sources = sources(shared).await;
    json!({
        "schema": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "mode": shared.mode().name(),
        "off": null,
        "started": shared.started,
        "pins": shared.places.pins,
        "generation": live.as_ref().map(|live| live.generation),
        "published": live.as_ref().map(|live| live.published),
        "policy": super::central::status(shared),
        "bus": bus(shared),
        "sources": sources["sources"],
        "sightings": sightings(shared),
        "tables": live.as_ref().map(|live| json!({
            "entries": live.summary.entries(), "bytes": live.summary.bytes, "spaces": live.summary.tables,
            "excepted": live.summary.excepted, "not_enforced": live.summary.unenforced,
        })),
        "hooks": hooks,
        "exec": exec,
        "counters": named,
        "hits": hits(shared, live.as_deref()),
        "stages": health.stages,
        "losses": health.counters,
        "faults": health.faults,
    })
}

/// Of the live generation: what the kernel counted, and what is in the journal. The difference is on its way, or lost.
fn hits(shared: &Shared, live: Option<&Live>) -> Value {
    // Asked in this order, so that what comes meanwhile is not recorded before it is counted.
    let recorded = live.map_or(0, |live| live.recorded.load(Ordering::Relaxed));
    let counts = live.and_then(|live| read(&shared.kernel).hits(live.generation).ok()).unwrap_or_default();
    let counted: u64 = counts.iter().map(|(_, count)| count).sum();
    let unrecorded = counted.saturating_sub(recorded);
    json!({ "counted": counted, "recorded": recorded, "unrecorded": unrecorded, "indicators": counts.len() })
}

/// How it goes with the message bus; null without one.
#[cfg(feature = "bus")]
fn bus(shared: &Shared) -> Value {
    let Some(connection) = read(&shared.settings).bus.clone() else { return Value::Null };
    let attachment = lock(&shared.bus).clone();
    let connected = attachment.bus();
    json!({
        "servers": connection.servers,
        "connected": connected.is_some(),
        "server": connected.map(|bus| bus.server()),
        "host": attachment.host,
        "since": attachment.since,
        "heartbeat": attachment.beat,
        "findings_sent": attachment.sent,
        "error": attachment.error,
    })
}

#[cfg(not(feature = "bus"))]
fn bus(_: &Shared) -> Value {
    Value::Null
}

/// How it goes with those who are told of hits; null when nobody is.
fn sightings(shared: &Shared) -> Value {
    let settings = Arc::clone(&read(&shared.settings));
    let Some(sightings) = &settings.sightings else { return Value::Null };
    let told = lock(&shared.told);
    let destinations: Vec<Value> = sightings
        .to
        .iter()
        .map(|destination| {
            let mut document = json!(told.get(&destination.name).cloned().unwrap_or_default());
            document["name"] = json!(destination.name);
            document["audience"] = json!(destination.audience);
            document["max_tlp"] = json!(destination.ceiling);
            document
        })
        .collect();
    json!({ "identity": sightings.identity.id, "name": sightings.identity.name, "destinations": destinations })
}

/// The sources, how old they are and what became of what they gave.
pub async fn sources(shared: &Shared) -> Value {
    let intake = shared.intake.lock().await;
    let now = Timestamp::now();
    let sources: Vec<Value> = intake
        .suppliers()
        .iter()
        .map(|supplier| {
            let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
            let good = supplier.good.as_ref();
            let parsed = good.iter().flat_map(|good| good.skipped.counts());
            for (reason, count) in parsed.chain(supplier.skipped.counts()) {
                *reasons.entry(json!(reason).as_str().unwrap_or_default().to_owned()).or_default() += count;
            }
            let progress = lock(&shared.fetches).get(&supplier.source.name).cloned().unwrap_or_default();
            let remote = supplier.source.remote();
            let last_good = remote.map_or(good.map(|good| good.loaded_at), |_| progress.succeeded);
            let skipped = good.map_or(0, |good| good.skipped.counts().values().sum()) + supplier.outcome.skipped;
            json!({
                "name": supplier.source.name,
                "path": supplier.source.path,
                "action": supplier.source.action,
                "loaded_at": good.map(|good| good.loaded_at),
                "age_seconds": last_good.map(|last| now.duration_since(last).as_secs()),
                "files": good.map(|good| good.files),
                "indicators": good.map(|good| good.read),
                "outcome": { "block": supplier.outcome.block, "report": supplier.outcome.report, "skipped": skipped },
                "skipped": reasons,
                "error": supplier.error,
                "fetch": remote.map(|remote| {
                    let mut fetch = json!(progress);
                    fetch["url"] = json!(remote.url());
                    fetch["interval_seconds"] = json!(supplier.source.interval().as_secs());
                    fetch
                }),
            })
        })
        .collect();
    json!({ "schema": 1, "sources": sources })
}
