//! What the stages share, and how a new generation goes live.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use agent_common::image::{Action as Decision, Block};
use agent_common::wire::Mode as KernelMode;
use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};

use super::central::Following;
use super::fetch::{Fetches, Wanted};
use super::generations::GenerationFiles;
use super::intake::Intake;
use super::operator::Operator;
use super::orders::StandingOrders;
use super::own_files::OwnFiles;
use super::share::Told;
use crate::attribute::{Behind, hook_name};
use crate::event::{Action, Event, Hook};
use crate::health::{Fault, Health};
use crate::host::DigestCache;
use crate::intel::packed::HeldSkips;
use crate::intel::{Observable, Skips};
use crate::kernel::{
    self, DigestKinds, HookState, Kernel, MappedImage, NAME_HOOKS, NameSettings, Report, SocketRules, Switches,
};
use crate::policy::{Central, Ruled};
use crate::settings::network::Rule;
use crate::settings::{Mode, Places, Settings};
use crate::tables::{self, Bearing, Identity, Matched, Provenance, Summary, Watch};

/// A generation that is or was live.
pub struct Live {
    /// Its number.
    pub generation: u32,
    /// The same, told from all that ever were.
    identity: Identity,
    /// Whose intelligence its entries are.
    pub provenance: Provenance,
    /// What it holds.
    pub summary: Summary,
    /// What each exec is compared with; of a generation from before this start nothing.
    pub watch: Watch,
    /// Of which digests it has any.
    pub digest_kinds: DigestKinds,
    /// The serial of the organisation's policy that it was made under.
    pub serial: Option<u64>,
    /// When it went live.
    pub published: Timestamp,
    /// When the clock alone makes another one necessary.
    pub next_change: Option<Timestamp>,
    /// Hits of the kernel's hooks that are in the journal: what its counters say, less what is on its way or lost.
    pub recorded: AtomicU64,
}

/// Generations that hits may still arrive from: after a start, the two that the agent before left and the own first.
const REMEMBERED: usize = 3;
/// Of those that an agent before this one left.
const ADOPTED: usize = 2;
/// What a fault of theirs is about.
const BEFORE: &str = "before this start";
/// Indicators of one value that are told.
const LISTED: usize = 32;

/// What the stages share.
pub struct Shared {
    /// Where things are.
    pub places: Places,
    /// Counters, faults, liveness.
    pub health: Health,
    /// When the agent started.
    pub started: Timestamp,
    /// The kernel half.
    pub kernel: RwLock<Kernel>,
    /// What became of each hook.
    pub report: RwLock<Report>,
    /// Whether the exec guard answers.
    pub guard_works: AtomicBool,
    /// Newest first.
    pub generations: RwLock<VecDeque<Arc<Live>>>,
    /// Where their provenance is kept.
    pub files: GenerationFiles,
    /// Sources. A tokio mutex: it is held while files are read.
    pub intake: tokio::sync::Mutex<Intake>,
    /// Local rules.
    pub operator: Arc<Mutex<Operator>>,
    /// Orders of the organisation's operators.
    pub orders: Mutex<StandingOrders>,
    /// In force.
    pub settings: RwLock<Arc<Settings>>,
    /// The organisation's policy that the live generation was made under.
    pub central: RwLock<Option<Arc<Central>>>,
    /// How it goes with that.
    pub following: Mutex<Following>,
    /// The message bus, and how it goes with it.
    #[cfg(feature = "bus")]
    pub bus: Mutex<super::bus::Attachment>,
    /// The policy is to be looked for now.
    pub look: Notify,
    /// Digests of files.
    pub digests: Arc<DigestCache>,
    /// What packages of this host installed.
    pub own_files: Arc<Mutex<OwnFiles>>,
    /// Path of the enforced cgroup below the cgroup2 mount point; `None` for the whole host.
    pub scope: Option<String>,
    /// Hits that user space found itself.
    pub found: mpsc::Sender<Event>,
    /// How the fetching of sources goes.
    pub fetches: Fetches,
    /// How it goes with those who are told of sightings.
    pub told: Told,
    /// Asks for sources to be fetched now.
    pub fetch: mpsc::Sender<Wanted>,
    /// A new generation went live: who runs already is looked at again.
    pub renewed: watch::Sender<()>,
    /// The agent is to come up anew, as after `cordon off`.
    pub again: Notify,
}

/// A panic elsewhere leaves these values whole: each is replaced in one piece.
pub fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// See [`read`].
pub fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// See [`read`].
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Reads the sources that `wanted` accepts again and makes what they say live, as one generation or not at all.
    ///
    /// # Errors
    /// The generation could not be compiled or published; the one before it stays live and a fault is raised.
    pub async fn renew(
        self: &Arc<Self>,
        wanted: impl Fn(&crate::intel::Source) -> bool + Send + 'static,
    ) -> anyhow::Result<u32> {
        self.renew_with(wanted, |_| ()).await
    }

    /// Makes a generation under another policy of the organisation's, as a whole or not at all.
    ///
    /// # Errors
    /// As [`Self::renew`]; the policy before stays.
    pub async fn renew_under(self: &Arc<Self>, central: Option<Arc<Central>>) -> anyhow::Result<u32> {
        self.renew_with(|_| false, move |intake| drop(intake.replace_central(central))).await
    }

    async fn renew_with(
        self: &Arc<Self>,
        wanted: impl Fn(&crate::intel::Source) -> bool + Send + 'static,
        change: impl FnOnce(&mut Intake) + Send + 'static,
    ) -> anyhow::Result<u32> {
        let shared = Arc::clone(self);
        let renewed = tokio::task::spawn_blocking(move || {
            let mut intake = shared.intake.blocking_lock();
            let before = intake.central().cloned();
            change(&mut intake);
            intake.read(Timestamp::now(), wanted);
            let published = shared.publish(&mut intake);
            let configured = match &published {
                Ok(_) => {
                    // Nobody is told of a policy before its mode is in force, and nobody sets another one meanwhile.
                    let mut central = write(&shared.central);
                    *central = intake.central().cloned();
                    shared.configure_under(central.as_deref())
                }
                Err(_) => {
                    intake.replace_central(before);
                    Ok(())
                }
            };
            drop(intake);
            kernel::give_back_small();
            let generation = published?;
            configured?;
            // It is live, whatever becomes of the hooks that it asks for.
            if let Err(error) = shared.follow_names() {
                shared.health.raise(Fault::HookMissing, hook_name(Hook::EgressDns), error.to_string());
            }
            anyhow::Ok(generation)
        });
        match renewed.await? {
            Ok(generation) => {
                self.health.clear(Fault::GenerationRefused, "");
                self.renewed.send_replace(());
                Ok(generation)
            }
            Err(error) => {
                self.health.raise(Fault::GenerationRefused, "", format!("{error:#}"));
                Err(error)
            }
        }
    }

    fn publish(&self, intake: &mut Intake) -> anyhow::Result<u32> {
        let now = Timestamp::now();
        let kernel = read(&self.kernel);
        let least = kernel.mapped_image().ok().and_then(|image| image.generation().ok()).map_or(1, |last| last + 1);
        let operator = lock(&self.operator);
        let generation = operator.next_generation(least)?;
        let prepared = intake.prepare(&operator, &lock(&self.orders), &self.own_files, now, generation, seed()?)?;
        drop(operator);
        let blocks = u32::try_from(prepared.compilation.blocks()).context("the image is larger than a map can be")?;
        let (mut unwritten, mut kept) = (Some(prepared), None);
        let published = kernel.publish(blocks, generation, |memory: &mut [Block]| {
            let mut prepared = unwritten.take().context("an image is written once")?;
            let watch = prepared.compilation.take_watch();
            let (provenance, summary) = prepared.compilation.write(memory)?;
            tracing::info!(generation, entries = summary.entries(), bytes = summary.bytes, "a generation is ready");
            let digest_kinds = DigestKinds::of(memory).unwrap_or_default();
            let (next_change, recorded) = (prepared.next_change, AtomicU64::new(0));
            let identity = Identity::of(memory).ok().context("an image without its identity")?;
            let serial = intake.central().map(|central| central.document().serial);
            let (provenance, skips) = self.keep(provenance, identity, serial, &intake.skips());
            kept = skips;
            // Before the kernel switches to it: a hit may come the moment it does.
            let published = now;
            let live = Live {
                generation,
                identity,
                provenance,
                summary,
                watch,
                digest_kinds,
                serial,
                published,
                next_change,
                recorded,
            };
            write(&self.generations).push_front(Arc::new(live));
            anyhow::Ok(())
        });
        let mut generations = write(&self.generations);
        if published.is_err() {
            generations.retain(|known| known.generation != generation);
        }
        generations.truncate(REMEMBERED);
        let remembered: Vec<u32> = generations.iter().map(|known| known.generation).collect();
        drop(generations);
        if remembered.len() == REMEMBERED {
            self.health.clear(Fault::GenerationNotKept, BEFORE);
        }
        if let Err(error) = self.files.keep_only(&remembered) {
            self.health.raise(Fault::GenerationNotKept, "", format!("{error:#}"));
        }
        published?;
        if let (Some(skips), Some(live)) = (kept, self.live()) {
            intake.settle(live.provenance.ruled(), skips);
        }
        Ok(generation)
    }

    /// Moves the provenance of a generation into its file, with what was skipped; where that cannot be done it stays in
    /// memory, which is a fault and no more.
    fn keep(
        &self,
        provenance: Provenance,
        identity: Identity,
        serial: Option<u64>,
        skips: &[&Skips],
    ) -> (Provenance, Option<Vec<HeldSkips>>) {
        let before = read(&self.generations).front().map(|known| known.identity);
        match self.files.keep(&provenance, identity, before, serial, skips) {
            Ok(kept) => {
                self.health.clear(Fault::GenerationNotKept, "");
                (kept.provenance, Some(kept.skips))
            }
            Err(error) => {
                self.health.raise(Fault::GenerationNotKept, "", format!("{error:#}"));
                (provenance, None)
            }
        }
    }

    /// Takes up what an agent before this one left in force, and what came before that: hits of both may be on their way.
    pub fn adopt(&self) {
        let image = match read(&self.kernel).mapped_image() {
            Ok(image) => image,
            Err(kernel::Error::NoGeneration) => return,
            Err(error) => return self.health.raise(Fault::GenerationNotKept, BEFORE, error.to_string()),
        };
        let mut next = Identity::of(&**image).ok();
        for _ in 0..ADOPTED {
            let Some(identity) = next else { return };
            let kept = match self.files.open(identity) {
                Ok(kept) => kept,
                Err(error) => return self.health.raise(Fault::GenerationNotKept, BEFORE, format!("{error:#}")),
            };
            next = kept.before;
            write(&self.generations).push_back(Arc::new(Live {
                generation: identity.generation,
                identity,
                provenance: kept.provenance,
                summary: Summary::default(),
                watch: Watch::default(),
                digest_kinds: DigestKinds::default(),
                serial: kept.serial,
                published: self.started,
                next_change: None,
                recorded: AtomicU64::new(0),
            }));
        }
    }

    /// Attaches the hooks that judge names, or removes them, as the live generation asks for. At the start there are no hooks
    /// yet, and attaching them all comes next.
    fn follow_names(&self) -> anyhow::Result<()> {
        let mut report = write(&self.report);
        if report.hooks.is_empty() {
            return Ok(());
        }
        write(&self.kernel).follow_names(&mut report)?;
        for hook in NAME_HOOKS {
            match report.state(hook) {
                Some(HookState::Unavailable { why }) => {
                    self.health.raise(Fault::HookMissing, hook_name(hook), why.clone());
                }
                _ => {
                    self.health.clear(Fault::HookMissing, hook_name(hook));
                }
            }
        }
        Ok(())
    }

    /// The live generation.
    pub fn live(&self) -> Option<Arc<Live>> {
        read(&self.generations).front().cloned()
    }

    /// Counts hits of the kernel's hooks that are now in the journal.
    pub fn count_recorded(&self, generation: u32, hits: u64) {
        let generations = read(&self.generations);
        if let Some(live) = generations.iter().find(|live| live.generation == generation) {
            live.recorded.fetch_add(hits, Ordering::Relaxed);
        }
    }

    /// Whether what is listed is blocked: as the organisation's policy says or, where that says nothing, the settings.
    pub fn mode(&self) -> Mode {
        mode(&read(&self.settings), read(&self.central).as_deref())
    }

    /// Tells the hooks mode and clock.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn configure(&self) -> anyhow::Result<()> {
        // Held to the end, so that no mode from before comes behind one of a new policy.
        self.configure_under(read(&self.central).as_deref())
    }

    fn configure_under(&self, central: Option<&Central>) -> anyhow::Result<()> {
        let settings = Arc::clone(&read(&self.settings));
        let mode = match mode(&settings, central) {
            Mode::Enforce => KernelMode::Enforce,
            Mode::Monitor => KernelMode::Monitor,
        };
        let action = |rule| match rule {
            Rule::Allow => Decision::Allow,
            Rule::Report => Decision::Report,
            Rule::Deny => Decision::Block,
        };
        let sockets = SocketRules {
            source_routes: action(settings.network.source_routes),
            raw_sockets: action(settings.network.raw_sockets),
            unread_names: action(settings.network.unread_names),
        };
        let names = settings.names.clone();
        let names = NameSettings { dns_ports: names.dns, tls_ports: names.tls, http_ports: names.http };
        let kernel = read(&self.kernel);
        kernel.configure_names(&names)?;
        kernel.configure(&Switches { mode, off_until_boot_ns: 0, send_execs: true, sockets })?;
        Ok(())
    }

    /// Calls `with` with whoever is behind an event: by its entry, or by its value when its generation is gone.
    pub fn behind<T>(&self, event: &Event, with: impl FnOnce(&Behind<'_>) -> T) -> T {
        if event.matched.is_some_and(|matched| matched.behaviour().is_some()) {
            return with(&Behind::default());
        }
        let generations = read(&self.generations).clone();
        let live = event.matched.and_then(|matched| {
            generations.iter().find(|live| live.generation == matched.generation).map(|live| (live, matched.entry))
        });
        let serial = live.and_then(|(live, _)| live.serial);
        let by_entry = live.and_then(|(live, entry)| self.known(live, entry));
        let found = by_entry.or_else(|| {
            let value = observable_of(&event.action)?;
            let (image, live) = self.deciding()?;
            self.known(&live, look_up(&image, &value)?.entry)
        });
        match &found {
            Some(found) => with(&Behind {
                primary: Some(found.primary()),
                others: found.others().collect(),
                beyond: found.beyond(),
                serial,
            }),
            None => {
                self.health.raise(Fault::UnknownIndicator, "", format!("{:?}", event.matched));
                with(&Behind::default())
            }
        }
    }

    /// What a generation knows of an entry of its own; that it cannot be read is a fault.
    pub fn known(&self, live: &Live, entry: u32) -> Option<Matched> {
        live.provenance.get(entry).unwrap_or_else(|error| {
            self.health.raise(Fault::UnknownIndicator, "", format!("generation {}: {error}", live.generation));
            None
        })
    }

    /// What a generation knows of a value that no entry of it stands for, and how much more.
    pub fn listed(&self, live: &Live, value: &Observable) -> (Vec<Ruled>, usize) {
        live.provenance.ruled().of(value, LISTED).unwrap_or_else(|error| {
            self.health.raise(Fault::UnknownIndicator, "", format!("generation {}: {error}", live.generation));
            Default::default()
        })
    }

    /// What decides now: the image, and the generation that it is of. `None` before the first.
    pub fn deciding(&self) -> Option<(Arc<MappedImage>, Arc<Live>)> {
        let image = read(&self.kernel).mapped_image().ok()?;
        let number = image.generation().ok()?;
        let live = read(&self.generations).iter().find(|live| live.generation == number).cloned()?;
        Some((image, live))
    }
}

/// As the policy says or, where that says nothing, the settings.
fn mode(settings: &Settings, central: Option<&Central>) -> Mode {
    central.and_then(|central| central.document().mode).unwrap_or(settings.mode)
}

/// What an image says of a value now.
pub fn look_up(image: &[Block], value: &Observable) -> Option<agent_common::image::Hit> {
    let now = u32::try_from(Timestamp::now().as_second()).unwrap_or(u32::MAX);
    match tables::look_up(image, value, now).ok()? {
        Bearing::Hit(hit) => Some(hit),
        Bearing::Unknown | Bearing::Unseen => None,
    }
}

/// The value that a hook looked up first.
fn observable_of(action: &Action) -> Option<Observable> {
    match action {
        Action::Network { address, port, .. } => Some(match crate::intel::normalise::ip(*address) {
            address if *port != 0 => Observable::Endpoint(address, *port),
            IpAddr::V4(address) => Observable::Ipv4(address),
            IpAddr::V6(address) => Observable::Ipv6(address),
        }),
        Action::Socket { .. } => None,
        Action::Name { name, .. } => crate::intel::normalise::domain(name).ok(),
        Action::Exec { sha256, .. } => sha256.map(Observable::Sha256),
    }
}

/// Random and secret, so that nobody can choose values that collide.
pub fn seed() -> anyhow::Result<agent_common::image::Seed> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    let bits = u128::from_ne_bytes(bytes);
    Ok(agent_common::image::Seed((bits >> 64) as u64, bits as u64))
}
