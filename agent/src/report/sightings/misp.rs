//! A sighting as the body of a request to MISP's `/sightings/add` (pure).

use serde_json::{Value, json};

use super::{Identity, Sighting};

/// Type 0: the value was seen. MISP finds the attribute by its value, and has no count: the latest hit stands for all.
pub(super) fn body(sighting: &Sighting, identity: &Identity) -> Value {
    // MISP writes an endpoint as `ip-dst|port`.
    let value = match (sighting.kind.as_str(), sighting.value.rsplit_once(':')) {
        ("endpoint", Some((address, port))) => format!("{}|{port}", address.trim_matches(['[', ']'])),
        _ => sighting.value.clone(),
    };
    json!({
        "values": [value], "type": "0", "source": identity.name,
        "timestamp": sighting.last.as_second().to_string(),
    })
}
