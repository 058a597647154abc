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

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use jiff::SignedDuration;

    use super::*;
    use crate::bundle::Verified;
    use crate::policy::Enrolment;

    fn now() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    /// A policy that names the operators with these keys.
    fn central(seeds: &[u8]) -> Central {
        let operators: String = seeds
            .iter()
            .map(|seed| {
                let public = STANDARD.encode(key(*seed).public_key().as_ref());
                format!("[[operator]]\nname = \"o{seed}\"\nkey = \"{public}\"\nlongest = \"24h\"\n")
            })
            .collect();
        let text = format!("schema = 1\ntenant = \"acme\"\ngroup = \"web\"\nserial = 1\n{operators}");
        let own = Enrolment { tenant: "acme".into(), group: "web".into() };
        Central::accept(&Verified::assumed(&text, &[]), &own, None, now()).unwrap()
    }

    fn order(id: &str, effect: Effect, seed: u8) -> SignedOrder {
        let order = Order {
            schema: 1,
            id: id.into(),
            tenant: "acme".into(),
            group: None,
            effect,
            value: "198.51.100.7".into(),
            issued: now(),
            until: now() + SignedDuration::from_hours(1),
            reason: None,
        };
        order.sign(&key(seed)).unwrap()
    }

    fn in_force(orders: &StandingOrders, central: &Central) -> Vec<String> {
        orders.in_force(central, now()).into_iter().map(|obeyed| obeyed.order.id).collect()
    }

    #[test]
    fn an_order_stands_though_the_bus_forgets_it_and_the_agent_restarts() {
        let (directory, central) = (tempfile::tempdir().unwrap(), central(&[1]));
        let mut orders = StandingOrders::open(directory.path()).unwrap();
        let given = vec![order("a", Effect::Block, 1)];
        assert_eq!(orders.take(given.clone(), &central, now()).unwrap(), (true, Vec::new()));
        assert_eq!(orders.take(given, &central, now()).unwrap(), (false, Vec::new()), "heard again");
        assert_eq!(orders.take(Vec::new(), &central, now()).unwrap(), (false, Vec::new()), "held back");
        let mut orders = StandingOrders::open(directory.path()).unwrap();
        assert_eq!(in_force(&orders, &central), ["a"]);
        assert_eq!(orders.rules(&central, now())[0].source, "fleet");
        let later = now() + SignedDuration::from_hours(1);
        assert_eq!(orders.take(Vec::new(), &central, later).unwrap(), (true, Vec::new()));
        assert_eq!(in_force(&orders, &central), Vec::<String>::new(), "over");
    }

    #[test]
    fn what_was_withdrawn_stays_so_whoever_plays_it_back() {
        let (directory, central) = (tempfile::tempdir().unwrap(), central(&[1, 2]));
        let mut orders = StandingOrders::open(directory.path()).unwrap();
        let (block, other) = (order("a", Effect::Block, 1), order("b", Effect::Block, 2));
        let withdrawal = order("c", Effect::Withdraw("a".into()), 2);
        orders.take(vec![block.clone(), other, withdrawal], &central, now()).unwrap();
        assert_eq!(in_force(&orders, &central), ["b"]);
        orders.take(vec![block.clone()], &central, now()).unwrap();
        assert_eq!(in_force(&orders, &central), ["b"]);
        // The withdrawal first, as somebody who holds the order back would have it.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut orders = StandingOrders::open(elsewhere.path()).unwrap();
        orders.take(vec![order("c", Effect::Withdraw("a".into()), 2)], &central, now()).unwrap();
        orders.take(vec![block], &central, now()).unwrap();
        assert_eq!(in_force(&orders, &central), Vec::<String>::new());
    }

    #[test]
    fn orders_end_with_the_policy_that_names_who_gave_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut orders = StandingOrders::open(directory.path()).unwrap();
        let given = vec![order("a", Effect::Block, 1), order("b", Effect::Block, 3)];
        let (is_other, refused) = orders.take(given, &central(&[1]), now()).unwrap();
        assert!(is_other && refused.len() == 1 && refused[0].starts_with("b: bad signature"), "{refused:?}");
        assert_eq!(in_force(&orders, &central(&[1])), ["a"]);
        assert_eq!(in_force(&orders, &central(&[2])), Vec::<String>::new());
    }
}
