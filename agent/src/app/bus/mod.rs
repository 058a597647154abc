//! The stage that is attached to the message bus: it hears of new policies and orders, and says how this host is. Nothing waits
//! for it; what it does not hear is looked for as often as the settings say.

mod heartbeat;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::{Message, Subscriber};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt;

use super::shared::{Shared, lock, read};
use crate::fleet::{self, Bus, Heard, Orders, Topic};
use crate::health::{Fault, Stage};
use crate::host;
use crate::http::chance;
use crate::policy::SignedOrder;
use crate::settings::bus::{Connection, is_host};
pub use sending::Sending;

/// What the connection tells that is not yet noted. Only a server that floods us with errors tells more at once; what it
/// drowns is found by the next look and heartbeat.
const HEARD: usize = 64;
/// Orders are looked for so often, should one not have been heard.
const RELOOK: Duration = Duration::from_secs(5 * 60);
/// A connection that could not even be begun, for lack of a file say, is tried again after this.
const AGAIN: Duration = Duration::from_secs(15);
/// A change is told soon, and no more often than this.
const CHANGES: Duration = Duration::from_secs(1);

/// How it goes with the bus.
#[derive(Clone, Debug, Default)]
pub struct Attachment {
    bus: Option<Bus>,
    /// What this host is called there.
    pub host: String,
    /// Since when it stands.
    pub since: Option<Timestamp>,
    /// When the latest heartbeat was taken.
    pub beat: Option<Timestamp>,
    /// Why something does not go as it should.
    pub error: Option<String>,
    /// Records that were sent since the start.
    pub sent: u64,
}

impl Attachment {
    /// The connection, while it stands.
    pub fn bus(&self) -> Option<Bus> {
        self.bus.clone().filter(Bus::is_connected)
    }
}

/// What a task came to.
enum Done {
    Beat(Result<(), fleet::Error>),
    Looked(Result<Vec<(Topic, Vec<SignedOrder>)>, fleet::Error>),
}

/// The stage.
pub struct OnBus {
    shared: Arc<Shared>,
    /// As the settings were when it was connected.
    connection: Option<Connection>,
    /// When it could not be begun.
    failed: Option<Instant>,
    news: Option<Subscriber>,
    tell: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
    running: JoinSet<Done>,
    next_beat: Instant,
    last_beat: Option<(Instant, u64)>,
    next_look: Instant,
    /// The policy that orders were judged under: another one may name other operators.
    judged_under: Option<String>,
}

impl OnBus {
    /// Connected to nothing yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let (tell, heard) = mpsc::channel(HEARD);
        let now = Instant::now();
        let (news, connection, last_beat, judged_under) = (None, None, None, None);
        Self {
            shared,
            connection,
            failed: None,
            news,
            tell,
            heard,
            running: JoinSet::new(),
            next_beat: now,
            last_beat,
            next_look: now,
            judged_under,
        }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// A task panicked.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut often = interval(CHANGES);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = often.tick() => self.settle().await,
                Some(heard) = self.heard.recv() => self.note(heard),
                Some(message) = next(&mut self.news) => self.hear(&message).await,
                Some(done) = self.running.join_next() => self.took(done?).await,
            }
            self.start_what_is_due();
            stage.tick();
        }
    }

    /// Follows what the settings say.
    async fn settle(&mut self) {
        let wanted = read(&self.shared.settings).bus.clone();
        if wanted == self.connection && self.failed.is_none_or(|at| at.elapsed() < AGAIN) {
            return;
        }
        (self.news, self.last_beat, self.failed, self.running) = (None, None, None, JoinSet::new());
        *lock(&self.shared.bus) = Attachment::default();
        self.shared.health.clear_all(Fault::BusNotReached);
        self.connection = wanted;
        let Some(connection) = &self.connection else { return };
        let host = connection.host.clone().unwrap_or_else(|| host::name().to_lowercase());
        match attach(connection, &host, self.tell.clone()).await {
            Ok((bus, news)) => {
                self.news = Some(news);
                *lock(&self.shared.bus) = Attachment { bus: Some(bus), host, ..Attachment::default() };
                (self.next_beat, self.next_look) = (Instant::now(), Instant::now());
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                self.fail(Some(format!("{error:#}")));
            }
        }
    }

    fn fail(&self, error: Option<String>) {
        match &error {
            Some(error) => self.shared.health.raise(Fault::BusNotReached, "", error.clone()),
            None => {
                self.shared.health.clear(Fault::BusNotReached, "");
            }
        }
        lock(&self.shared.bus).error = error;
    }

    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Connected => {
                tracing::info!("the bus is connected");
                lock(&self.shared.bus).since = Some(Timestamp::now());
                self.fail(None);
                // What came meanwhile was not heard.
                self.shared.look.notify_one();
                (self.next_beat, self.next_look) = (Instant::now(), Instant::now());
            }
            Heard::Lost => {
                lock(&self.shared.bus).since = None;
                self.fail(Some("the connection was lost".to_owned()));
            }
            Heard::Refused(why) => self.fail(Some(why)),
        }
    }

    async fn hear(&mut self, message: &Message) {
        match Topic::of(message.subject.as_str()) {
            Some(Topic::Policy) => self.shared.look.notify_one(),
            Some(topic) if !topic.concerns(self.group().as_deref()) => {}
            Some(list) => match Orders::parse(&message.payload) {
                Ok(orders) => self.obey(vec![(list, orders)]).await,
                Err(error) => self.shared.health.raise(Fault::OrderRefused, &list.to_string(), error),
            },
            None => tracing::debug!(subject = message.subject.as_str(), "news that this version does not know"),
        }
    }

    fn group(&self) -> Option<String> {
        read(&self.shared.settings).policy.as_ref().map(|policy| policy.enrolment.group.clone())
    }

    /// Takes orders as far as the policy lets their operators give them.
    async fn obey(&mut self, lists: Vec<(Topic, Vec<SignedOrder>)>) {
        let Some(central) = read(&self.shared.central).clone() else { return };
        let mut is_any_other = false;
        for (list, orders) in lists {
            let taken = lock(&self.shared.orders).take(orders, &central, Timestamp::now());
            let why = match taken {
                Ok((is_other, refused)) => {
                    is_any_other |= is_other;
                    (!refused.is_empty()).then(|| refused.join("; "))
                }
                Err(error) => Some(format!("{error:#}")),
            };
            match why {
                Some(why) => self.shared.health.raise(Fault::OrderRefused, &list.to_string(), why),
                None => {
                    self.shared.health.clear(Fault::OrderRefused, &list.to_string());
                }
            }
        }
        if is_any_other {
            // The fault says it; what is live stays.
            let _refused = self.shared.renew(|_| false).await;
        }
    }

    fn start_what_is_due(&mut self) {
        let Some(bus) = lock(&self.shared.bus).bus() else { return };
        let Some(connection) = &self.connection else { return };
        let now = Instant::now();
        let policy = read(&self.shared.central).as_ref().map(|central| central.standing().sha256);
        if self.next_look <= now || self.judged_under != policy {
            self.judged_under = policy;
            self.next_look = now + RELOOK.mul_f64(0.9 + 0.2 * chance());
            if let Some(group) = self.group() {
                let bus = bus.clone();
                self.running.spawn(async move { Done::Looked(fleet::orders(&bus, &group).await) });
            }
        }
        let is_due = self.next_beat <= now;
        if !is_due && self.last_beat.is_some_and(|(at, _)| at + CHANGES > now) {
            return;
        }
        let state = heartbeat::state(&self.shared);
        let is_news = self.last_beat.is_none_or(|(_, before)| before != state);
        self.last_beat = Some((now, state));
        if is_news && !is_due {
            // Not all hosts at once that obey the same order: some have not heard of it yet.
            self.next_beat = now + CHANGES.mul_f64(2.0 * chance());
        } else if is_due {
            self.next_beat = now + connection.heartbeat.mul_f64(0.9 + 0.1 * chance());
            let host = lock(&self.shared.bus).host.clone();
            let heartbeat = heartbeat::of(&self.shared, &host, connection.heartbeat);
            let bytes = serde_json::to_vec(&heartbeat).unwrap_or_default();
            self.running.spawn(async move { Done::Beat(bus.beat(&host, bytes).await) });
        }
    }

    async fn took(&mut self, done: Done) {
        match done {
            Done::Beat(Ok(())) => {
                lock(&self.shared.bus).beat = Some(Timestamp::now());
                self.fail(None);
            }
            Done::Beat(Err(error)) | Done::Looked(Err(error)) => self.fail(Some(error.to_string())),
            Done::Looked(Ok(lists)) => self.obey(lists).await,
        }
    }
}

async fn attach(connection: &Connection, host: &str, tell: mpsc::Sender<Heard>) -> anyhow::Result<(Bus, Subscriber)> {
    anyhow::ensure!(is_host(host), "the hostname `{host}` is none that a subject can have; set `bus.host`");
    let bus = Bus::keep(connection, host, move |heard| drop(tell.try_send(heard))).await?;
    let news = bus.news().await.context("the bus")?;
    Ok((bus, news))
}

/// What comes next, or nothing for ever.
async fn next(news: &mut Option<Subscriber>) -> Option<Message> {
    match news {
        Some(news) => news.next().await,
        None => std::future::pending().await,
    }
}
