//! Files as publishers write them, as dense as they come: the less a file says of each value, the more it weighs what is kept.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use agent_common::image::SipHasher13;

/// Writes so many items.
type Input = fn(&mut dyn Write, u64) -> io::Result<()>;

/// The input of which the CPU time is promised.
pub const LINES: &str = "IPv4 lines";

/// A bundle as publishers write it.
pub const STIX: &str = "STIX indicators";

/// An event as MISP exports it.
pub const MISP: &str = "MISP attributes";

/// All of them.
pub const INPUTS: [(&str, Input); 8] = [
    (LINES, lines),
    ("domain lines", domains),
    ("SHA-256 lines", digests),
    ("CSV rows", rows),
    (STIX, indicators),
    ("least STIX indicators", least_indicators),
    (MISP, attributes),
    ("least MISP attributes", least_attributes),
];

/// Random and the same every time.
fn number(stream: u64, index: u64) -> u64 {
    let mut hasher = SipHasher13::new(stream, 0);
    hasher.write(index);
    hasher.finish()
}

fn address(index: u64) -> Ipv4Addr {
    // Neither loopback nor multicast nor 0.0.0.0/8.
    Ipv4Addr::from(0x0b00_0000 + (number(1, index) % 0x7000_0000) as u32)
}

fn uuid(index: u64) -> uuid::Uuid {
    uuid::Uuid::from_u64_pair(number(2, index), number(3, index))
}

fn lines(out: &mut dyn Write, items: u64) -> io::Result<()> {
    (0..items).try_for_each(|index| writeln!(out, "{}", address(index)))
}

fn domains(out: &mut dyn Write, items: u64) -> io::Result<()> {
    (0..items).try_for_each(|index| writeln!(out, "{:x}.lamp{}.example", number(4, index) >> 24, index % 1000))
}

fn digests(out: &mut dyn Write, items: u64) -> io::Result<()> {
    let word = |part, index| number(part, index);
    (0..items).try_for_each(|index| {
        writeln!(out, "{:016x}{:016x}{:016x}{:016x}", word(5, index), word(6, index), word(7, index), word(8, index))
    })
}

fn rows(out: &mut dyn Write, items: u64) -> io::Result<()> {
    writeln!(out, "first_seen,ip,malware")?;
    (0..items).try_for_each(|index| {
        let (day, address) = (index % 28 + 1, address(index));
        writeln!(out, "2026-10-{day:02} 00:00:00,{address},Lamp {}", index % 9)
    })
}

/// A file of JSON may have 256 MiB: usual objects are larger than the least.
const fn usual(items: u64) -> u64 {
    items / 5
}

fn bundle(out: &mut dyn Write, items: u64, more: &dyn Fn(u64) -> String) -> io::Result<()> {
    write!(out, "{{\"type\": \"bundle\", \"id\": \"bundle--{}\", \"objects\": [", uuid(items))?;
    for index in 0..items {
        let comma = if index == 0 { "" } else { ",\n" };
        let (id, address) = (uuid(index), address(index));
        write!(
            out,
            "{comma}{{\"type\":\"indicator\",\"id\":\"indicator--{id}\",\"pattern\":\"[ipv4-addr:value = '{address}']\"{}}}",
            more(index)
        )?;
    }
    writeln!(out, "]}}")
}

fn least_indicators(out: &mut dyn Write, items: u64) -> io::Result<()> {
    bundle(out, items, &|_| String::new())
}

fn indicators(out: &mut dyn Write, items: u64) -> io::Result<()> {
    let time = "2026-10-01T00:00:00.000Z";
    bundle(out, usual(items), &|index| {
        format!(
            ",\"spec_version\":\"2.1\",\"created\":\"{time}\",\"modified\":\"{time}\",\"pattern_type\":\"stix\",\
             \"valid_from\":\"{time}\",\"name\":\"Lamp {index}\",\"indicator_types\":[\"malicious-activity\"]"
        )
    })
}

fn event(out: &mut dyn Write, items: u64, more: &dyn Fn(u64) -> String) -> io::Result<()> {
    write!(out, "{{\"Event\": {{\"uuid\": \"{}\", \"info\": \"Lamps\", \"Attribute\": [", uuid(items))?;
    for index in 0..items {
        let comma = if index == 0 { "" } else { ",\n" };
        let (id, address) = (uuid(index), address(index));
        write!(
            out,
            "{comma}{{\"uuid\":\"{id}\",\"type\":\"ip-dst\",\"value\":\"{address}\",\"to_ids\":true{}}}",
            more(index)
        )?;
    }
    writeln!(out, "]}}}}")
}

fn least_attributes(out: &mut dyn Write, items: u64) -> io::Result<()> {
    event(out, items, &|_| String::new())
}

fn attributes(out: &mut dyn Write, items: u64) -> io::Result<()> {
    event(out, usual(items), &|index| {
        format!(
            ",\"id\":\"{index}\",\"event_id\":\"7\",\"category\":\"Network activity\",\"distribution\":\"5\",\
             \"timestamp\":\"1790812800\",\"comment\":\"Lamp {index}\",\"sharing_group_id\":\"0\",\"deleted\":false,\
             \"disable_correlation\":false,\"object_id\":\"0\",\"object_relation\":null,\"Galaxy\":[],\"ShadowAttribute\":[],\
             \"Tag\":[{{\"id\":\"3\",\"name\":\"tlp:green\",\"colour\":\"#339900\",\"exportable\":true}}]"
        )
    })
}
