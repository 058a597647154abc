//! The only part that knows all rooms: channels, supervision, reload, stop. No stage ends silently: when one does, the agent
//! stops with its name and the kernel keeps blocking.

mod answers;
#[cfg(feature = "bus")]
mod bus;
mod central;
mod detect;
mod examine;
mod explain;
mod fetch;
mod flows;
mod generations;
pub mod guard;
mod hindsight;
mod intake;
mod journald;
mod metrics;
mod operator;
mod orders;
pub mod own_files;
mod rehearse;
mod share;
mod shared;
mod watch;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::control::Server;
use crate::enrich::{Enricher, HostView};
use crate::event::ProcessKey;
use crate::health::{Fault, Health};
use crate::host::{self, CgroupPaths, DigestCache, Users, cgroup, group_id, missing_capabilities, running_processes};
use crate::journal::{Contacts, Journal, Limits, MirrorSettings, QUEUE, Seen, Sink, Writer};
use crate::kernel::probe::{Attempt, Plan};
use crate::kernel::{Bprm, HookState, Kernel, Layers, Options, OwnProgram, describe_attempt, probe};
use crate::settings::network::Rule;
use crate::settings::{Places, Settings};
use answers::{Answers, Dormant};
use central::Follow;
pub use central::taken as taken_policy;
use detect::Detect;
use fetch::{Fetching, Wanted};
use generations::GenerationFiles;
use guard::GuardKeeper;
use hindsight::Hindsight;
use intake::Intake;
use journald::ToJournald;
use metrics::Metrics;
pub use operator::{Off, Operator};
use orders::StandingOrders;
use own_files::OwnFiles;
pub use rehearse::{Rehearsal, rehearse};
use share::Sharing;
use shared::{Shared, read};
use watch::Watch;

/// Whose members may ask what changes nothing.
const GROUP: &str = "cordon";
/// Files whose digests are remembered.
const DIGESTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// Processes remembered.
const PROCESSES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);
/// Hits that user space found and that wait to be recorded.
const FOUND: usize = 1024;
/// Requests to fetch sources now that wait.
const WANTED: usize = 16;
/// Processes that wait to be hashed.
const UNHASHED: usize = 1024;
/// How often it is asked whether the kernel still has what was put there.
const LOOK: Duration = Duration::from_millis(500);
/// A stage that says nothing for this long, beyond its own period, has stalled.
const GRACE: Duration = Duration::from_secs(20);

/// Nothing can be enforced by this process.
#[derive(Debug, thiserror::Error)]
#[error("this process lacks {0}: run it as root, or give it these capabilities as packaging/cordon-lsm.service does")]
pub struct NotPermitted(String);

impl NotPermitted {
    /// Names the capabilities that are missing; `None` when none is.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let missing = missing_capabilities();
        (!missing.is_empty()).then(|| Self(missing.join(", ")))
    }
}

/// This kernel lacks what every hook needs.
#[derive(Debug, thiserror::Error)]
#[error("this kernel lets nothing be enforced; `cordon doctor` names what it lacks and what would mend that")]
pub struct NotPossible;

/// What `cordon run` was told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Where things are.
    pub places: Places,
    /// cgroup2 directory to enforce, before what the settings say.
    pub cgroup: Option<PathBuf>,
}

/// Which stage ended, and how.
type Ended = (&'static str, anyhow::Result<()>);

/// Why the agent comes down.
enum Next {
    /// It was told to.
    Stop,
    /// To come up anew: switched off, or on again.
    Again,
    /// To come up anew, because somebody changed what is in the kernel: what.
    Mend(String),
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// It cannot come up, or a stage failed; the kernel goes on with what it has.
pub fn run(orders: &Orders) -> anyhow::Result<()> {
    if let Some(refusal) = NotPermitted::of_this_process() {
        bail!(refusal);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut stop = Stop::new()?;
        let mut mended = None;
        loop {
            match once(orders, mended.take(), &mut stop).await? {
                Next::Stop => return Ok(()),
                Next::Again => {}
                Next::Mend(what) => mended = Some(what),
            }
        }
    });
    // A file that hangs on a dead network file system must not hold up the stop.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// `mended` is what was found changed in the kernel, and is put back by coming up anew.
async fn once(orders: &Orders, mended: Option<String>, stop: &mut Stop) -> anyhow::Result<Next> {
    let settings = Settings::load(&orders.places)?;
    let operator = Operator::open(&orders.places.state)?;
    match operator.off(Timestamp::now()).cloned() {
        Some(off) => stay_off(orders, &settings, operator, off, stop).await,
        None => {
            let health = Health::new();
            if let Some(what) = mended {
                health.raise(Fault::Tampered, "", what);
            }
            stay_on(orders, settings, operator, health, stop).await
        }
    }
}

/// Serves the socket and waits until break-glass ends. Nothing of ours is in the kernel meanwhile.
async fn stay_off(
    orders: &Orders,
    settings: &Settings,
    operator: Operator,
    off: Off,
    stop: &mut Stop,
) -> anyhow::Result<Next> {
    crate::kernel::unpin_all(&orders.places.pins)?;
    tracing::warn!(until = %off.until, reason = off.reason, "switched off by the operator");
    let server = Server::bind(&orders.places.socket, group_id(GROUP)).context("the control socket")?;
    let again = Arc::new(Notify::new());
    let dormant = Dormant {
        places: orders.places.clone(),
        operator: Arc::new(Mutex::new(operator)),
        off: off.clone(),
        again: Arc::clone(&again),
    };
    say(&[NotifyState::Ready, NotifyState::Status(&format!("OFF until {}: {}", off.until, off.reason))]);
    let (dormant, health, listen) = (Arc::new(dormant), Health::new(), settings.metrics.clone());
    let metrics = Metrics::new(Arc::clone(&dormant), health.clone(), move || listen.clone());
    let measuring = tokio::spawn(metrics.run(health.stage("metrics", Duration::from_secs(1))));
    let serving = tokio::spawn(server.serve(dormant));
    let left = Duration::try_from(off.until.duration_since(Timestamp::now())).unwrap_or_default();
    let mut feed = interval(Duration::from_secs(5));
    let end = sleep(left);
    tokio::pin!(end);
    let next = loop {
        tokio::select! {
            () = &mut end => break Next::Again,
            () = again.notified() => break Next::Again,
            () = stop.told() => break Next::Stop,
            _ = feed.tick() => say(&[NotifyState::Watchdog]),
        }
    };
    serving.abort();
    measuring.abort();
    // They end by the abort; only then are the sockets free for the next.
    let _aborted = (serving.await, measuring.await);
    Ok(next)
}

async fn stay_on(
    orders: &Orders,
    settings: Settings,
    operator: Operator,
    health: Health,
    stop: &mut Stop,
) -> anyhow::Result<Next> {
    let places = &orders.places;
    let settings = Arc::new(settings);
    let server = Server::bind(&places.socket, group_id(GROUP)).context("the control socket")?;
    let mount = cgroup::mount_point()?;
    let cgroup = orders.cgroup.clone().or_else(|| settings.cgroup.clone()).unwrap_or_else(|| mount.clone());
    let facts = probe::probe();
    let mut kernel = load(places, &settings, &cgroup, &probe::plan(&facts))?;
    let hits = kernel.take_hits()?.context("the ring of hits is taken")?;
    let execs = kernel.take_execs()?.context("the ring of execs is taken")?;
    let (sink, writer) = open_journal(places, &settings, &health)?;
    let digests = Arc::new(DigestCache::new(DIGESTS, settings.exec.max_file_bytes));
    let (policy, following) = central::resume(settings.policy.as_ref(), &places.state, &health).await;
    let (found, found_here) = mpsc::channel(FOUND);
    let (unhashed, to_hash) = mpsc::channel(UNHASHED);
    let (fetch, wanted) = mpsc::channel(WANTED);
    let shared = Arc::new(Shared {
        places: places.clone(),
        health: health.clone(),
        started: Timestamp::now(),
        kernel: RwLock::new(kernel),
        report: RwLock::default(),
        guard_works: AtomicBool::new(false),
        generations: RwLock::default(),
        files: GenerationFiles::new(places.generations()),
        intake: Intake::new(Arc::clone(&settings), places.clone(), health.clone(), policy.clone()).into(),
        operator: Arc::new(Mutex::new(operator)),
        orders: Mutex::new(StandingOrders::open(&places.state)?),
        settings: RwLock::new(settings),
        central: RwLock::new(policy),
        following: Mutex::new(following),
        #[cfg(feature = "bus")]
        bus: Mutex::default(),
        look: Notify::new(),
        digests: Arc::clone(&digests),
        own_files: Arc::new(Mutex::new(OwnFiles::open(places, Arc::clone(&digests)))),
        scope: below(&mount, &cgroup),
        found,
        fetches: fetch::Fetches::default(),
        told: share::Told::default(),
        fetch,
        renewed: tokio::sync::watch::Sender::default(),
        again: Notify::new(),
    });
    shared.configure()?;
    shared.adopt();
    let mut watch = Watch::new()?;
    follow(&shared, &mut watch).await;
    tokio::select! {
        renewed = shared.renew(|_| true) => renewed?,
        () = stop.told() => return Ok(Next::Stop),
    };
    let guard = enforce(&shared, &sink, facts.fanotify)?;
    let enricher = enricher(mount, digests)?;
    let stage = health.stage("detect", Duration::from_secs(1));
    let mut stages: JoinSet<Ended> = JoinSet::new();
    let met = look_back(&shared, &sink, &mut stages)?;
    let detect = Detect { shared: Arc::clone(&shared), enricher, sink, met, unhashed, executed: Vec::new(), stage };
    let (answers, renewing) = (Arc::new(Answers(Arc::clone(&shared))), Arc::clone(&shared));
    stages.spawn(async move { ("detect", detect.run(hits, execs, found_here).await) });
    look_at_what_is_there(&shared, to_hash, &mut stages);
    talk_to_others(&shared, wanted, &mut stages);
    let stage = health.stage("guard", Duration::from_secs(1));
    stages.spawn(async move { ("guard", guard.run(stage).await) });
    serve_metrics(&shared, &answers, &mut stages);
    stages.spawn(async move { ("control", server.serve(answers).await.map_err(Into::into)) });
    stages.spawn(async move { ("intake", keep_current(&renewing, watch).await) });
    say(&[NotifyState::Ready]);
    let outcome = supervise(&shared, &writer, &mut stages, stop).await;
    say(&[NotifyState::Stopping]);
    stages.shutdown().await;
    writer.stop().await;
    outcome
}

/// Knows the programs that run already.
fn enricher(mount: PathBuf, digests: Arc<DigestCache>) -> anyhow::Result<Enricher<HostView>> {
    let users = Users::new(PathBuf::from("/etc/passwd"));
    let mut enricher = Enricher::new(HostView::new(users, CgroupPaths::new(mount), digests), PROCESSES);
    enricher.fill(running_processes()?);
    Ok(enricher)
}

/// Starts the stages that look at what was there before: programs that run, flows that are open, what packages installed.
fn look_at_what_is_there(shared: &Arc<Shared>, to_hash: mpsc::Receiver<ProcessKey>, stages: &mut JoinSet<Ended>) {
    let period = Duration::from_secs(1);
    let examine = examine::run(Arc::clone(shared), to_hash, shared.health.stage("examine", period));
    stages.spawn(async move { ("examine", examine.await) });
    let flows = flows::run(Arc::clone(shared), shared.health.stage("flows", period));
    stages.spawn(async move { ("flows", flows.await) });
    let own_files = own_files::run(Arc::clone(shared), shared.health.stage("own files", period));
    stages.spawn(async move { ("own files", own_files.await) });
}

/// Starts the stage that keeps what is met, where the settings ask for it; whom to tell what is met.
fn look_back(
    shared: &Arc<Shared>,
    sink: &Sink,
    stages: &mut JoinSet<Ended>,
) -> anyhow::Result<Option<mpsc::Sender<Vec<Seen>>>> {
    let telemetry = read(&shared.settings).telemetry;
    if !telemetry.contacts {
        return Ok(None);
    }
    let contacts = Contacts::open(&shared.places.journal, telemetry.max_bytes)?;
    let (tell, met) = mpsc::channel(hindsight::QUEUE);
    let hindsight = Hindsight { shared: Arc::clone(shared), contacts, sink: sink.clone(), met };
    let stage = shared.health.stage("hindsight", Duration::from_secs(1));
    stages.spawn(async move { ("hindsight", hindsight.run(stage).await) });
    Ok(Some(tell))
}

/// Starts the stages that talk to others; nothing here waits for them.
fn talk_to_others(shared: &Arc<Shared>, wanted: mpsc::Receiver<Wanted>, stages: &mut JoinSet<Ended>) {
    let period = Duration::from_secs(1);
    let fetching = Fetching::new(Arc::clone(shared), wanted).run(shared.health.stage("fetch", period));
    stages.spawn(async move { ("fetch", fetching.await) });
    let following = Follow::new(Arc::clone(shared)).run(shared.health.stage("policy", period));
    stages.spawn(async move { ("policy", following.await) });
    #[cfg(feature = "bus")]
    {
        let attached = bus::OnBus::new(Arc::clone(shared)).run(shared.health.stage("bus", period));
        stages.spawn(async move { ("bus", attached.await) });
        let sending = bus::Sending::new(Arc::clone(shared)).run(shared.health.stage("findings", period));
        stages.spawn(async move { ("findings", sending.await) });
    }
    let sharing = Sharing::new(Arc::clone(shared)).run(shared.health.stage("share", period));
    stages.spawn(async move { ("share", sharing.await) });
    let handing_on = ToJournald::new(Arc::clone(shared)).run(shared.health.stage("journald", period));
    stages.spawn(async move { ("journald", handing_on.await) });
}

/// Starts the stage that tells Prometheus what the control socket tells the command line, where the settings ask for it.
fn serve_metrics(shared: &Arc<Shared>, answers: &Arc<Answers>, stages: &mut JoinSet<Ended>) {
    let known = Arc::clone(shared);
    let wanted = move || read(&known.settings).metrics.clone();
    let metrics = Metrics::new(Arc::clone(answers), shared.health.clone(), wanted);
    let stage = shared.health.stage("metrics", Duration::from_secs(1));
    stages.spawn(async move { ("metrics", metrics.run(stage).await) });
}

/// Loads the kernel half as this kernel allows it.
fn load(places: &Places, settings: &Settings, cgroup: &Path, plan: &Plan) -> anyhow::Result<Kernel> {
    if !plan.can_enforce() {
        bail!(NotPossible);
    }
    Ok(Kernel::load(Options {
        pin_dir: places.pins.clone(),
        cgroup: cgroup.to_owned(),
        bprm: plan.bprm,
        ima_max_bytes: settings.exec.max_file_bytes,
        exec_hooks: settings.exec.hooks,
        layers: Layers {
            egress: settings.network.egress,
            ingress: settings.network.ingress,
            raw_sockets: settings.network.raw_sockets != Rule::Allow,
            lsm: plan.bprm != Bprm::None,
        },
        contacts: settings.telemetry.contacts,
        protection: settings.self_protection.then(own_program).transpose()?,
    })?)
}

/// Whom self-protection lets do everything.
fn own_program() -> anyhow::Result<OwnProgram> {
    host::device::own_program(shared::seed()?).context("/proc/self/exe, which self-protection is to know")
}

fn open_journal(places: &Places, settings: &Settings, health: &Health) -> anyhow::Result<(Sink, Writer)> {
    let wanted = &settings.journal;
    let limits = Limits {
        segment_bytes: wanted.segment_bytes,
        total_bytes: wanted.total_bytes,
        max_age_hours: wanted.max_age.map_or(u64::MAX / 3600, |age| age.as_secs() / 3600),
    };
    let journal = Journal::open(&places.journal, limits, health)?;
    let mirror = wanted.mirror.clone().map(|path| MirrorSettings { path, max_bytes: 64 << 20, keep: 4 });
    Ok(Writer::start(journal, mirror, QUEUE, health)?)
}

/// The path of a cgroup below the cgroup2 mount point; `None` for the whole host.
fn below(mount: &Path, cgroup: &Path) -> Option<String> {
    let rest = cgroup.strip_prefix(mount).ok().filter(|rest| !rest.as_os_str().is_empty())?;
    Some(format!("/{}", rest.display()))
}

/// Attaches the hooks and starts the guard; something must judge, or there is no agent.
fn enforce(shared: &Arc<Shared>, sink: &Sink, fanotify: Attempt) -> anyhow::Result<GuardKeeper> {
    attach(shared)?;
    let guard = GuardKeeper::start(Arc::clone(shared), sink.clone(), fanotify)?;
    let decides = |state: &HookState| matches!(state, HookState::Attached { .. });
    if !guard.has_one() && !read(&shared.report).hooks.iter().any(|(_, state)| decides(state)) {
        bail!("this kernel refuses every hook; `cordon doctor` says why");
    }
    Ok(guard)
}

/// Attaches the hooks; each that this kernel refuses is a fault.
fn attach(shared: &Shared) -> anyhow::Result<()> {
    let report = shared::write(&shared.kernel).attach()?;
    for (hook, state) in &report.hooks {
        let name = crate::attribute::hook_name(*hook);
        match state {
            HookState::Attached { adopted } => tracing::info!(hook = name, adopted, "attached"),
            HookState::Unused { why } => tracing::debug!(hook = name, why, "not used"),
            HookState::Unavailable { why } => shared.health.raise(Fault::HookMissing, name, why.clone()),
        }
    }
    *shared::write(&shared.report) = report;
    Ok(())
}

/// Waits for a signal, a stage that ended, or break-glass.
async fn supervise(
    shared: &Arc<Shared>,
    writer: &Writer,
    stages: &mut JoinSet<Ended>,
    stop: &mut Stop,
) -> anyhow::Result<Next> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feed = interval(Duration::from_secs(1));
    feed.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.told() => return Ok(Next::Stop),
            () = shared.again.notified() => return Ok(Next::Again),
            _ = hangup.recv() => {
                if let Err(error) = reload(shared).await {
                    tracing::error!("reload refused: {error:#}");
                }
            }
            ended = stages.join_next() => {
                return match ended {
                    Some(Ok((name, Ok(())))) => Err(anyhow!("the stage `{name}` ended")),
                    Some(Ok((name, Err(error)))) => Err(error.context(format!("the stage `{name}` failed"))),
                    Some(Err(panic)) => Err(anyhow!("a stage died: {panic}")),
                    None => Err(anyhow!("all stages ended")),
                };
            }
            _ = look.tick() => {
                tell_refusals(shared);
                let changes = read(&shared.kernel).changes();
                if !changes.is_empty() {
                    return Ok(Next::Mend(changes.join(", ")));
                }
            }
            _ = feed.tick() => {
                if writer.has_ended() {
                    return Err(anyhow!("the stage `journal` ended"));
                }
                let stalled = shared.health.stalled(GRACE);
                if stalled.is_empty() {
                    say(&[NotifyState::Watchdog, NotifyState::Status(&answers::status_line(shared))]);
                } else {
                    shared.health.raise(Fault::StageStalled, "", stalled.join(", "));
                }
            }
        }
    }
}

/// Tells what self-protection refused since the last look.
fn tell_refusals(shared: &Shared) {
    let refusals = match read(&shared.kernel).take_refusals() {
        Ok(refusals) => refusals,
        Err(error) => return shared.health.raise(Fault::AttemptRefused, "", error.to_string()),
    };
    for refusal in refusals {
        tracing::warn!(
            pid = refusal.pid,
            comm = refusal.comm,
            program = refusal.program,
            "self-protection refused: {refusal}"
        );
        shared.health.raise(Fault::AttemptRefused, describe_attempt(refusal.attempt), refusal.to_string());
    }
}

/// Makes new generations when files change, when something begins or ends, and tells the kernel the time.
async fn keep_current(shared: &Arc<Shared>, mut watch: Watch) -> anyhow::Result<()> {
    let stage = shared.health.stage("intake", Duration::from_secs(1));
    let mut every_second = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            changed = watch.changed() => {
                let changed = changed?;
                follow(shared, &mut watch).await;
                let touched = move |source: &crate::intel::Source| {
                    changed.iter().any(|path| path.starts_with(&source.path) || source.path.starts_with(path))
                };
                // The fault says it; what is live stays.
                let _refused = shared.renew(touched).await;
            }
            _ = every_second.tick() => {
                shared.configure()?;
                if shared.live().and_then(|live| live.next_change).is_some_and(|change| change <= Timestamp::now()) {
                    let _refused = shared.renew(|_| false).await;
                }
            }
        }
        stage.tick();
    }
}

/// Watches what the sources read; what cannot be watched is still read at every reload.
async fn follow(shared: &Shared, watch: &mut Watch) {
    let paths = shared.intake.lock().await.watched();
    if let Err(error) = watch.add(paths.iter().map(PathBuf::as_path)) {
        shared.health.raise(Fault::SourceUnreadable, "inotify", format!("{error}; raise fs.inotify.max_user_watches"));
    }
}

/// Takes new settings, or keeps the old ones whole.
async fn reload(shared: &Arc<Shared>) -> anyhow::Result<u32> {
    let settings = match Settings::load(&shared.places) {
        Ok(settings) => Arc::new(settings),
        Err(error) => {
            shared.health.raise(Fault::SettingsRefused, "", error.to_string());
            return Err(error.into());
        }
    };
    shared.health.clear(Fault::SettingsRefused, "");
    shared.health.clear(Fault::Tampered, "");
    shared.health.clear(Fault::JournalShortened, "");
    shared.health.clear_all(Fault::FindingsNotSent);
    shared.health.clear_all(Fault::AttemptRefused);
    shared.intake.lock().await.resettle(Arc::clone(&settings));
    *shared::write(&shared.settings) = settings;
    shared.configure()?;
    shared.look.notify_one();
    shared.renew(|_| true).await
}

/// The signals that end the agent. Listened to from start to end: one that comes while nobody waits is kept.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}

/// Tells systemd, if it started us.
fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
