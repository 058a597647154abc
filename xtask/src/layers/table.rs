//! The one table of rooms. ARCHITECTURE.md prints it.

/// Whether a room may ask the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What it returns depends on what it was given and on nothing else.
    Pure,
    /// It reads or writes something outside.
    World,
}

/// A room of `agent`.
#[derive(Debug)]
pub struct Room {
    /// Its module.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Whether it may ask the world.
    pub kind: Kind,
    /// The rooms whose names it may use.
    uses: &'static [&'static str],
}

impl Room {
    /// Whether this room may name `other`; `app` and `cli`, on top of all, may name whatever lies below them.
    pub fn may_use(&self, other: &str) -> bool {
        match self.name {
            "app" => other != "cli",
            "cli" => true,
            _ => self.uses.contains(&other),
        }
    }
}

const fn room(name: &'static str, kind: Kind, uses: &'static [&'static str], does: &'static str) -> Room {
    Room { name, does, kind, uses }
}

/// All rooms, in the order in which things flow.
pub const ROOMS: &[Room] = &[
    room("health", Kind::World, &[], "counters, numbered faults, liveness of the stages"),
    room("http", Kind::World, &[], "asking servers: caps on size and time, retries, TLS"),
    room("intel", Kind::World, &["http", "health"], "sources → `Indicator`"),
    room("bundle", Kind::World, &["http"], "a signed repository, wherever it is → `Verified` bundle"),
    room("policy", Kind::Pure, &["intel", "bundle"], "which indicator blocks, which reports, what is never blocked"),
    room(
        "settings",
        Kind::World,
        &["http", "intel", "policy", "journal", "report"],
        "one TOML file → `Settings`, validated once",
    ),
    room("tables", Kind::Pure, &["intel", "policy"], "indicators and policy → image and provenance"),
    room("event", Kind::Pure, &[], "bytes → `Event`"),
    room(
        "kernel",
        Kind::World,
        &["intel", "tables", "event", "health"],
        "image → attached, pinned programs; rings → `Event`",
    ),
    room("host", Kind::World, &["kernel", "health"], "the only reader of /proc, cgroupfs, passwd and files to hash"),
    room("enrich", Kind::World, &["event", "host", "health"], "event and host → `Observation`"),
    room(
        "attribute",
        Kind::Pure,
        &["event", "enrich", "intel", "policy", "tables"],
        "observation and provenance → `Finding`",
    ),
    room("journal", Kind::World, &["attribute", "enrich", "intel", "policy", "health"], "the local log"),
    room(
        "report",
        Kind::World,
        &["http", "journal", "attribute", "enrich", "intel", "policy", "health"],
        "journal → JSON, OCSF, ECS, a page and sums for people; journald, sightings and metrics out",
    ),
    room(
        "fleet",
        Kind::World,
        &["http", "bundle", "policy", "settings", "attribute"],
        "the message bus: policies and orders down, records and heartbeats up",
    ),
    room(
        "control",
        Kind::World,
        &["health", "intel", "policy", "journal", "attribute"],
        "the socket between daemon and CLI",
    ),
    room(
        "selftest",
        Kind::World,
        &["kernel", "host", "attribute", "journal", "control", "settings"],
        "the known ways around, each tried in a sandbox",
    ),
    room("app", Kind::World, &[], "the only file that knows all rooms: channels, supervision, reload, stop"),
    room("cli", Kind::World, &[], "one file per verb"),
];

/// The table as ARCHITECTURE.md prints it.
pub fn render() -> String {
    let mut text = String::from("| room | does | asks the world | may use |\n|---|---|---|---|\n");
    for room in ROOMS {
        let asks = if room.kind == Kind::Pure { "never" } else { "yes" };
        let uses = match room.name {
            "app" => "all but `cli`".to_owned(),
            "cli" => "all".to_owned(),
            _ if room.uses.is_empty() => "nothing".to_owned(),
            _ => room.uses.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" "),
        };
        text.push_str(&format!("| `{}` | {} | {asks} | {uses} |\n", room.name, room.does));
    }
    text.push_str(
        "\nOnly `kernel` and agent-ebpf name aya, libc or `unsafe`. A file has at most 600 lines, a function 80, a `main.rs` 80.\n",
    );
    text
}
