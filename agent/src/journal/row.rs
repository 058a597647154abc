//! A record as the columns by which it is found (pure, but for the id of a record that continues another).

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use jiff::Timestamp;
use rusqlite::types::ValueRef;

use super::JournalError;
use super::chain::{Content, Hash, WIDTH};
use crate::attribute::Finding;

/// What goes into the tables for one record.
pub(super) struct Row {
    pub(super) id: String,
    /// Id of the record, in an older segment, whose repeats this one counts.
    pub(super) continues: Option<String>,
    pub(super) time: i64,
    pub(super) last_time: i64,
    pub(super) count: i64,
    pub(super) kind: String,
    pub(super) verdict: String,
    pub(super) pid: u32,
    pub(super) exe: Option<String>,
    pub(super) path: Option<String>,
    pub(super) sha256: Option<String>,
    /// Canonical, see [`canonical`].
    pub(super) ip: Option<[u8; 16]>,
    /// As the program gave it, where that differs.
    pub(super) ip_given: Option<[u8; 16]>,
    pub(super) port: Option<u16>,
    pub(super) domain: Option<String>,
    pub(super) actors: Vec<String>,
    /// Id, value, source of each indicator.
    pub(super) indicators: Vec<(String, String, String)>,
    pub(super) json: String,
    /// What the chain says of it.
    pub(super) content: Hash,
}

/// Nanoseconds since 1970, which an `i64` holds until the year 2262.
pub(super) fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(if time < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

/// The time that [`nanoseconds`] made a number of.
pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Sixteen bytes that sort as addresses do; IPv4 as IPv4-mapped (RFC 4291 §2.5.5.2).
pub(super) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address that is really meant: an IPv6 spelling of an IPv4 address is that address, as in the kernel's lookup.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let bits = v6.to_bits();
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    agent_common::canon::embedded_ipv4(high, low).map_or(address, |v4| IpAddr::V4(Ipv4Addr::from_bits(v4)))
}

/// The name that serde gives a unit variant.
pub(super) fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A name as it is compared: without regard to case.
pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

impl Row {
    /// `dir` is named in the error only.
    pub(super) fn new(finding: &Finding, continues: Option<String>, dir: &Path) -> Result<Self, JournalError> {
        let json = serde_json::to_string(finding).map_err(|source| JournalError::Record {
            path: dir.to_owned(),
            id: finding.id.clone(),
            source,
        })?;
        let destination = finding.destination.as_ref();
        let given = destination.map(|destination| destination.ip);
        let meant = given.map(canonical);
        let file = finding.file.as_ref();
        let mut row = Self {
            id: finding.id.clone(),
            continues,
            time: nanoseconds(finding.time),
            last_time: nanoseconds(finding.last_time.max(finding.time)),
            count: i64::try_from(finding.count).unwrap_or(i64::MAX),
            kind: name_of(&finding.kind),
            verdict: name_of(&finding.verdict),
            // No process has the number 0, so that it stands for none.
            pid: finding.process.as_ref().map_or(0, |process| process.pid),
            exe: finding.process.as_ref().and_then(|process| process.exe.clone()),
            path: file.and_then(|file| file.path.clone()),
            sha256: file.and_then(|file| file.sha256.clone()).or_else(|| finding.process.as_ref()?.sha256.clone()),
            ip: meant.map(address_bytes),
            ip_given: given.map(address_bytes).filter(|bytes| Some(*bytes) != meant.map(address_bytes)),
            port: destination.map(|destination| destination.port),
            domain: destination.and_then(|destination| destination.domain.as_deref()).map(folded),
            actors: finding.attribution.actors.iter().map(|actor| folded(actor)).collect(),
            indicators: std::iter::once(&finding.indicator)
                .chain(&finding.also)
                .map(|indicator| (indicator.id.clone(), indicator.value.clone(), indicator.source.clone()))
                .collect(),
            json,
            content: Hash::default(),
        };
        row.content = Content::of(&row);
        Ok(row)
    }

    /// The columns of `record`, in the order of [`super::chain::COLUMNS`].
    pub(super) fn values(&self) -> [ValueRef<'_>; WIDTH] {
        fn text(text: &str) -> ValueRef<'_> {
            ValueRef::Text(text.as_bytes())
        }
        fn optional(value: &Option<String>) -> ValueRef<'_> {
            value.as_deref().map_or(ValueRef::Null, text)
        }
        fn address(bytes: &Option<[u8; 16]>) -> ValueRef<'_> {
            bytes.as_ref().map_or(ValueRef::Null, |bytes| ValueRef::Blob(bytes))
        }
        [
            text(&self.id),
            optional(&self.continues),
            ValueRef::Integer(self.time),
            ValueRef::Integer(self.last_time),
            ValueRef::Integer(self.count),
            text(&self.kind),
            text(&self.verdict),
            ValueRef::Integer(self.pid.into()),
            optional(&self.exe),
            optional(&self.path),
            optional(&self.sha256),
            address(&self.ip),
            address(&self.ip_given),
            self.port.map_or(ValueRef::Null, |port| ValueRef::Integer(port.into())),
            optional(&self.domain),
            text(&self.json),
        ]
    }

    /// Bytes that the row will take, indexes included, estimated high.
    pub(super) fn estimate(&self) -> u64 {
        let names = self.actors.iter().map(String::len).sum::<usize>()
            + self
                .indicators
                .iter()
                .map(|(id, value, source)| 2 * (id.len() + value.len()) + source.len())
                .sum::<usize>();
        (self.json.len() + names + 768) as u64
    }
}
