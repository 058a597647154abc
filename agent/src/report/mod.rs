//! Findings in the words of others: OCSF and ECS, sums and a page for people (pure); hits for journald, sightings for those
//! who may know, and metrics.

mod ecs;
pub mod journald;
pub mod metrics;
mod ocsf;
pub mod overview;
mod page;
mod printable;
pub mod sightings;
pub mod summary;
pub mod suspects;

#[cfg(test)]
mod tests;

pub use ecs::ecs;
pub use ocsf::{activity as ocsf_activity, contact as ocsf_contact, ocsf};
pub use page::page;
pub use printable::{printable, printable_lines};

use serde_json::{Map, Value};

/// `value` without members that are null, empty or hold nothing else: what is not known is left out, never guessed.
fn without_unknown(value: Value) -> Value {
    fn is_unknown(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            _ => false,
        }
    }
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| (name, without_unknown(value)))
                .filter(|(_, value)| !is_unknown(value))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(without_unknown).filter(|item| !is_unknown(item)).collect())
        }
        value => value,
    }
}
