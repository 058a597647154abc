//! The orders that this host has taken, kept in the state directory: none is lost because somebody holds it back later.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::operator;
use crate::policy::order::Effect;
use crate::policy::{Central, Disobeyed, LocalAction, LocalRule, Obeyed, Order, SignedOrder};

/// Orders that are kept at once.
const MOST: usize = 4096;

/// The orders.
#[derive(Debug)]
pub struct StandingOrders {
    path: PathBuf,
    held: Vec<SignedOrder>,
}

impl StandingOrders {
    /// Those that an agent before this one took.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn open(state: &Path) -> anyhow::Result<Self> {
        let path = state.join("orders.json");
        let held = operator::read(&path)?.unwrap_or_default();
        Ok(Self { path, held })
    }

    /// Takes those that are new and obeyed under the policy in force, and lets go of those that are over. Whether anything is
    /// other than before, and why orders are not obeyed.
    ///
    /// # Errors
    /// They cannot be kept.
    pub fn take(
        &mut self,
        heard: Vec<SignedOrder>,
        central: &Central,
        now: Timestamp,
    ) -> anyhow::Result<(bool, Vec<String>)> {
        let mut held: Vec<SignedOrder> = self.held.iter().filter(|order| !is_over(order, now)).cloned().collect();
        let mut refused = Vec::new();
        for order in heard.into_iter().filter(|order| !self.held.contains(order)) {
            match central.judge(&order, now) {
                Ok(_) if held.len() < MOST => held.push(order),
                Ok(_) => refused.push(format!("{}: more than {MOST} orders are in force", id(&order))),
                Err(Disobeyed::Time { .. }) => {}
                Err(why) => refused.push(format!("{}: {why}", id(&order))),
            }
        }
        let is_other = held != self.held;
        if is_other {
            operator::write(&self.path, &held)?;
            self.held = held;
        }
        Ok((is_other, refused))
    }

    /// Those that are in force under a policy: one whose operator it no longer names is not.
    #[must_use]
    pub fn in_force(&self, central: &Central, now: Timestamp) -> Vec<Obeyed> {
        let obeyed: Vec<Obeyed> = self.held.iter().filter_map(|order| central.judge(order, now).ok()).collect();
        let withdrawn: BTreeSet<String> = obeyed
            .iter()
            .filter_map(|obeyed| match &obeyed.order.effect {
                Effect::Withdraw(id) => Some(id.clone()),
                Effect::Block => None,
            })
            .collect();
        let stands = |obeyed: &Obeyed| obeyed.order.effect == Effect::Block && !withdrawn.contains(&obeyed.order.id);
        obeyed.into_iter().filter(stands).collect()
    }

    /// The same, as rules.
    #[must_use]
    pub fn rules(&self, central: &Central, now: Timestamp) -> Vec<LocalRule> {
        let rule = |obeyed: Obeyed| LocalRule {
            source: "fleet",
            name: Arc::from(obeyed.operator),
            observable: obeyed.observable,
            action: LocalAction::Block,
            until: Some(obeyed.order.until),
            reason: obeyed.order.reason.unwrap_or_default(),
        };
        self.in_force(central, now).into_iter().map(rule).collect()
    }
}

fn parse(order: &SignedOrder) -> Option<Order> {
    serde_json::from_str(&order.order).ok()
}

/// What an order that was taken says of its end.
fn is_over(order: &SignedOrder, now: Timestamp) -> bool {
    parse(order).is_none_or(|order| order.until <= now)
}

/// As an order that nobody verified calls itself.
fn id(order: &SignedOrder) -> String {
    parse(order).map_or_else(|| "an order without an id".to_owned(), |order| order.id.chars().take(64).collect())
}
