//! How long a set takes to become what the kernel decides by, and how much memory of the kernel's.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::time::Instant;

use agent::intel::{Source, source};
use agent::policy::{self, Rules, Supply};
use agent::tables::{Compilation, Provenance};
use agent_common::image::Seed;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::intelligence::{listed, ruling, shuffled};
use crate::report::{Report, Target};
use crate::sample::{Sample, thread_time};
use crate::sandbox::{Cordon, Sandbox};

const SECONDS: f64 = 4.0;
const BYTES: f64 = 8.0;

/// Adds `compile and publish` and `from file to live` of 1M and 10M addresses.
pub fn run(sandbox: &Sandbox, quick: bool, report: &mut Report) -> Result<()> {
    let cordon = sandbox.cordon("publish", ruling(&[]))?;
    let sizes: &[(&str, usize, u32)] =
        if quick { &[("10k", 10_000, 2)] } else { &[("1M", 1_000_000, 7), ("10M", 10_000_000, 5)] };
    let mut generation = 1;
    for &(name, size, rounds) in sizes {
        let set = shuffled(&listed(size));
        let targets = (name == "10M").then_some((Target::AtMost(SECONDS), Target::AtMost(BYTES)));
        let name = format!("{name} indicators");
        let mut whole = Parts::default();
        for _ in 0..rounds {
            generation += 1;
            whole.measure(&cordon, &set, generation)?;
        }
        let title = "compile and publish";
        report.measured(title, &name, "seconds", whole.wall.spread(), targets.map(|(seconds, _)| seconds));
        report.measured(title, &name, "CPU seconds", whole.cpu.spread(), None);
        report.measured(title, &name, "of which compiling, seconds", whole.compile.spread(), None);
        report.measured(
            title,
            &name,
            "kernel bytes per indicator",
            whole.bytes.spread(),
            targets.map(|(_, bytes)| bytes),
        );
        generation += 1;
        let seconds = from_file(&cordon, &set, generation)?;
        report.measured("from a plain list to live", &name, "seconds", seconds.spread(), None);
    }
    Ok(())
}

/// What the rounds of one size gave.
#[derive(Default)]
struct Parts {
    wall: Sample,
    cpu: Sample,
    compile: Sample,
    bytes: Sample,
}

impl Parts {
    fn measure(&mut self, cordon: &Cordon, set: &[u32], generation: u32) -> Result<()> {
        let ruling = ruling(set);
        let before: HashSet<String> = array_maps()?.into_keys().collect();
        let (start, cpu) = (Instant::now(), thread_time());
        let compilation = Compilation::new(ruling, generation, Seed(generation.into(), 7))?;
        self.compile.push(start.elapsed().as_secs_f64());
        // The provenance is kept, as the daemon keeps it.
        let _provenance = publish(cordon, compilation, generation)?;
        self.wall.push(start.elapsed().as_secs_f64());
        self.cpu.push((thread_time() - cpu).as_secs_f64());
        // The largest of the new ones: somebody else may have made a map meanwhile.
        let added = array_maps()?.into_iter().filter(|(area, _)| !before.contains(area)).map(|(_, bytes)| bytes);
        self.bytes.push(added.max().unwrap_or(0) as f64 / set.len() as f64);
        Ok(())
    }
}

fn publish(cordon: &Cordon, compilation: Compilation, generation: u32) -> Result<Provenance> {
    let blocks = u32::try_from(compilation.blocks())?;
    let mut provenance = None;
    cordon
        .kernel
        .publish(blocks, generation, |image| compilation.write(image).map(|(written, _)| provenance = Some(written)))?;
    provenance.context("the image was not written")
}

/// Bytes of the kernel's memory behind each array map, by its place: whole pages, as the kernel accounts for them.
fn array_maps() -> Result<HashMap<String, u64>> {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/vmallocinfo").context("/proc/vmallocinfo")?;
    let maps = text.lines().filter(|line| line.contains(" array_map_alloc+"));
    Ok(maps
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let place = words.next()?.to_owned();
            let pages: u64 = words.find_map(|word| word.strip_prefix("pages="))?.parse().ok()?;
            Some((place, pages * PAGE))
        })
        .collect())
}

/// The whole way of a plain list, as the daemon goes it when the file changes.
fn from_file(cordon: &Cordon, set: &[u32], generation: u32) -> Result<Sample> {
    let mut file = tempfile::NamedTempFile::with_suffix(".txt").context("cannot make a temporary file")?;
    let mut lines = BufWriter::new(&mut file);
    for address in set {
        writeln!(lines, "{}", Ipv4Addr::from(*address)).context("cannot write the list")?;
    }
    drop(lines);
    let start = Instant::now();
    let now = Timestamp::now();
    let source = Source { allow_reserved: true, ..Source::new("bench", file.path()) };
    let load = source::load(&source, now).map_err(|failed| failed.error)?;
    let supply = Supply::new(&source, &load.indicators);
    let ruling = policy::rule(&[supply], &Rules::default(), now);
    ensure!(ruling.ruled.len() == set.len(), "{} of {} addresses were accepted", ruling.ruled.len(), set.len());
    let compilation = Compilation::new(ruling, generation, Seed(generation.into(), 7))?;
    let _provenance = publish(cordon, compilation, generation)?;
    let mut sample = Sample::default();
    sample.push(start.elapsed().as_secs_f64());
    Ok(sample)
}
