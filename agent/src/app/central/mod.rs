//! The stage that follows the organisation's policy: looks whether there is a newer one, takes it as one generation or not at
//! all, and says when nobody vouches any more for the one in force. That stays in force whatever happens here.

mod kept;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::shared::{Shared, lock, read};
use crate::bundle::{self, Bundle, Checked, Expiry, Folder, Held, Verified, Web};
#[cfg(feature = "bus")]
use crate::fleet;
use crate::health::{Fault, Health, Stage};
use crate::http::{Limits, Stop, chance};
use crate::intel::{Action, source};
use crate::policy::Central;
use crate::settings::{From, Places, Policy, WhenOver};
use kept::{State, Store};

/// After a look that reached nobody, however rarely it is looked otherwise.
const RETRY: Duration = Duration::from_secs(30);
/// For one file of a repository.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The state is written at most so often for no more than that a look succeeded.
const NOTED: SignedDuration = SignedDuration::from_secs(60);

/// How it goes with the policy.
#[derive(Clone, Debug, Default)]
pub struct Following {
    state: Option<State>,
    /// When it was last looked for, and is next.
    attempted: Option<Timestamp>,
    next: Option<Timestamp>,
    /// Why the last look came to nothing.
    error: Option<String>,
    /// Why the policy in force is stale.
    stale: Option<String>,
    /// Whether what it blocks is only reported.
    is_reporting: bool,
}

/// Takes up the policy that was in force before this start. What cannot be used is a fault, and fetched again.
pub async fn resume(policy: Option<&Policy>, state: &Path, health: &Health) -> (Option<Arc<Central>>, Following) {
    let Some(policy) = policy else { return Default::default() };
    let now = Timestamp::now();
    let opened = match read_root(policy) {
        Ok(root) => Store::new(state).open(policy, &root, now).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(Some((central, state))) => {
            let following = Following { state: Some(state), ..Following::default() };
            let staleness = Staleness::of(policy, &central, following.state.as_ref(), now);
            let is_reporting = staleness.degrades;
            (Some(Arc::new(central.at_most(most(is_reporting)))), Following { is_reporting, ..following })
        }
        Ok(None) => Default::default(),
        Err(error) => {
            health.raise(Fault::PolicyNotKept, "", format!("{error:#}"));
            Default::default()
        }
    }
}

/// The most that a policy may ask for.
const fn most(is_reporting: bool) -> Action {
    if is_reporting { Action::Report } else { Action::Block }
}

/// The policy that a host has taken, and when; from its state directory, whether an agent is running or not.
///
/// # Errors
/// It cannot be read, or is not what was signed.
pub async fn taken(policy: &Policy, places: &Places) -> anyhow::Result<Option<(Central, Timestamp)>> {
    let root = read_root(policy)?;
    let opened = Store::new(&places.state).open(policy, &root, Timestamp::now()).await?;
    Ok(opened.map(|(central, state)| (central, state.accepted)))
}

fn read_root(policy: &Policy) -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(&policy.root).map_err(|error| bundle::Error::file(&policy.root, error))?)
}

/// What a look came to: the root file that it began with, and the directory that a new bundle is in.
struct Look {
    policy: Policy,
    root: Vec<u8>,
    copy: PathBuf,
    checked: Result<Checked, bundle::Error>,
}

/// Whether nobody vouches any more for the policy in force.
#[derive(Debug, Default)]
struct Staleness {
    why: Option<String>,
    degrades: bool,
}

impl Staleness {
    fn of(policy: &Policy, central: &Central, state: Option<&State>, now: Timestamp) -> Self {
        let Some(state) = state else { return Self::default() };
        let mut why = Vec::new();
        if state.expires <= now {
            why.push(format!("the signatures that say that it is the latest ended at {}", state.expires));
        }
        if let Some(until) = central.document().valid_until.filter(|until| *until <= now) {
            why.push(format!("its valid_until {until} has passed"));
        }
        let lease = policy.lease.and_then(|lease| state.checked.checked_add(lease.duration()).ok());
        let is_over = lease.is_some_and(|end| end <= now);
        if let Some(end) = lease.filter(|end| *end <= now) {
            why.push(format!("its lease ended at {end}: the last look that succeeded was at {}", state.checked));
        }
        let why = (!why.is_empty()).then(|| format!("serial {}: {}", state.standing.serial, why.join("; ")));
        Self { why, degrades: is_over && policy.after_lease == WhenOver::Report }
    }
}

/// The stage.
pub struct Follow {
    shared: Arc<Shared>,
    store: Store,
    running: JoinSet<Look>,
    due: Instant,
    /// As the settings were at the last look.
    policy: Option<Policy>,
    /// Kept from look to look for its entity tags.
    web: Option<Web>,
    /// A bundle that was refused for good, so that it is not fetched again and again.
    refused: Option<String>,
    stop: Stopping,
}

/// Tells the threads that fetch to stop when the stage is dropped.
struct Stopping(Stop);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Follow {
    /// Has not looked yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let store = Store::new(&shared.places.state);
        let policy = read(&shared.settings).policy.clone();
        let stop = Stopping(Stop::default());
        Self { shared, store, running: JoinSet::new(), due: Instant::now(), policy, web: None, refused: None, stop }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// A look panicked.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut every_second = interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every_second.tick() => {}
                () = self.shared.look.notified() => {
                    self.due = Instant::now();
                    self.refused = None;
                }
                Some(look) = self.running.join_next() => self.took(look?).await,
            }
            self.settle().await;
            self.look_if_due();
            self.judge().await;
            stage.tick();
        }
    }

    /// Follows what the settings say: another organisation's policy, or none, is another start.
    async fn settle(&mut self) {
        let policy = read(&self.shared.settings).policy.clone();
        if policy == self.policy {
            return;
        }
        (self.policy, self.web, self.refused, self.due) = (policy, None, None, Instant::now());
        // What is dropped is stopped, and nobody hears of it.
        self.running = JoinSet::new();
        for fault in [Fault::PolicyRefused, Fault::PolicyStale, Fault::PolicyNotFetched, Fault::PolicyNotKept] {
            self.shared.health.clear_all(fault);
        }
        let (central, following) = resume(self.policy.as_ref(), &self.shared.places.state, &self.shared.health).await;
        if self.shared.renew_under(central).await.is_ok() {
            *lock(&self.shared.following) = following;
        }
    }

    fn look_if_due(&mut self) {
        let Some(policy) = self.policy.clone().filter(|_| self.running.is_empty() && self.due <= Instant::now()) else {
            return;
        };
        // A tenth more or less, so that a fleet does not ask in step.
        let pause = policy.interval.mul_f64(0.9 + 0.2 * chance());
        self.due = Instant::now() + pause;
        let now = Timestamp::now();
        let known = {
            let mut following = lock(&self.shared.following);
            following.attempted = Some(now);
            following.next = now.checked_add(SignedDuration::try_from(pause).unwrap_or_default()).ok();
            following.state.as_ref().map(|state| state.standing.sha256.clone())
        };
        let root = match read_root(&policy) {
            Ok(root) => root,
            Err(error) => return self.note(Fault::PolicyNotKept, Some(format!("{error:#}"))),
        };
        let before = lock(&self.shared.following).state.as_ref().map(|state| self.store.place(state));
        let known: Vec<String> = known.into_iter().chain(self.refused.clone()).collect();
        let (trust, copy) = (self.store.trust(&root), self.store.incoming(now));
        let web = self.web(&policy);
        #[cfg(feature = "bus")]
        let bus = lock(&self.shared.bus).bus();
        #[cfg(not(feature = "bus"))]
        let bus = ();
        self.running.spawn(async move {
            let held = Held {
                root: &root,
                group: &policy.enrolment.group,
                trust: Some(&trust),
                expiry: Expiry::Refused,
                max_bytes: policy.max_bytes,
                known: &known,
                before: before.as_deref(),
                copy: Some(&copy),
            };
            let checked = match (&policy.from, web) {
                (From::Directory(path), _) => {
                    bundle::open(Folder { path: path.clone(), max_bytes: policy.max_bytes }, &held).await
                }
                (From::Url(_), Some(web)) => bundle::open(web, &held).await,
                (From::Url(url), None) => Err(bundle::Error::Unreachable(url.to_string())),
                (From::Bus, _) => from_bus(bus, &held).await,
            };
            Look { policy, root, copy, checked }
        });
    }

    fn web(&mut self, policy: &Policy) -> Option<Web> {
        let From::Url(url) = &policy.from else { return None };
        let limits = Limits { bytes: policy.max_bytes, time: PATIENCE };
        let new = || Web::new(url.clone(), policy.access.clone(), limits, self.stop.0.clone());
        Some(self.web.get_or_insert_with(new).clone())
    }

    fn note(&self, fault: Fault, detail: Option<String>) {
        let mut following = lock(&self.shared.following);
        match detail {
            Some(detail) => {
                following.error = Some(detail.clone());
                self.shared.health.raise(fault, "", detail);
            }
            None => {
                self.shared.health.clear(fault, "");
            }
        }
    }

    async fn took(&mut self, look: Look) {
        if self.policy.as_ref() != Some(&look.policy) {
            return self.store.tidy(lock(&self.shared.following).state.as_ref());
        }
        let taken = match look.checked {
            // It was said before why.
            Ok(Checked::Same { identity, .. }) if self.refused.as_ref() == Some(&identity) => {
                self.note(Fault::PolicyNotFetched, None);
                Ok(())
            }
            Ok(Checked::Same { expires, .. }) => self.vouched(expires),
            Ok(Checked::New(ref verified)) => self.take(&look, verified).await,
            Err(bundle::Error::File { path, why }) => {
                self.note(Fault::PolicyNotKept, Some(format!("{}: {why}", path.display())));
                Ok(())
            }
            Err(error) if error.is_unreachable() => {
                self.due = self.due.min(Instant::now() + RETRY.mul_f64(0.5 + chance()));
                self.note(Fault::PolicyNotFetched, Some(error.to_string()));
                Ok(())
            }
            // Of a policy that is in force it is said below, with what that means.
            Err(bundle::Error::Expired(why)) if read(&self.shared.central).is_some() => {
                self.note(Fault::PolicyNotFetched, None);
                lock(&self.shared.following).error = Some(why);
                Ok(())
            }
            Err(error) => Err(format!("{}: {error}", look.policy.from)),
        };
        if let Err(why) = taken {
            self.note(Fault::PolicyRefused, Some(why));
        }
        let state = lock(&self.shared.following).state.clone();
        self.store.tidy(state.as_ref());
    }

    /// The policy in force is the latest: nothing is wrong any more.
    fn vouched(&mut self, expires: Timestamp) -> Result<(), String> {
        let now = Timestamp::now();
        let changed = {
            let mut following = lock(&self.shared.following);
            following.error = None;
            following.state.as_mut().and_then(|state| {
                let is_news = state.expires != expires || now.duration_since(state.checked) >= NOTED;
                (state.checked, state.expires) = (now, expires);
                is_news.then(|| state.clone())
            })
        };
        for fault in [Fault::PolicyRefused, Fault::PolicyNotFetched] {
            self.note(fault, None);
        }
        let written = changed.map_or(Ok(()), |state| self.store.write(&state));
        self.note(Fault::PolicyNotKept, written.err().map(|error| format!("{error:#}")));
        Ok(())
    }

    /// Takes a new policy, or says why not.
    async fn take(&mut self, look: &Look, verified: &Verified<Bundle>) -> Result<(), String> {
        let now = Timestamp::now();
        let state = lock(&self.shared.following).state.clone();
        // What was taken under this root before counts even if it could not be taken up again at the start.
        let standing = match (state, self.store.state(&look.root)) {
            (Some(state), _) | (None, Ok(Some(state))) => Some(state.standing),
            (None, Ok(None)) => None,
            (None, Err(error)) => {
                self.note(Fault::PolicyNotKept, Some(format!("{error:#}")));
                return Ok(());
            }
        };
        let accepted = Central::accept(verified, &look.policy.enrolment, standing.as_ref(), now);
        let central = match accepted {
            Ok(central) => Arc::new(central),
            Err(refused) => {
                let waits = matches!(refused, crate::policy::Refused::NotYetValid(_));
                self.refused = Some(verified.get().sha256.clone()).filter(|_| !waits);
                return Err(refused.to_string());
            }
        };
        if let Err(error) = readable(Arc::clone(&central), now).await {
            self.refused = Some(verified.get().sha256.clone());
            return Err(error);
        }
        let state = self.store.taken(&central, &look.root, &look.copy, now, verified.get().expires);
        // Before it is in force: a host that forgot it could be given an older one.
        if let Err(error) = self.store.write(&state) {
            self.note(Fault::PolicyNotKept, Some(format!("{error:#}")));
            return Ok(());
        }
        let serial = state.standing.serial;
        let before = std::mem::replace(
            &mut *lock(&self.shared.following),
            Following { state: Some(state), attempted: Some(now), ..Following::default() },
        );
        if let Err(error) = self.shared.renew_under(Some(central)).await {
            if let Some(state) = &before.state
                && let Err(error) = self.store.write(state)
            {
                self.note(Fault::PolicyNotKept, Some(format!("{error:#}")));
            }
            *lock(&self.shared.following) = before;
            return Err(format!("serial {serial} cannot be applied: {error:#}"));
        }
        tracing::info!(serial, from = %look.policy.from, "a policy is in force");
        self.refused = None;
        for fault in [Fault::PolicyRefused, Fault::PolicyNotFetched, Fault::PolicyNotKept] {
            self.note(fault, None);
        }
        Ok(())
    }

    /// Says when nobody vouches for the policy any more and, where the settings want it, then only reports.
    async fn judge(&mut self) {
        let central = read(&self.shared.central).clone();
        let (Some(central), Some(policy)) = (central, self.policy.clone()) else { return };
        let (state, is_reporting) = {
            let following = lock(&self.shared.following);
            (following.state.clone(), following.is_reporting)
        };
        let Staleness { why, degrades } = Staleness::of(&policy, &central, state.as_ref(), Timestamp::now());
        lock(&self.shared.following).stale.clone_from(&why);
        match why {
            Some(why) => self.shared.health.raise(Fault::PolicyStale, "", why),
            None => {
                self.shared.health.clear(Fault::PolicyStale, "");
            }
        }
        if degrades != is_reporting {
            let central = Arc::unwrap_or_clone(central).at_most(most(degrades));
            if self.shared.renew_under(Some(Arc::new(central))).await.is_ok() {
                lock(&self.shared.following).is_reporting = degrades;
            }
        }
    }
}

#[cfg(feature = "bus")]
async fn from_bus(bus: Option<fleet::Bus>, held: &Held<'_>) -> Result<Checked, bundle::Error> {
    let bus = bus.ok_or_else(|| bundle::Error::Unreachable("the bus is not connected".to_owned()))?;
    fleet::open(&bus, held).await
}

/// Settings that ask for the bus are refused by a build without it.
#[cfg(not(feature = "bus"))]
async fn from_bus((): (), _: &Held<'_>) -> Result<Checked, bundle::Error> {
    Err(bundle::Error::Unreachable("this build has no message bus".to_owned()))
}

/// Whether all intelligence that comes with a policy can be read: it is taken as a whole.
async fn readable(central: Arc<Central>, now: Timestamp) -> Result<(), String> {
    let reading = tokio::task::spawn_blocking(move || {
        for source in central.sources() {
            source::load(source, now).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    reading.await.map_err(|error| error.to_string())?
}

/// How it goes with the policy, for the organisation.
#[cfg(feature = "bus")]
pub fn state(shared: &Shared) -> fleet::PolicyState {
    let Some(policy) = read(&shared.settings).policy.clone() else { return fleet::PolicyState::default() };
    let central = read(&shared.central).clone();
    let following = lock(&shared.following).clone();
    let refusal = shared.health.faults().into_iter().find(|fault| fault.number == Fault::PolicyRefused.number());
    fleet::PolicyState {
        tenant: Some(policy.enrolment.tenant),
        group: Some(policy.enrolment.group),
        serial: central.as_ref().map(|central| central.document().serial),
        sha256: central.as_ref().map(|central| central.standing().sha256),
        accepted: following.state.filter(|_| central.is_some()).map(|state| state.accepted),
        refused: refusal.map(|fault| fault.detail),
        stale: following.stale,
    }
}

/// As `cordon status` has it.
pub fn status(shared: &Shared) -> Value {
    let settings = Arc::clone(&read(&shared.settings));
    let Some(policy) = &settings.policy else { return json!({ "serial": null }) };
    let central = read(&shared.central).clone();
    let following = lock(&shared.following).clone();
    let document = central.as_ref().map(|central| central.document());
    let state = following.state.as_ref().filter(|_| central.is_some());
    json!({
        "serial": document.map(|document| document.serial),
        "tenant": policy.enrolment.tenant,
        "group": policy.enrolment.group,
        "from": policy.from.to_string(),
        "mode": document.and_then(|document| document.mode),
        "rules": document.map(|document| document.rule.len()),
        "sha256": state.map(|state| &state.standing.sha256),
        "accepted": state.map(|state| state.accepted),
        "checked": state.map(|state| state.checked),
        "expires": state.map(|state| state.expires),
        "valid_until": document.and_then(|document| document.valid_until),
        "stale": following.stale,
        "reporting_only": following.is_reporting,
        "attempted": following.attempted,
        "next": following.next,
        "error": following.error,
    })
}
