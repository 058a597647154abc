//! A sighting as STIX 2.1 objects (pure).

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Identity, NAMESPACE, Observed, Sighting};
use crate::intel::Tlp;
use crate::intel::source::Share;
use crate::intel::taxii::Outgoing;

/// What STIX makes the ids of observables with (§2.9).
const OBSERVABLES: Uuid = Uuid::from_u128(0x00ab_edb4_aa42_466c_9c01_fed2_3315_a9b7);
/// The extension that defines TLP 2.0 in STIX 2.1 (OASIS, STIX common objects).
const TLP_EXTENSION: &str = "extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d";
/// Of identities: they have the same name for as long as they have the same id.
const IDENTITY_CREATED: &str = "2026-01-01T00:00:00.000Z";
/// Of a sighting (§5.2.1).
const MAX_COUNT: u64 = 999_999_999;
/// How long an indicator that we pass on holds after its latest hit.
const HOLDS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A sighting's objects: its own, and those it shares with others of the same destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    /// Identity and marking.
    pub(super) common: Vec<Outgoing>,
    /// What else it consists of; the sighting itself is the last.
    pub(super) own: Vec<Outgoing>,
}

impl Objects {
    /// The sighting itself; `None` when there is nothing that it could refer to.
    pub(super) fn sighting(&self) -> Option<&Outgoing> {
        self.own.last()
    }
}

/// Makes the objects. `salt` keeps the hosts of one identity apart; `with_observed` adds what was seen here.
pub(super) fn objects(
    sighting: &Sighting,
    identity: &Identity,
    salt: &str,
    share: Share,
    with_observed: bool,
) -> Objects {
    let marking = marking(sighting.tlp);
    let mut maker = Maker { sighting, identity, marking_id: marking["id"].clone(), salt, made: Vec::new() };
    let passed_on = if share == Share::Indicators { maker.indicator() } else { None };
    let sighted = if sighting.has_stix_id() { Some(sighting.indicator.clone()) } else { passed_on };
    let Some(sighted) = sighted else { return Objects::default() };
    let observed = if with_observed { maker.observed_data() } else { None };
    let mut document = maker.object("sighting", "", sighting.modified);
    document["count"] = json!(sighting.count.min(MAX_COUNT));
    document["first_seen"] = json!(spelled(sighting.first));
    document["last_seen"] = json!(spelled(sighting.last));
    document["sighting_of_ref"] = json!(sighted);
    document["where_sighted_refs"] = json!([identity.id]);
    if let Some(observed) = observed {
        document["observed_data_refs"] = json!([observed]);
    }
    maker.made.push(document);
    Objects {
        common: vec![outgoing(&marking), outgoing(&identity_object(identity))],
        own: maker.made.iter().map(outgoing).collect(),
    }
}

/// A bundle of them, with an id that follows from what it holds.
pub(super) fn bundle(objects: &[&Outgoing]) -> (Uuid, String) {
    let versions: Vec<String> =
        objects.iter().map(|object| format!("{} {}", object.id, object.modified.unwrap_or_default())).collect();
    let id = Uuid::new_v5(&NAMESPACE, versions.join("\n").as_bytes());
    let objects: Vec<&str> = objects.iter().map(|object| object.json.as_str()).collect();
    let text = format!("{{\"type\":\"bundle\",\"id\":\"bundle--{id}\",\"objects\":[\n{}\n]}}\n", objects.join(",\n"));
    (id, text)
}

/// The id of the indicator by which we pass a value on.
fn passed_on_id(sighting: &Sighting, identity: &Identity) -> String {
    let what = format!("indicator {} {} {}", identity.id, sighting.kind, sighting.value);
    format!("indicator--{}", Uuid::new_v5(&NAMESPACE, what.as_bytes()))
}

struct Maker<'a> {
    sighting: &'a Sighting,
    identity: &'a Identity,
    marking_id: Value,
    salt: &'a str,
    made: Vec<Value>,
}

impl Maker<'_> {
    /// The properties that all of our objects have. `role` tells apart those of one type.
    fn object(&self, kind: &str, role: &str, modified: Timestamp) -> Value {
        let sighting = self.sighting;
        let what =
            format!("{kind}{role} {} {} {} {}", self.identity.id, self.salt, sighting.indicator, sighting.window);
        json!({
            "type": kind, "spec_version": "2.1", "id": format!("{kind}--{}", Uuid::new_v5(&NAMESPACE, what.as_bytes())),
            "created_by_ref": self.identity.id, "created": spelled(sighting.created), "modified": spelled(modified),
            "object_marking_refs": [self.marking_id],
        })
    }

    /// An indicator of ours for the value, derived from the publisher's; `None` for what no pattern can say, and for a value
    /// that we passed on ourselves.
    fn indicator(&mut self) -> Option<String> {
        let sighting = self.sighting;
        let id = passed_on_id(sighting, self.identity);
        if id == sighting.indicator {
            return None;
        }
        let mut document = self.object("indicator", "", sighting.modified);
        document["id"] = json!(id);
        // One version for each sighting that told of it: created for good, the same on every host of this identity.
        document["created"] = json!(IDENTITY_CREATED);
        document["pattern"] = json!(pattern(sighting)?);
        document["pattern_type"] = json!("stix");
        document["name"] = json!(format!("{} sighted by {}", sighting.value, self.identity.name));
        document["description"] = json!("Listed by intelligence that its reporter reads, and seen there.");
        document["indicator_types"] = json!(["malicious-activity"]);
        document["valid_from"] = json!(spelled(sighting.first));
        let until = sighting.last.checked_add(HOLDS).unwrap_or(Timestamp::MAX);
        document["valid_until"] = json!(spelled(until));
        self.made.push(document);
        if sighting.has_stix_id() {
            let mut derived = self.object("relationship", " derived-from", sighting.created);
            derived["relationship_type"] = json!("derived-from");
            derived["source_ref"] = json!(id);
            derived["target_ref"] = json!(sighting.indicator);
            self.made.push(derived);
        }
        Some(id)
    }

    fn observed_data(&mut self) -> Option<String> {
        let sighting = self.sighting;
        let observables: Vec<Value> = sighting.observed.iter().map(observable).collect();
        let ids: BTreeSet<String> =
            observables.iter().filter_map(|object| object["id"].as_str().map(str::to_owned)).collect();
        if ids.is_empty() {
            return None;
        }
        let mut document = self.object("observed-data", "", sighting.modified);
        document["first_observed"] = json!(spelled(sighting.first));
        document["last_observed"] = json!(spelled(sighting.last));
        document["number_observed"] = json!(sighting.count.min(MAX_COUNT));
        document["object_refs"] = json!(ids);
        let id = document["id"].as_str().map(str::to_owned);
        self.made.extend(observables);
        self.made.push(document);
        id
    }
}

/// A cyber-observable with its deterministic id (§2.9, §6): over the canonical JSON (RFC 8785) of what contributes to it.
fn observable(observed: &Observed) -> Value {
    let (kind, property, value) = match observed {
        Observed::Address(address @ IpAddr::V4(_)) => ("ipv4-addr", "value", json!(address)),
        Observed::Address(address @ IpAddr::V6(_)) => ("ipv6-addr", "value", json!(address)),
        Observed::Domain(domain) => ("domain-name", "value", json!(domain)),
        Observed::Sha256(digest) => ("file", "hashes", json!({ "SHA-256": digest })),
    };
    let contributes = json!({ property: value }).to_string();
    let id = format!("{kind}--{}", Uuid::new_v5(&OBSERVABLES, contributes.as_bytes()));
    json!({ "type": kind, "spec_version": "2.1", "id": id, property: value })
}

/// The pattern that says the value (§9); `None` for values that need more than one comparison to say.
pub(super) fn pattern(sighting: &Sighting) -> Option<String> {
    let value = sighting.value.replace('\\', "\\\\").replace('\'', "\\'");
    let path = match sighting.kind.as_str() {
        "ipv4" | "ipv4_prefix" => "ipv4-addr:value",
        "ipv6" | "ipv6_prefix" => "ipv6-addr:value",
        "domain" => "domain-name:value",
        "url" => "url:value",
        "sha256" => "file:hashes.'SHA-256'",
        "sha1" => "file:hashes.'SHA-1'",
        "md5" => "file:hashes.MD5",
        "file_name" => "file:name",
        "process" => return Some(format!("[{}]", sighting.value)),
        "endpoint" => {
            let (address, port) = value.rsplit_once(':')?;
            let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
            let kind = if address.is_ipv4() { "ipv4-addr" } else { "ipv6-addr" };
            return Some(format!(
                "[network-traffic:dst_ref.type = '{kind}' AND network-traffic:dst_ref.value = '{address}' \
                 AND network-traffic:dst_port = {port}]"
            ));
        }
        _ => return None,
    };
    Some(format!("[{path} = '{value}']"))
}

fn identity_object(identity: &Identity) -> Value {
    json!({
        "type": "identity", "spec_version": "2.1", "id": identity.id, "name": identity.name,
        "identity_class": identity.class, "created": IDENTITY_CREATED, "modified": IDENTITY_CREATED,
    })
}

/// The definition of a marking as OASIS publishes it.
fn marking(tlp: Tlp) -> Value {
    let (uuid, name, level) = match tlp {
        Tlp::Clear => ("94868c89-83c2-464b-929b-a1a8aa3c8487", "TLP:CLEAR", "clear"),
        Tlp::Green => ("bab4a63c-aed9-4cf5-a766-dfca5abac2bb", "TLP:GREEN", "green"),
        Tlp::Amber => ("55d920b0-5e8b-4f79-9ee9-91f868d9b421", "TLP:AMBER", "amber"),
        Tlp::AmberStrict => ("939a9414-2ddd-4d32-a0cd-375ea402b003", "TLP:AMBER+STRICT", "amber+strict"),
        Tlp::Red => ("e828b379-4e03-4974-9ac4-e53a884c97c1", "TLP:RED", "red"),
    };
    json!({
        "type": "marking-definition", "spec_version": "2.1", "id": format!("marking-definition--{uuid}"),
        "created": "2022-10-01T00:00:00.000Z", "name": name,
        "extensions": { TLP_EXTENSION: { "extension_type": "property-extension", "tlp_2_0": level } },
    })
}

fn outgoing(document: &Value) -> Outgoing {
    Outgoing {
        id: document["id"].as_str().unwrap_or_default().to_owned(),
        modified: document["modified"].as_str().and_then(|text| text.parse().ok()),
        json: document.to_string(),
    }
}

/// With milliseconds (§3.2: as precise as `created` and `modified` are).
fn spelled(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
