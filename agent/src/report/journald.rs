//! Hits for journald, as fields that `journalctl` finds them by.
//!
//! The wire is the native protocol (systemd.io, JOURNAL_NATIVE_PROTOCOL): one datagram an entry, `NAME=value` a line, and a value that has
//! lines of its own after its length. It is spoken here because a field's name and number differ from hit to hit, which `tracing` has no
//! events for.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::printable;
use crate::attribute::Finding;
use crate::attribute::finding::Verdict;
use crate::journal::Loss;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// `MESSAGE_ID` of a hit.
const HIT: &str = "3c1f0a6fd7f94f0e8a4b9e5b2d6c7a11";
/// `MESSAGE_ID` of hits known not to be recorded.
const LOST: &str = "a85d3e4c0b7e4c63b1f2d9c4e6f80b27";
/// Bytes of a value that are kept: an entry is then far below what one datagram may hold.
const VALUE: usize = 4096;
/// Values of a field that may have several, as actors.
const VALUES: usize = 16;

/// Priorities of syslog (RFC 5424 §6.2.1).
const ERROR: &str = "3";
const WARNING: &str = "4";
const NOTICE: &str = "5";

/// An open way to journald.
#[derive(Debug)]
pub struct Journald(UnixDatagram);

impl Journald {
    /// Opens it.
    ///
    /// # Errors
    /// Nobody listens on `socket`.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect(socket)?;
        // A journald that hangs must not hang this.
        datagrams.set_nonblocking(true)?;
        Ok(Self(datagrams))
    }

    /// Hands on a hit, or one that repeats were folded into since.
    ///
    /// # Errors
    /// journald does not take it now, `WouldBlock` among them, or is gone.
    pub fn hit(&self, finding: &Finding) -> io::Result<()> {
        self.0.send(&hit(finding)).map(drop)
    }

    /// Hands on that hits are known to be missing.
    ///
    /// # Errors
    /// As [`Journald::hit`].
    pub fn loss(&self, loss: &Loss) -> io::Result<()> {
        self.0.send(&lost(loss)).map(drop)
    }
}

/// An entry in the making.
struct Entry(Vec<u8>);

impl Entry {
    fn new(message_id: &str, priority: &str, message: &str) -> Self {
        let mut entry = Self(Vec::new());
        entry.add("MESSAGE", message);
        entry.add("MESSAGE_ID", message_id);
        entry.add("PRIORITY", priority);
        entry.add("SYSLOG_IDENTIFIER", "cordon");
        entry
    }

    /// `name` is of capitals, digits and underscores, as journald requires.
    fn add(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(VALUE)];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    fn add_known(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// A field may be there several times.
    fn add_all(&mut self, name: &str, values: &[String]) {
        values.iter().take(VALUES).for_each(|value| self.add(name, value));
    }
}

fn hit(finding: &Finding) -> Vec<u8> {
    // What got through weighs more than what was stopped.
    let priority = match finding.verdict {
        Verdict::Blocked | Verdict::Killed => NOTICE,
        Verdict::Reported | Verdict::WouldBlock => WARNING,
    };
    let indicator = &finding.indicator;
    let mut entry = Entry::new(HIT, priority, &message(finding));
    entry.add("CORDON_ID", &finding.id);
    entry.add("CORDON_VERDICT", finding.verdict.name());
    entry.add("CORDON_KIND", finding.kind.name());
    entry.add("CORDON_COUNT", &finding.count.to_string());
    entry.add("CORDON_ENFORCED_BY", &finding.enforced_by);
    entry.add("CORDON_INDICATOR", &indicator.value);
    entry.add("CORDON_INDICATOR_TYPE", &indicator.kind);
    entry.add("CORDON_INDICATOR_ID", &indicator.id);
    entry.add("CORDON_SOURCE", &indicator.source);
    entry.add("CORDON_RULE", &finding.policy.rule);
    entry.add("CORDON_GENERATION", &finding.policy.generation.to_string());
    let attribution = &finding.attribution;
    entry.add_all("CORDON_ACTOR", &attribution.actors);
    entry.add_all("CORDON_MALWARE", &attribution.malware);
    entry.add_all("CORDON_TECHNIQUE", &attribution.techniques);
    if let Some(destination) = &finding.destination {
        entry.add("CORDON_IP", &destination.ip.to_string());
        entry.add("CORDON_PORT", &destination.port.to_string());
        entry.add("CORDON_PROTOCOL", &destination.protocol);
        entry.add_known("CORDON_DOMAIN", destination.domain.as_ref());
    }
    if let Some(file) = &finding.file {
        entry.add_known("CORDON_FILE", file.path.as_ref());
        entry.add_known("CORDON_FILE_SHA256", file.sha256.as_ref());
    }
    if let Some(process) = &finding.process {
        // journald adds OBJECT_EXE, OBJECT_UID and the like of a process that still runs.
        entry.add("OBJECT_PID", &process.pid.to_string());
        entry.add_known("CORDON_EXE", process.exe.as_ref());
        entry.add_known("CORDON_USER", process.user.as_ref());
        entry.add_known("CORDON_UNIT", process.unit.as_ref());
        entry.add_known("CORDON_CONTAINER", process.container.as_ref());
    }
    entry.0
}

fn message(finding: &Finding) -> String {
    let process = finding.process.as_ref();
    let name = process.and_then(|process| process.exe.as_ref().or(process.comm.as_ref()));
    let who = name.map_or("somebody", String::as_str);
    let pid = process.map(|process| format!("[{}]", process.pid)).unwrap_or_default();
    let indicator = &finding.indicator;
    let actor = finding.attribution.actors.first().map(|actor| format!(", {actor}")).unwrap_or_default();
    let times = if finding.count > 1 { format!(", {} times", finding.count) } else { String::new() };
    let (verdict, kind) = (finding.verdict.name().replace('_', " "), finding.kind.name());
    let text = format!("{verdict}: {kind} by {who}{pid}: {} from {}{actor}{times}", indicator.value, indicator.source);
    printable(&text).into_owned()
}

fn lost(loss: &Loss) -> Vec<u8> {
    let message = format!("{} hits are not recorded: {}", loss.count, loss.reason.words());
    let mut entry = Entry::new(LOST, ERROR, &message);
    entry.add("CORDON_COUNT", &loss.count.to_string());
    entry.add("CORDON_REASON", loss.reason.name());
    entry.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::journal::LossReason;
    use crate::report::tests::record;

    /// An entry as journald reads it: the values of each field.
    fn read(mut entry: &[u8]) -> BTreeMap<String, Vec<String>> {
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let line = std::str::from_utf8(&entry[..end]).unwrap();
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => {
                    entry = &entry[end + 1..];
                    (name, value.to_owned())
                }
                None => {
                    let length = u64::from_le_bytes(entry[end + 1..end + 9].try_into().unwrap()) as usize;
                    let value = String::from_utf8(entry[end + 9..end + 9 + length].to_vec()).unwrap();
                    assert_eq!(entry[end + 9 + length], b'\n');
                    entry = &entry[end + 10 + length..];
                    (line, value)
                }
            };
            assert!(name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'), "{name}");
            fields.entry(name.to_owned()).or_default().push(value);
        }
        fields
    }

    fn received(send: impl FnOnce(&Journald)) -> BTreeMap<String, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        send(&Journald::connect(&path).unwrap());
        let mut bytes = vec![0; 1 << 20];
        let length = journald.recv(&mut bytes).unwrap();
        read(&bytes[..length])
    }

    #[test]
    fn a_hit_arrives_with_the_fields_that_it_is_found_by() {
        let fields = received(|journald| journald.hit(&record("connect")).unwrap());
        let field = |name: &str| fields[name].join("|");
        assert_eq!(
            field("MESSAGE"),
            "blocked: connect by /usr/bin/curl[4711]: 203.0.113.0/24 from example, Example Bear"
        );
        assert_eq!((field("MESSAGE_ID").as_str(), field("PRIORITY").as_str()), (HIT, NOTICE));
        assert_eq!(field("CORDON_VERDICT"), "blocked");
        assert_eq!(field("CORDON_ACTOR"), "Example Bear|Second Name");
        assert_eq!((field("CORDON_IP"), field("CORDON_DOMAIN")), ("203.0.113.7".into(), "c2.example".into()));
        assert_eq!((field("OBJECT_PID"), field("CORDON_UNIT")), ("4711".into(), "nginx.service".into()));
        assert!(!fields.contains_key("CORDON_FILE"), "what is not known is not there");
        assert_eq!(received(|journald| journald.hit(&record("send")).unwrap())["PRIORITY"], [WARNING]);
    }

    #[test]
    fn a_name_with_lines_makes_no_field_of_its_own_and_a_long_one_is_cut() {
        let mut finding = record("connect");
        let process = finding.process.as_mut().unwrap();
        process.exe = Some("/tmp/x\nPRIORITY=0\nMESSAGE=all is well".into());
        process.user = Some("é".repeat(100_000));
        finding.attribution.actors = vec!["A".repeat(10_000); 1000];
        let fields = received(|journald| journald.hit(&finding).unwrap());
        assert_eq!(fields["PRIORITY"], [NOTICE]);
        assert_eq!(fields["CORDON_EXE"], ["/tmp/x\nPRIORITY=0\nMESSAGE=all is well"]);
        assert!(fields["MESSAGE"].len() == 1 && !fields["MESSAGE"][0].contains('\n'));
        assert_eq!((fields["CORDON_USER"][0].len(), fields["CORDON_ACTOR"].len()), (VALUE, VALUES));
    }

    #[test]
    fn hits_that_are_missing_are_an_error() {
        let time = "2026-11-23T19:00:00Z".parse().unwrap();
        let loss = Loss { reason: LossReason::RingFull, count: 7, from: time, to: time };
        let fields = received(|journald| journald.loss(&loss).unwrap());
        assert_eq!((&fields["PRIORITY"][0], &fields["MESSAGE_ID"][0]), (&ERROR.to_owned(), &LOST.to_owned()));
        assert_eq!(fields["MESSAGE"], ["7 hits are not recorded: the kernel's ring was full"]);
    }

    #[test]
    fn a_journald_that_takes_nothing_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journald::connect(&path).is_err());
        let _full = UnixDatagram::bind(&path).unwrap();
        let journald = Journald::connect(&path).unwrap();
        let refused = (0..100_000).find_map(|_| journald.hit(&record("connect")).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
