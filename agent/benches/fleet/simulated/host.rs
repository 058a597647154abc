//! One simulated host.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::bundle::{self, Checked, Expiry, Held};
use agent::fleet::{self, Bus, Heard, Heartbeat, Orders, PolicyState, Topic};
use agent::http::chance;
use agent::intel::source;
use agent::policy::{Central, Refused, SignedOrder, Standing};
use agent::settings::bus::Connection;
use anyhow::{Context, Result};
use async_nats::{Message, Subscriber};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;

use super::{AGAIN, Fleet};
use crate::hosts::{What, tell, tell_since};

/// Orders are looked for so often, should one not have been heard.
const RELOOK: Duration = Duration::from_secs(5 * 60);
/// A change is told at once, but no more often than this.
const CHANGES: Duration = Duration::from_secs(1);
/// Bytes of a policy and its intelligence.
const MAX_BYTES: u64 = 64 << 20;

/// What a task came to.
enum Done {
    Beat(Result<(), fleet::Error>),
    Orders(Result<Vec<(Topic, Vec<SignedOrder>)>, fleet::Error>),
    Policy(Box<Look>),
}

/// A look at the policy.
struct Look {
    copy: PathBuf,
    taken: Result<Option<Central>, String>,
}

/// A host that follows the bus as an agent does.
pub struct Host {
    fleet: Arc<Fleet>,
    name: String,
    bus: Bus,
    news: Subscriber,
    heard: mpsc::UnboundedReceiver<Heard>,
    running: JoinSet<Done>,
    heartbeat: Duration,
    next_beat: Instant,
    last_beat: Option<(Instant, u32)>,
    next_orders: Instant,
    /// When the policy is looked for next; `None` while it is.
    next_policy: Option<Instant>,
    /// Whether it was heard of while it was looked for.
    looks_again: bool,
    central: Option<Central>,
    /// Where the policy in force is.
    before: Option<PathBuf>,
    held: Vec<SignedOrder>,
    told: BTreeSet<String>,
    /// Counts what an agent makes a generation of its tables of.
    generation: u32,
}

impl Host {
    /// Connects, and goes on until it is dropped.
    pub async fn run(fleet: Arc<Fleet>, name: &str, connection: &Connection) -> Result<()> {
        let (tell, heard) = mpsc::unbounded_channel();
        let bus = Bus::keep(connection, name, move |heard| drop(tell.send(heard))).await?;
        let news = bus.news().await?;
        let now = Instant::now();
        let host = Self {
            fleet,
            name: name.to_owned(),
            bus,
            news,
            heard,
            running: JoinSet::new(),
            heartbeat: connection.heartbeat,
            next_beat: now,
            last_beat: None,
            next_orders: now,
            next_policy: Some(now),
            looks_again: false,
            central: None,
            before: None,
            held: Vec::new(),
            told: BTreeSet::new(),
            generation: 0,
        };
        host.follow().await
    }

    async fn follow(mut self) -> Result<()> {
        loop {
            if self.bus.is_connected() {
                self.start_what_is_due();
            }
            let due = self.due();
            tokio::select! {
                Some(heard) = self.heard.recv() => self.note(heard)?,
                Some(message) = self.news.next() => self.hear(&message)?,
                Some(done) = self.running.join_next() => self.took(done?)?,
                () = sleep_until(due) => {}
            }
        }
    }

    /// When something is to be done next.
    fn due(&self) -> Instant {
        let change = self.last_beat.filter(|(_, told)| *told != self.generation).map(|(at, _)| at + CHANGES);
        let dues = [Some(self.next_beat), Some(self.next_orders), self.next_policy, change];
        let due = dues.into_iter().flatten().min().unwrap_or(self.next_beat);
        // While it is not connected nothing is done: it hears when it is.
        if self.bus.is_connected() { due } else { Instant::now() + CHANGES }
    }

    fn note(&mut self, heard: Heard) -> Result<()> {
        match heard {
            Heard::Connected => {
                let now = Instant::now();
                self.look_for_policy(now);
                (self.next_beat, self.next_orders) = (now, now);
                tell(&self.fleet.tell, What::Connected)?;
            }
            Heard::Lost => self.fleet.failures.add(|failures| &failures.lost, "a connection was lost"),
            Heard::Refused(why) => self.fleet.failures.add(|failures| &failures.lost, why),
        }
        Ok(())
    }

    fn look_for_policy(&mut self, at: Instant) {
        match &mut self.next_policy {
            Some(next) => *next = at.min(*next),
            None => self.looks_again = true,
        }
    }

    fn hear(&mut self, message: &Message) -> Result<()> {
        match Topic::of(message.subject.as_str()) {
            Some(Topic::Policy) => self.look_for_policy(Instant::now()),
            Some(topic) if !topic.concerns(Some(&self.fleet.enrolment.group)) => {}
            Some(Topic::Orders(_)) => {
                let orders = Orders::parse(&message.payload).map_err(anyhow::Error::msg)?;
                self.obey(orders)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Takes what is new and judges all, as an agent does for a new generation.
    fn obey(&mut self, orders: Vec<SignedOrder>) -> Result<()> {
        let Some(central) = &self.central else { return Ok(()) };
        let now = Timestamp::now();
        let before = self.held.len();
        let new: Vec<_> = orders.into_iter().filter(|order| !self.held.contains(order)).collect();
        self.held.extend(new.into_iter().filter(|order| central.judge(order, now).is_ok()));
        if self.held.len() == before {
            return Ok(());
        }
        let obeyed = self.held.iter().filter_map(|order| central.judge(order, now).ok());
        let values: Vec<String> = obeyed.map(|obeyed| obeyed.order.value).collect();
        self.generation += 1;
        let at = Timestamp::now();
        for value in values {
            if self.told.insert(value.clone()) {
                tell_since(&self.fleet.tell, at, What::Order(value))?;
            }
        }
        Ok(())
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        if self.next_orders <= now {
            self.next_orders = now + RELOOK.mul_f64(0.9 + 0.2 * chance());
            let (bus, fleet) = (self.bus.clone(), Arc::clone(&self.fleet));
            self.running.spawn(async move { Done::Orders(fleet::orders(&bus, &fleet.enrolment.group).await) });
        }
        if self.next_policy.is_some_and(|next| next <= now) {
            self.next_policy = None;
            self.start_look();
        }
        let is_news = self.last_beat.is_none_or(|(at, told)| told != self.generation && at + CHANGES <= now);
        if self.next_beat <= now || is_news {
            self.last_beat = Some((now, self.generation));
            self.next_beat = now + self.heartbeat.mul_f64(0.9 + 0.1 * chance());
            let (bus, name) = (self.bus.clone(), self.name.clone());
            let bytes = serde_json::to_vec(&self.state()).unwrap_or_default();
            self.running.spawn(async move { Done::Beat(bus.beat(&name, bytes).await) });
        }
    }

    /// What an agent says of itself, with numbers as long as those of an agent that has work.
    fn state(&self) -> Heartbeat {
        let standing = self.central.as_ref().map(Central::standing);
        Heartbeat {
            schema: 1,
            host: self.name.clone(),
            time: Timestamp::now(),
            next_seconds: self.heartbeat.as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.fleet.kernel.clone(),
            policy: PolicyState {
                tenant: Some(self.fleet.enrolment.tenant.clone()),
                group: Some(self.fleet.enrolment.group.clone()),
                serial: standing.as_ref().map(|standing| standing.serial),
                sha256: standing.map(|standing| standing.sha256),
                accepted: Some(Timestamp::now()),
                ..PolicyState::default()
            },
            mode: "enforce".to_owned(),
            generation: Some(self.generation),
            entries: 100_000,
            blocked: 1000,
            reported: 1000,
            faults: Vec::new(),
        }
    }

    fn start_look(&mut self) {
        let directory = self.fleet.directory.join(&self.name);
        let copy = directory.join(format!("bundle-{}", Timestamp::now().as_nanosecond()));
        let (fleet, bus, before) = (Arc::clone(&self.fleet), self.bus.clone(), self.before.clone());
        let standing = self.central.as_ref().map(Central::standing);
        self.running.spawn(async move {
            let known: Vec<String> = standing.iter().map(|standing| standing.sha256.clone()).collect();
            let trust = directory.join("trust");
            let held = Held {
                root: &fleet.root,
                group: &fleet.enrolment.group,
                trust: Some(&trust),
                expiry: Expiry::Refused,
                max_bytes: MAX_BYTES,
                known: &known,
                before: before.as_deref(),
                copy: Some(&copy),
            };
            let checked = fleet::open(&bus, &held).await;
            let taken = accept(&fleet, checked, standing.as_ref());
            Done::Policy(Box::new(Look { copy, taken }))
        });
    }

    fn took(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Beat(Ok(())) => {}
            Done::Beat(Err(error)) => self.fleet.failures.add(|failures| &failures.beats, error.to_string()),
            Done::Orders(Ok(lists)) => self.obey(lists.into_iter().flat_map(|(_, orders)| orders).collect())?,
            Done::Orders(Err(error)) => {
                self.fleet.failures.add(|failures| &failures.looks, error.to_string());
                self.next_orders = Instant::now() + AGAIN;
            }
            Done::Policy(look) => self.looked(*look)?,
        }
        Ok(())
    }

    fn looked(&mut self, look: Look) -> Result<()> {
        let again = std::mem::take(&mut self.looks_again).then(Instant::now);
        // An agent looks every ten minutes unless told otherwise; a bench is over before.
        self.next_policy = Some(again.unwrap_or_else(|| Instant::now() + 2 * RELOOK));
        let unused = match look.taken {
            Ok(Some(central)) => {
                self.generation += 1;
                tell(&self.fleet.tell, What::Policy(central.standing().serial))?;
                self.central = Some(central);
                self.before.replace(look.copy)
            }
            Ok(None) => Some(look.copy),
            Err(why) => {
                self.fleet.failures.add(|failures| &failures.looks, why);
                self.next_policy = Some(again.unwrap_or_else(|| Instant::now() + AGAIN));
                Some(look.copy)
            }
        };
        match unused.filter(|unused| unused.exists()) {
            Some(unused) => fs::remove_dir_all(&unused).with_context(|| unused.display().to_string()),
            None => Ok(()),
        }
    }
}

/// The policy, if it is another one and can be taken as a whole.
fn accept(
    fleet: &Fleet,
    checked: Result<Checked, bundle::Error>,
    standing: Option<&Standing>,
) -> Result<Option<Central>, String> {
    let verified = match checked.map_err(|error| error.to_string())? {
        Checked::Same { .. } => return Ok(None),
        Checked::New(verified) => verified,
    };
    let now = Timestamp::now();
    let accepted = Central::accept(&verified, &fleet.enrolment, standing, now);
    let central = accepted.map_err(|refused: Refused| refused.to_string())?;
    for source in central.sources() {
        source::load(source, now).map_err(|error| error.to_string())?;
    }
    Ok(Some(central))
}
