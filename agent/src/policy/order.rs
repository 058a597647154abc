//! Orders: what an operator wants blocked at once and for a while, on all hosts of a group, between two policies.
//!
//! An order is signed by a key that the policy names, with what that key may ask for. Whoever carries it can hold it back, and
//! no more than that: a host keeps each order that it has taken until it ends, however often it hears it.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Enrolment;
use super::document::Operator;
use crate::intel::{Observable, normalise};

/// Before what is signed, so that a signature says nothing else.
const DOMAIN: &[u8] = b"cordon-order-v1\0";
/// How far clocks may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(5 * 60);
/// Bytes of an order.
const MAX_BYTES: usize = 4 << 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Block the value.
    Block,
    /// Obey the order with this id no more.
    Withdraw(String),
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Version of this form: 1.
    pub schema: u32,
    /// UUID version 7.
    pub id: String,
    /// The organisation.
    pub tenant: String,
    /// The group; all of them without.
    pub group: Option<String>,
    /// What is asked for.
    pub effect: Effect,
    /// About which value.
    pub value: String,
    /// When it was given.
    pub issued: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// An order as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrder {
    /// The order as JSON: the very text that was signed.
    pub order: String,
    /// Ed25519 (RFC 8032), base64.
    pub signature: String,
}

/// An order that is obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obeyed {
    /// Who gave it, as the policy calls them.
    pub operator: String,
    /// What they ask for.
    pub order: Order,
    /// The value.
    pub observable: Observable,
}

/// Why an order is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Disobeyed {
    /// No operator of the policy signed it.
    #[error("bad signature: no operator whom the policy names signed it")]
    Signature,
    /// Signed, but no order.
    #[error("not an order: {0}")]
    Form(String),
    /// For others.
    #[error("for `{0}`, which is not this host's organisation or group")]
    NotForUs(String),
    /// It is over, or was given in the future.
    #[error("not in force: given {issued}, until {until}")]
    Time {
        /// Given.
        issued: Timestamp,
        /// Until.
        until: Timestamp,
    },
    /// The operator may not.
    #[error("operator `{operator}` may not: {why}")]
    Scope {
        /// Who.
        operator: String,
        /// Why not.
        why: String,
    },
}

impl Disobeyed {
    /// Whether it has merely ended, which happens to all.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Time { .. })
    }
}

impl Order {
    /// Signs it.
    ///
    /// # Errors
    /// It is too long.
    pub fn sign(&self, key: &Ed25519KeyPair) -> Result<SignedOrder, String> {
        let order = serde_json::to_string(self).map_err(|error| error.to_string())?;
        if order.len() > MAX_BYTES {
            return Err(format!("an order has at most {MAX_BYTES} bytes; give a shorter reason"));
        }
        let signature = STANDARD.encode(key.sign(&signed_bytes(&order)));
        Ok(SignedOrder { order, signature })
    }
}

fn signed_bytes(order: &str) -> Vec<u8> {
    [DOMAIN, order.as_bytes()].concat()
}

impl SignedOrder {
    /// What it asks for, if one of `operators` signed it and may ask for it.
    ///
    /// # Errors
    /// Why it is not obeyed.
    pub fn judge(&self, operators: &[Operator], own: &Enrolment, now: Timestamp) -> Result<Obeyed, Disobeyed> {
        // Nothing of it is looked at before its signature: the key that fits says who it was.
        let operator = operators.iter().find(|operator| self.is_by(operator)).ok_or(Disobeyed::Signature)?;
        let order: Order = serde_json::from_str(&self.order).map_err(|error| Disobeyed::Form(error.to_string()))?;
        if order.schema != 1 {
            return Err(Disobeyed::Form(format!("schema {} is not known", order.schema)));
        }
        let is_ours = order.tenant == own.tenant && order.group.as_ref().is_none_or(|group| *group == own.group);
        if !is_ours {
            let group = order.group.as_deref().unwrap_or("all groups");
            return Err(Disobeyed::NotForUs(format!("{} / {group}", order.tenant)));
        }
        if order.until <= now || order.issued.duration_since(now) > SKEW {
            return Err(Disobeyed::Time { issued: order.issued, until: order.until });
        }
        let may_not = |why: String| Disobeyed::Scope { operator: operator.name.clone(), why };
        if order.until.duration_since(order.issued) > operator.longest.duration() {
            return Err(may_not(format!("longer than {}", operator.longest)));
        }
        let observable =
            normalise::any(&order.value).ok_or_else(|| Disobeyed::Form(format!("`{}` is no value", order.value)))?;
        if !operator.types.is_empty() && !operator.types.iter().any(|name| name == observable.type_name()) {
            return Err(may_not(format!("a value of type {}", observable.type_name())));
        }
        Ok(Obeyed { operator: operator.name.clone(), order, observable })
    }

    fn is_by(&self, operator: &Operator) -> bool {
        let (Ok(key), Ok(signature)) = (STANDARD.decode(&operator.key), STANDARD.decode(&self.signature)) else {
            return false;
        };
        self.order.len() <= MAX_BYTES
            && UnparsedPublicKey::new(&ED25519, key).verify(&signed_bytes(&self.order), &signature).is_ok()
    }
}

#[cfg(test)]
mod tests;
