//! `cargo xtask layers`: the rooms, the import directions between them, what only one room may name, and the sizes.

mod source;
mod table;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::source::Source;
use self::table::{Kind, ROOMS, Room};
use crate::tool;
use crate::workspace::Workspace;

const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- layers -->";
const END: &str = "<!-- /layers -->";
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 80;
const MAIN_LINES: usize = 80;
const DRAWERS: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "misc", "manager", "test_utils"];
/// What only `kernel` may name, in all of `agent`.
const KERNEL_ONLY: [&str; 5] = ["aya", "aya_log", "aya_obj", "libc", "syscalls"];
/// What a pure room may not name: anything that asks the world, or remembers.
const IMPURE: [&[&str]; 19] = [
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["ToSocketAddrs"],
    &["SystemTime"],
    &["Instant"],
    &["Timestamp", "now"],
    &["Zoned", "now"],
    &["tokio"],
    &["OnceLock"],
    &["LazyLock"],
];
/// Rooms inside rooms that are pure although the room around them is not.
const PURE_INNER_ROOMS: [&str; 3] = ["intel/parse", "intel/normalise", "intel/packed"];
/// The crates; unsafe code is refused in all but those that say otherwise.
const CRATES: [(&str, Unsafe); 4] = [
    ("agent", Unsafe::InFolder("agent/src/kernel")),
    ("agent-common", Unsafe::Nowhere),
    ("agent-ebpf", Unsafe::Anywhere),
    ("xtask", Unsafe::InFolder("xtask/src/bin")),
];

#[derive(Clone, Copy)]
enum Unsafe {
    Nowhere,
    Anywhere,
    InFolder(&'static str),
}

/// What to do about a document that differs.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Write the table of rooms into ARCHITECTURE.md
    #[arg(long)]
    bless: bool,
}

/// Checks the sources and the document.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut faults = Vec::new();
    for (name, may) in CRATES {
        for file in rust_files(&workspace.path(name))? {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let path = file.strip_prefix(workspace.root()).unwrap_or(&file).to_path_buf();
            let source = Source::parse(path, &text)?;
            faults.extend(size_faults(&source));
            faults.extend(unsafe_faults(&source, may));
            if name == "agent" {
                faults.extend(room_faults(&source));
            }
        }
    }
    faults.extend(missing_rooms(workspace)?);
    if !faults.is_empty() {
        bail!("{} {}:\n  {}", faults.len(), plural(faults.len()), faults.join("\n  "));
    }
    document(workspace, arguments.bless)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "place breaks the rules of the house" } else { "places break the rules of the house" }
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && tool::name(&path) != "target" {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn size_faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let path = source.path.display();
    let limit = if source.path.ends_with("src/main.rs") { MAIN_LINES } else { FILE_LINES };
    if source.lines > limit {
        faults.push(format!("{path}: {} lines, at most {limit}: split it by what its parts are about", source.lines));
    }
    for function in &source.functions {
        if function.lines > FUNCTION_LINES {
            let (name, lines) = (&function.name, function.lines);
            faults.push(format!("{path}:{}: `{name}` has {lines} lines, at most {FUNCTION_LINES}", function.line));
        }
    }
    faults
}

fn unsafe_faults(source: &Source, may: Unsafe) -> Vec<String> {
    let folder = match may {
        Unsafe::Anywhere => return Vec::new(),
        Unsafe::InFolder(folder) if source.path.starts_with(folder) => return Vec::new(),
        Unsafe::InFolder(folder) => folder,
        Unsafe::Nowhere => "nothing in this crate",
    };
    let uses = source.names.iter().filter(|name| name.path == ["unsafe"]);
    uses.map(|name| format!("{}:{}: only {folder} may be unsafe", source.path.display(), name.line)).collect()
}

fn room_faults(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("agent/src").ok() else { return Vec::new() };
    if source.is_test() {
        return Vec::new();
    }
    let at = |line: usize, words: String| format!("{}:{line}: {words}", source.path.display());
    let mut faults: Vec<String> = drawers(inside).map(|name| at(1, format!("no room is called `{name}`"))).collect();
    let Some(room) = room_of(inside) else { return faults };
    let Some(rules) = ROOMS.iter().find(|known| known.name == room) else {
        faults.push(at(1, format!("the table in xtask/src/layers/table.rs knows no room `{room}`")));
        return faults;
    };
    let is_pure = rules.kind == Kind::Pure || PURE_INNER_ROOMS.iter().any(|pure| is_inside(inside, pure));
    for name in &source.names {
        if let Some(other) = name.room(inside)
            && other != room
            && ROOMS.iter().any(|known| known.name == other)
            && !rules.may_use(other)
        {
            faults.push(at(name.line, format!("`{room}` may not use `{other}`")));
        }
        if room != "kernel" && name.path.len() > 1 && KERNEL_ONLY.contains(&name.path[0].as_str()) {
            faults.push(at(name.line, format!("only `kernel` may name `{}`", name.path[0])));
        }
        if is_pure && let Some(banned) = IMPURE.iter().find(|banned| name.holds(banned)) {
            faults.push(at(name.line, format!("`{room}` is pure and may not name `{}`", banned.join("::"))));
        }
    }
    faults
}

fn drawers(path: &Path) -> impl Iterator<Item = &'static str> {
    let parts: Vec<String> = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    DRAWERS.into_iter().filter(move |drawer| parts.iter().any(|part| part == drawer))
}

fn is_inside(path: &Path, room: &str) -> bool {
    path.starts_with(room) || path.with_extension("") == Path::new(room)
}

/// `intel` for `intel.rs`, `intel/mod.rs` and `intel/parse/stix.rs`; nothing for the crate's own two files.
fn room_of(inside: &Path) -> Option<String> {
    let first = inside.iter().next()?.to_string_lossy().into_owned();
    let name = first.strip_suffix(".rs").unwrap_or(&first);
    (name != "lib" && name != "main").then(|| name.to_owned())
}

fn missing_rooms(workspace: &Workspace) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let folder = workspace.path("agent/src");
    for Room { name, .. } in ROOMS {
        if !folder.join(name).is_dir() && !folder.join(format!("{name}.rs")).is_file() {
            faults.push(format!("xtask/src/layers/table.rs: there is no room `{name}`"));
        }
    }
    Ok(faults)
}

fn document(workspace: &Workspace, bless: bool) -> Result<()> {
    let path = workspace.path(DOCUMENT);
    let Ok(text) = fs::read_to_string(&path) else {
        bail!(
            "{DOCUMENT} is missing: write it with the lines `{BEGIN}` and `{END}`, then run `cargo xtask layers --bless`"
        );
    };
    let fresh = with_table(&text, &table::render())?;
    if fresh == text {
        return Ok(());
    }
    if !bless {
        bail!(
            "the table of rooms in {DOCUMENT} is not the one in force: run `cargo xtask layers --bless` and commit it"
        );
    }
    fs::write(&path, fresh).with_context(|| format!("cannot write {DOCUMENT}"))?;
    tool::progress(format_args!("wrote the table of rooms into {DOCUMENT}"));
    Ok(())
}

fn with_table(text: &str, table: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("{DOCUMENT} has no place for the table of rooms: add the lines `{BEGIN}` and `{END}`");
    };
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}
