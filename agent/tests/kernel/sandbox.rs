//! A cgroup, a bpf file system and a runtime for one test, gone when it ends, even by a panic.

use std::fmt::Display;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use agent::event::{Action as Did, Event};
use agent::intel::{Indicator, Observable, Origin, Place};
use agent::kernel::{Bprm, EventRing, Kernel, Layers, Options, Report, SocketRules, Switches, unpin_all};
use agent::policy::{Action, Inbound, Ruled, Ruling};
use agent::tables::{Tables, compile};
use agent_common::image::Seed;
use agent_common::wire::Mode;
use jiff::Timestamp;

/// A process is in one cgroup at a time, so one test runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Sandbox {
    pub cgroup: PathBuf,
    pub pins: PathBuf,
    pub files: tempfile::TempDir,
    /// Where the bpf file system is mounted and where this process came from; `None` in a child, which cleans up nothing.
    own: Option<(PathBuf, PathBuf)>,
    runtime: tokio::runtime::Runtime,
    _turn: MutexGuard<'static, ()>,
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(line) = line else { panic!("these tests need a cgroup2 mount") };
    PathBuf::from(line.split(' ').nth(1).unwrap())
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

impl Sandbox {
    pub fn new() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t0\t"));
        assert!(uid.is_some(), "these tests need root: they attach eBPF programs to a cgroup of their own");
        let root = cgroup_root();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        let name = format!("cordon-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let files = tempfile::tempdir().unwrap();
        let mount = files.path().join("bpf");
        fs::create_dir(&mount).unwrap();
        run("mount", &[Path::new("-t"), Path::new("bpf"), Path::new("bpf"), &mount]);
        let sandbox = Self {
            cgroup: root.join(name),
            pins: mount.join("cordon"),
            files,
            own: Some((mount, root.join(own))),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            _turn: turn,
        };
        fs::create_dir(&sandbox.cgroup).unwrap();
        sandbox.enter();
        sandbox
    }

    /// The place of another process's sandbox.
    pub fn borrow(pins: PathBuf, cgroup: PathBuf) -> Self {
        Self {
            cgroup,
            pins,
            files: tempfile::tempdir().unwrap(),
            own: None,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            _turn: ONE_AT_A_TIME.lock().unwrap(),
        }
    }

    pub fn enter(&self) {
        fs::write(self.cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }

    /// Does something while this process is where it came from: outside of the hooked cgroup.
    pub fn outside<T>(&self, act: impl FnOnce() -> T) -> T {
        let Some((_, home)) = &self.own else { panic!("a borrowed sandbox has no outside") };
        fs::write(home.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        let done = act();
        self.enter();
        done
    }

    pub fn options(&self) -> Options {
        Options {
            pin_dir: self.pins.clone(),
            cgroup: self.cgroup.clone(),
            bprm: Bprm::None,
            ima_max_bytes: 0,
            exec_hooks: true,
            layers: Layers::default(),
            contacts: false,
            protection: None,
        }
    }

    /// Loads, publishes `rules` as generation 1 and attaches.
    pub fn start(&self, mode: Mode, rules: Rules) -> Running {
        let mut running = self.load();
        running.configure(mode);
        running.publish(1, rules);
        running.attach();
        running
    }

    pub fn load(&self) -> Running {
        self.load_with(|_| {})
    }

    pub fn load_with(&self, change: impl FnOnce(&mut Options)) -> Running {
        let mut options = self.options();
        change(&mut options);
        let guard = self.runtime.enter();
        let mut kernel = Kernel::load(options).unwrap_or_else(|error| panic!("{error}"));
        let hits = kernel.take_hits().unwrap().unwrap();
        let execs = kernel.take_execs().unwrap().unwrap();
        drop(guard);
        Running { kernel, hits, execs, tables: None, report: Report::default() }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Some((mount, home)) = &self.own else { return };
        let left = unpin_all(&self.pins);
        let _ = fs::write(home.join("cgroup.procs"), std::process::id().to_string());
        let unmounted = Command::new("umount").arg("-l").arg(mount).status();
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.cgroup).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(std::thread::panicking() || left.is_ok(), "{left:?}");
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

/// What is listed.
#[derive(Clone, Default)]
pub struct Rules(Vec<Ruled>, Vec<Observable>);

impl Rules {
    pub fn add(self, observable: Observable, action: Action, expires: Option<Timestamp>) -> Self {
        self.add_with(observable, action, action.into(), expires)
    }

    pub fn add_with(
        mut self,
        observable: Observable,
        action: Action,
        inbound: Inbound,
        expires: Option<Timestamp>,
    ) -> Self {
        let indicator = Arc::new(Indicator {
            id: Some(format!("indicator--{}", self.0.len()).into()),
            valid_until: expires,
            ..Indicator::new(vec![observable.clone()], Origin { file: "test".into(), place: Place::Line(1) })
        });
        self.0.push(Ruled {
            observable,
            source: "test".into(),
            action,
            inbound,
            expires,
            rule: "feeds.test".into(),
            is_trial: false,
            indicator,
        });
        self
    }

    pub fn block(self, observable: Observable) -> Self {
        self.add(observable, Action::Block, None)
    }

    pub fn block_ip(self, address: &str) -> Self {
        let observable = match address.parse().unwrap() {
            IpAddr::V4(address) => Observable::Ipv4(address),
            IpAddr::V6(address) => Observable::Ipv6(address),
        };
        self.block(observable)
    }

    pub fn allow(mut self, observable: Observable) -> Self {
        self.1.push(observable);
        self
    }
}

pub struct Running {
    pub kernel: Kernel,
    pub hits: EventRing,
    pub execs: EventRing,
    pub tables: Option<Tables>,
    pub report: Report,
}

impl Running {
    pub fn configure(&self, mode: Mode) {
        self.configure_with(mode, SocketRules::default());
    }

    pub fn configure_with(&self, mode: Mode, sockets: SocketRules) {
        self.kernel.configure(&Switches { mode, off_until_boot_ns: 0, send_execs: true, sockets }).unwrap();
    }

    pub fn publish(&mut self, generation: u32, rules: Rules) {
        let ruling = Ruling { ruled: rules.0.into(), exceptions: rules.1, ..Ruling::default() };
        let tables = compile(ruling, generation, Seed(0x1234_5678_9abc_def0, u64::from(generation))).unwrap();
        self.kernel
            .publish(u32::try_from(tables.image.len()).unwrap(), generation, |image| {
                image.copy_from_slice(&tables.image);
                Ok::<(), &dyn Display>(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        self.tables = Some(tables);
    }

    pub fn attach(&mut self) {
        self.report = self.kernel.attach().unwrap_or_else(|error| panic!("{error}"));
        for hook in CGROUP_HOOKS {
            assert!(self.report.is_attached(hook), "{:?}", self.report);
        }
    }

    /// The hits that have come, all decoded.
    pub fn events(&mut self) -> Vec<Event> {
        let batch = self.hits.drain();
        assert!(batch.damaged.is_empty(), "{:?}", batch.damaged);
        batch.events
    }

    /// The one hit that must have come.
    pub fn event(&mut self) -> Event {
        let events = self.events();
        let [event] = events.as_slice() else { panic!("one hit expected: {events:?}") };
        event.clone()
    }

    /// What the entry of a hit stands for.
    pub fn observable(&self, event: &Event) -> Observable {
        let tables = self.tables.as_ref().unwrap();
        let matched = event.matched.unwrap();
        assert_eq!(matched.generation, tables.generation);
        let found = tables.provenance.get(matched.entry).unwrap().unwrap();
        found.primary().observable.clone()
    }

    /// Sum of the hit counters of a generation.
    pub fn counted(&self, generation: u32) -> u64 {
        self.kernel.hits(generation).unwrap().iter().map(|(_, count)| count).sum()
    }
}

/// Major and minor number of the running kernel.
pub fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

pub const CGROUP_HOOKS: [agent::event::Hook; 4] = [
    agent::event::Hook::Connect4,
    agent::event::Hook::Connect6,
    agent::event::Hook::Sendmsg4,
    agent::event::Hook::Sendmsg6,
];

/// The destination of a network event.
pub fn destination(event: &Event) -> (IpAddr, u16) {
    match event.action {
        Did::Network { address, port, .. } | Did::Name { address, port, .. } => (address, port),
        Did::Socket { .. } | Did::Exec { .. } => panic!("not a network event: {event:?}"),
    }
}

/// Tells the threads of a scope to stop, even when what they watch panics: the scope waits for them.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
