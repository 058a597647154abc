//! Traffic Light Protocol markings, by id and by definition.

use serde_json::Value;

use super::super::document::Properties;
use super::super::tlp::{label, named};
use crate::intel::Tlp;

/// The marking definitions that are referred to without being in the bundle: TLP 2.0 (FIRST; OASIS common objects) and TLP 1
/// (STIX 2.1 §7.2.1.4).
const WELL_KNOWN: [(&str, Tlp); 9] = [
    ("94868c89-83c2-464b-929b-a1a8aa3c8487", Tlp::Clear),
    ("bab4a63c-aed9-4cf5-a766-dfca5abac2bb", Tlp::Green),
    ("55d920b0-5e8b-4f79-9ee9-91f868d9b421", Tlp::Amber),
    ("939a9414-2ddd-4d32-a0cd-375ea402b003", Tlp::AmberStrict),
    ("e828b379-4e03-4974-9ac4-e53a884c97c1", Tlp::Red),
    ("613f2e26-407d-48c7-9eca-b8e91df99dc9", Tlp::Clear),
    ("34098fce-860f-48ae-8e50-ebd3cc5e41da", Tlp::Green),
    ("f88d31f6-486f-44da-b317-01333bde0b82", Tlp::Amber),
    ("5e57c739-391a-4eb3-b6be-7d15ca92d5ed", Tlp::Red),
];

/// What a reference to a marking means: `None` for one that is no TLP (a statement); a marking that nobody defines is the
/// strictest, because it may be.
pub(super) fn referred(reference: &str, definition: Option<&Properties>) -> Option<Tlp> {
    let uuid = reference.strip_prefix("marking-definition--").unwrap_or(reference);
    if let Some((_, tlp)) = WELL_KNOWN.iter().find(|(known, _)| uuid.eq_ignore_ascii_case(known)) {
        return Some(*tlp);
    }
    let Some(definition) = definition else { return Some(Tlp::Red) };
    let extension = definition
        .get("extensions")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .find_map(|(_, extension)| extension.get("tlp_2_0").and_then(Value::as_str));
    let version_1 = definition.get("definition").and_then(|inner| inner.get("tlp")).and_then(Value::as_str);
    let open_cti = definition.text("x_opencti_definition");
    let stated =
        extension.or(version_1).or(open_cti).or_else(|| definition.text("name").filter(|name| label(name).is_some()));
    match stated {
        Some(stated) => Some(named(stated).unwrap_or(Tlp::Red)),
        None if definition.text("definition_type") == Some("tlp") => Some(Tlp::Red),
        None => None,
    }
}
