//! `cordon fleet status`: the hosts, what is in force there, and who is silent.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::super::table::{Terminal, Tone, printable};
use super::{Exit, OnBus};
use crate::fleet::{self, Bus, Heartbeat};
use crate::policy::Mode;
use crate::settings::Places;

/// Between two looks of `--follow`.
const LOOK: Duration = Duration::from_secs(2);

/// Show the hosts: the policy in force there, what is wrong, and who is silent
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    on: OnBus,
    /// Only hosts of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only hosts that are not as they should be
    #[arg(long)]
    wrong: bool,
    /// Go on looking
    #[arg(short, long)]
    follow: bool,
    /// One JSON document on standard output; with --follow one a line
    #[arg(long)]
    json: bool,
}

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It has the latest policy of its group, and nothing is wrong.
    Applied,
    /// It takes nobody's policy.
    Unmanaged,
    /// It has an older one than others of its group.
    Behind,
    /// Something is wrong there.
    Degraded,
    /// It refused the latest.
    Refused,
    /// It was not heard of.
    Silent,
}

impl State {
    const fn tone(self) -> Tone {
        match self {
            Self::Applied => Tone::Good,
            Self::Unmanaged => Tone::Plain,
            Self::Behind | Self::Degraded => Tone::Warning,
            Self::Refused | Self::Silent => Tone::Bad,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unmanaged => "unmanaged",
            Self::Behind => "behind",
            Self::Degraded => "degraded",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// # Errors
/// The bus cannot be reached, or does not give heartbeats.
pub async fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let bus = args.on.connect(places).await?;
    loop {
        let text = look(args, &bus).await?;
        let mut out = std::io::stdout().lock();
        if args.follow && !args.json && std::io::stdout().is_terminal() {
            // The screen anew, ECMA-48 §8.3.21 and §8.3.39.
            out.write_all(b"\x1b[H\x1b[J")?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        if !args.follow {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(args: &Args, bus: &Bus) -> anyhow::Result<String> {
    let (mut hosts, unread) = fleet::hosts(bus).await?;
    let latest = latest(&hosts);
    let now = Timestamp::now();
    let groups = groups(&hosts, &latest, now);
    hosts.retain(|host| args.group.is_none() || host.policy.group == args.group);
    let mut judged: Vec<(State, Heartbeat)> =
        hosts.into_iter().map(|host| (judge(&host, &latest, now), host)).collect();
    let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
    judged.iter().for_each(|(state, _)| *sums.entry(state.name()).or_default() += 1);
    judged.retain(|(state, _)| !args.wrong || !matches!(state, State::Applied | State::Unmanaged));
    judged.sort_by(|(one, host), (other, next)| other.cmp(one).then_with(|| host.host.cmp(&next.host)));
    if args.json {
        let hosts: Vec<_> = judged
            .iter()
            .map(|(state, host)| {
                let mut document = json!(host);
                document["state"] = json!(state);
                document
            })
            .collect();
        let document = json!({
            "schema": 1, "time": now, "states": sums, "groups": groups, "hosts": hosts, "unread": unread,
        });
        return Ok(format!("{document}\n"));
    }
    Ok(table(&judged, &sums, &groups, &unread, now))
}

/// The highest serial in force anywhere, by organisation and group.
fn latest(hosts: &[Heartbeat]) -> BTreeMap<(String, String), u64> {
    let mut latest = BTreeMap::new();
    for host in hosts {
        if let (Some(tenant), Some(group), Some(serial)) = (&host.policy.tenant, &host.policy.group, host.policy.serial)
        {
            let known: &mut u64 = latest.entry((tenant.clone(), group.clone())).or_default();
            *known = serial.max(*known);
        }
    }
    latest
}

/// How far the latest policy of a group has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Group {
    tenant: String,
    group: String,
    /// The latest in force anywhere.
    serial: u64,
    /// Hosts that were heard of.
    hosts: usize,
    /// Those that have it.
    applied: usize,
    /// Those that enforce.
    enforcing: usize,
}

fn groups(hosts: &[Heartbeat], latest: &BTreeMap<(String, String), u64>, now: Timestamp) -> Vec<Group> {
    let group = |((tenant, group), serial): (&(String, String), &u64)| {
        let is_its = |host: &&Heartbeat| {
            host.policy.tenant.as_ref() == Some(tenant) && host.policy.group.as_ref() == Some(group)
        };
        let own: Vec<&Heartbeat> = hosts.iter().filter(is_its).filter(|host| !host.is_silent(now)).collect();
        Group {
            tenant: tenant.clone(),
            group: group.clone(),
            serial: *serial,
            hosts: own.len(),
            applied: own.iter().filter(|host| host.policy.serial == Some(*serial)).count(),
            enforcing: own.iter().filter(|host| host.mode == Mode::Enforce.name()).count(),
        }
    };
    latest.iter().map(group).collect()
}

fn judge(host: &Heartbeat, latest: &BTreeMap<(String, String), u64>, now: Timestamp) -> State {
    if host.is_silent(now) {
        return State::Silent;
    }
    let group = host.policy.tenant.clone().zip(host.policy.group.clone());
    let newest = group.as_ref().and_then(|group| latest.get(group)).copied();
    match (&host.policy.refused, newest) {
        (Some(_), _) => State::Refused,
        (None, Some(newest)) if host.policy.serial.is_none_or(|serial| serial < newest) => State::Behind,
        _ if !host.faults.is_empty() || host.policy.stale.is_some() => State::Degraded,
        _ if group.is_none() => State::Unmanaged,
        _ => State::Applied,
    }
}

fn table(
    judged: &[(State, Heartbeat)],
    sums: &BTreeMap<&str, usize>,
    groups: &[Group],
    unread: &[String],
    now: Timestamp,
) -> String {
    let terminal = Terminal::stdout();
    let words: Vec<String> = sums.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let mut text = match words.is_empty() {
        true => "no host was heard of\n".to_owned(),
        false => format!("{}\n", words.join(", ")),
    };
    for Group { tenant, group, serial, hosts, applied, enforcing } in groups {
        let line = format!("{tenant}/{group}: serial {serial} at {applied} of {hosts} hosts, {enforcing} enforce");
        text.push_str(&printable(&line));
        text.push('\n');
    }
    let rows = judged.iter().map(|(state, host)| {
        let dash = || "-".to_owned();
        let wrong: Vec<&str> =
            host.policy.refused.iter().chain(&host.policy.stale).chain(&host.faults).map(String::as_str).collect();
        vec![
            state.name().to_owned(),
            host.host.clone(),
            host.policy.group.clone().unwrap_or_else(dash),
            host.policy.serial.map_or_else(dash, |serial| serial.to_string()),
            host.mode.clone(),
            host.entries.to_string(),
            host.blocked.to_string(),
            format!("{} s", now.duration_since(host.time).as_secs().max(0)),
            wrong.join("; "),
        ]
    });
    let heading = ["state", "host", "group", "serial", "mode", "values", "blocked", "heard", "what is wrong"];
    let lines = terminal.table(&heading, rows);
    for line in lines.lines() {
        let state = judged.iter().map(|(state, _)| *state).find(|state| line.starts_with(state.name()));
        text.push_str(&terminal.paint(state.map_or(Tone::Plain, State::tone), line));
        text.push('\n');
    }
    for unread in unread {
        text.push_str(&format!("not a heartbeat that this version reads: {}\n", printable(unread)));
    }
    text
}

#[cfg(test)]
pub(in crate::cli::fleet) mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::fleet::PolicyState;

    fn now() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    pub(in crate::cli::fleet) fn host(name: &str, serial: Option<u64>) -> Heartbeat {
        Heartbeat {
            schema: 1,
            host: name.into(),
            time: now(),
            next_seconds: 30,
            version: "0.1.0".into(),
            kernel: "6.12".into(),
            policy: PolicyState {
                tenant: Some("acme".into()),
                group: Some("web".into()),
                serial,
                ..PolicyState::default()
            },
            mode: "enforce".into(),
            generation: Some(1),
            entries: 2,
            blocked: 0,
            reported: 0,
            faults: Vec::new(),
        }
    }

    #[test]
    fn each_host_is_in_one_state() {
        let alone = Heartbeat { policy: PolicyState::default(), ..host("e", None) };
        let silent = Heartbeat { time: now() - SignedDuration::from_secs(91), ..host("d", Some(12)) };
        let mut refused = host("c", Some(12));
        refused.policy.refused = Some("rollback".into());
        let faulty = Heartbeat { faults: vec!["C030 x".into()], ..host("f", Some(12)) };
        let hosts = [host("a", Some(12)), host("b", Some(11)), refused, silent, alone, faulty, host("g", None)];
        let latest = latest(&hosts);
        let groups = groups(&hosts, &latest, now());
        let acme = Group { tenant: "acme".into(), group: "web".into(), serial: 12, hosts: 5, applied: 3, enforcing: 5 };
        assert_eq!(groups, [acme]);
        let states: Vec<State> = hosts.iter().map(|host| judge(host, &latest, now())).collect();
        assert_eq!(
            states,
            [
                State::Applied,
                State::Behind,
                State::Refused,
                State::Silent,
                State::Unmanaged,
                State::Degraded,
                State::Behind
            ]
        );
    }
}
