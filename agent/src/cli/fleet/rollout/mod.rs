//! `cordon fleet rollout`: a policy, group by group, for as long as the hosts do well with it.

mod judge;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::judge::{Budget, Hosts, Standing, judge};
use super::{Exit, OnBus};
use crate::bundle::{self, KeyFiles};
use crate::cli::policy::Keys;
use crate::cli::policy::sign::{Publication, Times, publish, with_key};
use crate::cli::table::printable;
use crate::fleet::{self, Bus};
use crate::intel::source::Age;
use crate::policy::Document;
use crate::settings::Places;

/// Between two looks at the hosts.
const LOOK: Duration = Duration::from_secs(2);

/// Sign and push a policy for one group after the other, and take it back everywhere when hosts do badly with it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy; its group and serial are put in for each group
    file: PathBuf,
    /// The groups, canaries first
    #[arg(long = "group", value_name = "GROUP", required = true)]
    groups: Vec<String>,
    /// The repository
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    on: OnBus,
    /// How long a group must do well before the next one
    #[arg(long, value_name = "AGE", default_value = "10m")]
    soak: Age,
    /// In each group first in mode `monitor`, for as long
    #[arg(long)]
    monitor_first: bool,
    /// Hosts of a group that may do badly
    #[arg(long, value_name = "N", default_value_t = 0)]
    allow: usize,
    /// Hits that a host may have meanwhile, those among them that `monitor` let pass
    #[arg(long, value_name = "N", default_value_t = 100)]
    hits: u64,
    /// How long a host may take to apply the policy
    #[arg(long, value_name = "AGE", default_value = "5m")]
    patience: Age,
    /// JSON lines on standard output
    #[arg(long)]
    json: bool,
}

/// A group that has the policy, and what it had before.
struct Changed {
    group: String,
    before: Option<u64>,
}

/// # Errors
/// The policy cannot be signed, or the bus not be reached.
pub async fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let rollout = Rollout {
        args,
        text: std::fs::read_to_string(&args.file).with_context(|| args.file.display().to_string())?,
        keys: args.keys.files(),
        bus: args.on.connect(places).await?,
    };
    for group in &args.groups {
        // Found out later, it would leave the canaries alone with the policy.
        rollout.heard(group).await?;
    }
    let mut changed = Vec::new();
    for group in &args.groups {
        let before = bundle::latest(&rollout.keys, &args.output, group).await?;
        changed.push(Changed { group: group.clone(), before });
        for mode in rollout.modes()? {
            let pushed = match rollout.put(group, mode).await? {
                Ok(pushed) => pushed,
                Err(exit) => return Ok(exit),
            };
            if let Err(why) = rollout.watch(group, &pushed).await? {
                rollout.say("halted", group, &json!({ "why": why }), &format!("halted: {why}"))?;
                rollout.take_back(&changed).await?;
                return Ok(Exit::Failed);
            }
        }
    }
    Ok(Exit::Done)
}

/// A policy that was pushed to a group.
struct Pushed {
    serial: u64,
    mode: String,
    at: Timestamp,
    /// The hosts as they were.
    before: Hosts,
}

struct Rollout<'a> {
    args: &'a Args,
    text: String,
    keys: KeyFiles,
    bus: Bus,
}

impl Rollout<'_> {
    /// The modes that each group goes through: `None` is the policy's own.
    fn modes(&self) -> anyhow::Result<Vec<Option<&'static str>>> {
        if !self.args.monitor_first {
            return Ok(vec![None]);
        }
        let document = Document::parse(&self.text).with_context(|| self.args.file.display().to_string())?;
        ensure!(
            document.mode != Some(crate::policy::Mode::Monitor),
            "the policy is in mode monitor: leave --monitor-first out"
        );
        Ok(vec![Some("monitor"), None])
    }

    /// Signs the policy for a group, and pushes it.
    async fn put(&self, group: &str, mode: Option<&str>) -> anyhow::Result<Result<Pushed, Exit>> {
        let before = self.heard(group).await?;
        let serial = bundle::latest(&self.keys, &self.args.output, group).await?.unwrap_or(0) + 1;
        let mut text = with_key(&self.text, "serial", &serial.to_string());
        text = with_key(&text, "group", &format!("\"{group}\""));
        if let Some(mode) = mode {
            text = with_key(&text, "mode", &format!("\"{mode}\""));
        }
        let beside = |name: &str| self.args.file.parent().unwrap_or(Path::new("")).join(name);
        if let Err(exit) = self.sign(&self.args.file, &text, beside).await? {
            return Ok(Err(exit));
        }
        let mode = mode.unwrap_or("its own mode").to_owned();
        Ok(Ok(Pushed { serial, mode, at: Timestamp::now(), before }))
    }

    async fn sign(
        &self,
        shown: &Path,
        text: &str,
        place: impl Fn(&str) -> PathBuf,
    ) -> anyhow::Result<Result<(), Exit>> {
        let (output, lifetimes) = (self.args.output.as_path(), self.args.times.lifetimes());
        let publication = Publication { shown, text, output, keys: &self.keys, lifetimes };
        match publish(&publication, place).await? {
            Ok(_) => {
                fleet::push(&self.bus, output).await?;
                Ok(Ok(()))
            }
            Err(exit) => Ok(Err(exit)),
        }
    }

    /// The hosts of a group that are not silent, of which there must be one.
    async fn heard(&self, group: &str) -> anyhow::Result<Hosts> {
        let (mut hosts, now) = (self.hosts(group).await?, Timestamp::now());
        hosts.retain(|_, host| !host.is_silent(now));
        ensure!(!hosts.is_empty(), "no host of group `{group}` was heard of: nobody would say how it does");
        Ok(hosts)
    }

    async fn hosts(&self, group: &str) -> anyhow::Result<Hosts> {
        let (hosts, _) = fleet::hosts(&self.bus).await?;
        let own = hosts.into_iter().filter(|host| host.policy.group.as_deref() == Some(group));
        Ok(own.map(|host| (host.host.clone(), host)).collect())
    }

    /// Looks at the hosts until they have done well for long enough, or do badly: then why.
    async fn watch(&self, group: &str, pushed: &Pushed) -> anyhow::Result<Result<(), String>> {
        let budget = Budget { hosts: self.args.allow, hits: self.args.hits, patience: self.args.patience.duration() };
        let (mut everywhere, mut last, mut heard) = (None, None, Timestamp::now());
        loop {
            let (hosts, now) = (self.hosts(group).await, Timestamp::now());
            let hosts = match hosts {
                Ok(hosts) => hosts,
                // A bus that is away for a moment says nothing about the policy.
                Err(error) if now.duration_since(heard) < budget.patience => {
                    self.say("unheard", group, &json!({ "why": error.to_string() }), &format!("not heard: {error}"))?;
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Err(error) => return Ok(Err(format!("nothing was heard since {heard}: {error}"))),
            };
            heard = now;
            let standing = judge(&pushed.before, &hosts, pushed.serial, &budget, pushed.at, now);
            if standing.is_everywhere() {
                everywhere.get_or_insert(now);
            }
            let soaked = everywhere.map(|since| now.duration_since(since));
            let is_over = standing.wrong.len() > budget.hosts;
            let is_done = !is_over && soaked.is_some_and(|soaked| soaked >= self.args.soak.duration());
            let is_news = last.as_ref() != Some(&standing);
            if is_news || is_over || is_done {
                self.tell(group, pushed, &standing, soaked)?;
            }
            if is_over {
                let named: Vec<String> =
                    standing.wrong.iter().map(|(host, wrong)| format!("{host} ({})", words(wrong))).collect();
                return Ok(Err(format!("{} of {} hosts do badly: {}", named.len(), standing.hosts, named.join(", "))));
            }
            if is_done {
                return Ok(Ok(()));
            }
            last = Some(standing);
            tokio::time::sleep(LOOK).await;
        }
    }

    fn tell(
        &self,
        group: &str,
        pushed: &Pushed,
        standing: &Standing,
        soaked: Option<SignedDuration>,
    ) -> anyhow::Result<()> {
        let Standing { hosts, applied, wrong } = standing;
        let seconds = soaked.map(|soaked| soaked.as_secs());
        let document = json!({
            "serial": pushed.serial, "mode": pushed.mode, "hosts": hosts, "applied": applied, "wrong": wrong,
            "soaked_seconds": seconds,
        });
        let soaking = match seconds {
            Some(seconds) => format!(", for {seconds} s of {} s", self.args.soak.duration().as_secs()),
            None => String::new(),
        };
        let words = format!(
            "serial {} in {}: {applied} of {hosts} hosts, {} do badly{soaking}",
            pushed.serial,
            pushed.mode,
            wrong.len()
        );
        self.say("looked", group, &document, &words)
    }

    /// Signs what each group had before, with a serial above the latest, and pushes it.
    async fn take_back(&self, changed: &[Changed]) -> anyhow::Result<()> {
        for Changed { group, before } in changed {
            let Some(before) = before else {
                self.say("kept", group, &json!({}), "it had no policy before, and keeps this one")?;
                continue;
            };
            let earlier = bundle::earlier(&self.keys, &self.args.output, group, *before).await?;
            let serial = earlier.latest + 1;
            let stored = |name: &str| {
                let found = earlier.files.iter().find(|(known, _)| known == name);
                found.map_or_else(|| PathBuf::from(name), |(_, path)| path.clone())
            };
            let shown = PathBuf::from(format!("serial {before} of group `{group}`"));
            let text = with_key(&earlier.policy, "serial", &serial.to_string());
            let signed = self.sign(&shown, &text, stored).await?;
            ensure!(signed.is_ok(), "{} cannot be signed again", shown.display());
            let document = json!({ "serial": serial, "contents_of": before });
            self.say("taken_back", group, &document, &format!("serial {serial} has the contents of serial {before}"))?;
        }
        Ok(())
    }

    fn say(&self, event: &str, group: &str, document: &Value, words: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        if self.args.json {
            let mut line = json!({ "schema": 1, "event": event, "time": Timestamp::now(), "group": group });
            if let (Some(line), Some(document)) = (line.as_object_mut(), document.as_object()) {
                line.extend(document.clone());
            }
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{group}: {}", printable(words))?;
        }
        Ok(out.flush()?)
    }
}

fn words(wrong: &judge::Wrong) -> String {
    match wrong {
        judge::Wrong::Refused(why) => format!("refused: {why}"),
        judge::Wrong::Silent => "silent".to_owned(),
        judge::Wrong::Behind => "has not applied it in time".to_owned(),
        judge::Wrong::Faults(faults) => faults.join("; "),
        judge::Wrong::Hits(hits) => format!("{hits} hits"),
    }
}
