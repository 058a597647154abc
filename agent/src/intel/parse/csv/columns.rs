//! Which column holds what: as the settings say, or by names that publishers are known to use.

use serde::{Deserialize, Serialize};

use super::super::values::{self, Dropped, Reduced};
use crate::intel::Observable;
use crate::intel::normalise::{self, Invalid};

/// A column, by its name in the header or by its number from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// The first is 1.
    Number(usize),
    /// Compared without case.
    Name(String),
}

/// `[source.csv]`: which column holds what. Where no value is named, the header must have one that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The value; its type is told by `type`, or by its form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Column>,
    /// What the value is: `ip`, `domain`, `url`, `sha256`, `ip:port`, … or a MISP attribute type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Column>,
    /// A title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Column>,
    /// A number from 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Column>,
    /// What malware it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malware: Option<Column>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Column>,
    /// When it was last changed or seen, from which `max_age` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<Column>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Column>,
    /// A URL with more about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Column>,
    /// Its marking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlp: Option<Column>,
    /// Its port, where that is a column of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Column>,
    /// One ASCII character; told by the header unless said.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "delimiter")]
    pub delimiter: Option<char>,
}

fn delimiter<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<char>, D::Error> {
    let said = char::deserialize(deserializer)?;
    let fits = said.is_ascii() && !matches!(said, '"' | '#' | '\n' | '\r');
    if fits { Ok(Some(said)) } else { Err(serde::de::Error::custom("a delimiter is one ASCII character")) }
}

type Read = fn(&str) -> Result<Observable, Invalid>;

/// What a column holds.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// A value of the type that another column tells, or its form.
    Value,
    /// A value of this type.
    Typed(Read),
    Type,
    Port,
    Name,
    Confidence,
    Malware,
    Actor,
    Modified,
    ValidUntil,
    Reference,
    Tlp,
}

impl Role {
    const fn is_value(self) -> bool {
        matches!(self, Self::Value | Self::Typed(_))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Value | Self::Typed(_) => "value",
            Self::Type => "type",
            Self::Port => "port",
            Self::Name => "name",
            Self::Confidence => "confidence",
            Self::Malware => "malware",
            Self::Actor => "actor",
            Self::Modified => "modified",
            Self::ValidUntil => "valid_until",
            Self::Reference => "reference",
            Self::Tlp => "tlp",
        }
    }
}

/// A name as headers are compared: lower case, words joined by `_`.
fn plain(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace([' ', '-', '.', ':'], "_")
}

/// What a column of this name holds, by the exports of abuse.ch, MISP, OTX, Volexity, Amnesty and others.
fn known(name: &str) -> Option<Role> {
    Some(match plain(name).as_str() {
        "value" | "indicator" | "indicator_value" | "ioc" | "ioc_value" | "observable" => Role::Value,
        "ip" | "ip_address" | "ipaddress" | "ipv4" | "ipv6" | "dst_ip" | "dstip" | "cidr" => Role::Typed(address),
        "domain" | "domain_name" | "hostname" | "fqdn" => Role::Typed(normalise::domain),
        "url" => Role::Typed(normalise::url),
        "sha256" | "sha256_hash" | "sha_256" => Role::Typed(normalise::sha256),
        "sha1" | "sha1_hash" | "sha_1" => Role::Typed(normalise::sha1),
        "md5" | "md5_hash" => Role::Typed(normalise::md5),
        "type" | "ioc_type" | "entity_type" | "indicator_type" => Role::Type,
        "port" | "dst_port" | "dstport" => Role::Port,
        "name" | "title" | "notes" | "description" | "comment" | "threat" | "file_name" => Role::Name,
        "confidence" | "confidence_level" => Role::Confidence,
        "malware" | "malware_printable" | "signature" => Role::Malware,
        "actor" | "threat_actor" => Role::Actor,
        "modified" | "last_seen" | "last_seen_utc" | "last_online" | "lastseen" | "first_seen" | "first_seen_utc"
        | "firstseen" | "dateadded" => Role::Modified,
        "valid_until" => Role::ValidUntil,
        "reference" | "urlhaus_link" => Role::Reference,
        "tlp" => Role::Tlp,
        _ => return None,
    })
}

/// An address, or one with a port.
fn address(text: &str) -> Result<Observable, Invalid> {
    normalise::address(text).or_else(|error| normalise::endpoint(text).map_err(|_| error))
}

/// Why a header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoLayout {
    /// None of its names is known, and the settings name none.
    NoValue(Vec<String>),
    /// The settings name a column that it does not have.
    Missing(String),
    /// Its digests are not of files.
    NotOfFiles,
}

/// Which column holds what.
pub(super) struct Layout {
    roles: Vec<Option<Role>>,
    /// In words, for whoever wants to know what was taken for what.
    pub(super) words: String,
}

impl Layout {
    /// What a header means.
    pub(super) fn new(columns: &Columns, header: &[String]) -> Result<Self, NoLayout> {
        let is_said = columns.value.is_some();
        let known = |name: &String| if is_said { None } else { known(name) };
        let mut roles: Vec<Option<Role>> = header.iter().map(known).collect();
        let plain_header: Vec<String> = header.iter().map(|name| plain(name)).collect();
        // SSLBL lists certificates by SHA-1.
        if !is_said
            && plain_header.iter().any(|name| name == "listingreason")
            && plain_header.iter().any(|name| name == "sha1")
        {
            return Err(NoLayout::NotOfFiles);
        }
        for (role, column) in columns.said() {
            let slot = match column {
                Column::Number(number) => number.checked_sub(1),
                Column::Name(name) => plain_header.iter().position(|known| *known == plain(name)),
            };
            let slot = slot.ok_or_else(|| NoLayout::Missing(column.to_string()))?;
            if roles.len() <= slot {
                roles.resize(slot + 1, None);
            }
            if let Some(place) = roles.get_mut(slot) {
                *place = Some(role);
            }
        }
        if !roles.iter().flatten().any(|role| role.is_value()) {
            return Err(NoLayout::NoValue(header.to_vec()));
        }
        let words = roles.iter().enumerate().filter_map(|(slot, role)| {
            let name = header
                .get(slot)
                .filter(|_| !columns.are_numbers())
                .map_or_else(|| (slot + 1).to_string(), ToString::to_string);
            role.map(|role| format!("{} from `{name}`", role.name()))
        });
        let words = words.collect::<Vec<_>>().join(", ");
        Ok(Self { roles, words })
    }

    /// How many columns there are.
    pub(super) fn len(&self) -> usize {
        self.roles.len()
    }

    fn cells<'a>(&self, fields: &'a [&'a str]) -> impl Iterator<Item = (Role, &'a str)> {
        let filled = self.roles.iter().zip(fields).filter(|(_, cell)| !cell.is_empty());
        filled.filter_map(|(role, cell)| role.map(|role| (role, *cell)))
    }

    /// The first filled cell of a role.
    pub(super) fn cell<'a>(&self, fields: &'a [&'a str], wanted: Role) -> Option<&'a str> {
        self.cells(fields).find(|(role, _)| role.name() == wanted.name()).map(|(_, cell)| cell)
    }

    /// When it last changed, as far as its cells are times: exports write `None` and the like.
    pub(super) fn latest(&self, fields: &[&str]) -> Option<jiff::Timestamp> {
        let times = self.cells(fields).filter(|(role, _)| matches!(role, Role::Modified));
        times.filter_map(|(_, cell)| time(cell).ok()).max()
    }

    /// What a row stands for: any of its values.
    pub(super) fn values(&self, fields: &[&str]) -> Result<Reduced, Dropped> {
        let mut reduced = Reduced::default();
        let kind = self.cell(fields, Role::Type);
        let port = self.cell(fields, Role::Port).filter(|port| *port != "0");
        for (role, cell) in self.cells(fields) {
            match role {
                Role::Typed(read) => match (read(cell), port) {
                    (Ok(value), Some(port)) => reduced.add(with_port(value, port)),
                    (value, _) => reduced.add(value),
                },
                Role::Value => typed(kind, cell, &mut reduced)?,
                _ => {}
            }
        }
        if reduced.observables.is_empty() && reduced.dropped.is_empty() {
            return Err(Dropped::malformed("the row has no value"));
        }
        reduced.usable()
    }
}

impl Columns {
    /// Whether no name is given, which is what a file without a header needs.
    pub(super) fn are_numbers(&self) -> bool {
        self.value.is_some() && self.said().all(|(_, column)| matches!(column, Column::Number(_)))
    }

    fn said(&self) -> impl Iterator<Item = (Role, &Column)> {
        [
            (Role::Value, &self.value),
            (Role::Type, &self.kind),
            (Role::Port, &self.port),
            (Role::Name, &self.name),
            (Role::Confidence, &self.confidence),
            (Role::Malware, &self.malware),
            (Role::Actor, &self.actor),
            (Role::Modified, &self.modified),
            (Role::ValidUntil, &self.valid_until),
            (Role::Reference, &self.reference),
            (Role::Tlp, &self.tlp),
        ]
        .into_iter()
        .filter_map(|(role, column)| column.as_ref().map(|column| (role, column)))
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

fn with_port(value: Observable, port: &str) -> Result<Observable, Dropped> {
    let port = normalise::port(port)?;
    match value {
        Observable::Ipv4(address) => Ok(Observable::Endpoint(address.into(), port)),
        Observable::Ipv6(address) => Ok(Observable::Endpoint(address.into(), port)),
        // A port says nothing about a digest, and a name is matched whatever the port.
        other => Ok(other),
    }
}

/// A cell of the type that the row tells, or else of the type that its form tells.
fn typed(kind: Option<&str>, cell: &str, reduced: &mut Reduced) -> Result<(), Dropped> {
    let kind = kind.unwrap_or_default();
    let read: Read = match plain(kind).as_str() {
        "" | "file" | "hash" | "filehash" | "file_hash" => {
            by_form(cell, reduced);
            return Ok(());
        }
        "ip" | "ipv4" | "ipv6" | "ip_address" | "ipaddress" | "ipv4_addr" | "ipv6_addr" | "cidr" => address,
        "ip_port" => normalise::endpoint,
        "domain" | "domain_name" | "hostname" | "fqdn" => normalise::domain,
        "url" => normalise::url,
        "sha256" | "sha256_hash" | "filehash_sha256" => normalise::sha256,
        "sha1" | "sha1_hash" | "filehash_sha1" => normalise::sha1,
        "md5" | "md5_hash" | "filehash_md5" => normalise::md5,
        "file_name" => normalise::file_name,
        "path" | "filepath" | "file_path" => normalise::path,
        _ => {
            let other = super::super::misp::values(kind, cell)?;
            reduced.observables.extend(other.observables);
            reduced.dropped.extend(other.dropped);
            return Ok(());
        }
    };
    reduced.add(read(cell));
    Ok(())
}

/// A cell of one value, or of several digests of one file.
fn by_form(cell: &str, reduced: &mut Reduced) {
    let parts = || cell.split([',', ';', ' ', '|']).map(str::trim).filter(|part| !part.is_empty());
    if parts().all(|part| values::digest(part).is_some()) {
        parts().for_each(|part| reduced.add(values::by_form(part)));
    } else {
        reduced.add(values::by_form(cell));
    }
}

/// A time as CSV exports write it: RFC 3339, or `2026-01-02 03:04:05` in UTC, or a date.
pub(super) fn time(text: &str) -> Result<jiff::Timestamp, Dropped> {
    let text = text.trim().trim_end_matches(" UTC");
    let civil = || text.parse().and_then(|time| jiff::tz::TimeZone::UTC.to_timestamp(time));
    text.parse().or_else(|_| civil()).map_err(|_| {
        Dropped::malformed(format!("`{}` is no time (RFC 3339, or `2026-01-02 03:04:05` in UTC)", super::excerpt(text)))
    })
}
