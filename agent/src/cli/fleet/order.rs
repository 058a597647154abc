//! `cordon block --fleet` and `cordon unblock --fleet`: orders to all hosts of a group, or of the organisation.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;

use super::{Exit, OnBus, wait};
use crate::bundle::OperatorKey;
use crate::fleet;
use crate::intel::normalise;
use crate::policy::order::Effect;
use crate::policy::{Order, SignedOrder};
use crate::settings::{Places, Settings};

/// To whom, and as whom.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ToFleet {
    /// On all hosts that follow the organisation's policy, not on this one alone; needs --key and, to block, --for
    #[arg(long)]
    pub fleet: bool,
    /// The operator's private key, whose public half the policy names
    #[arg(long, value_name = "FILE", requires = "fleet")]
    key: Option<PathBuf>,
    /// Only hosts of this group
    #[arg(long, value_name = "GROUP", requires = "fleet")]
    group: Option<String>,
    /// The organisation; as the settings say unless given
    #[arg(long, value_name = "NAME", requires = "fleet")]
    tenant: Option<String>,
    #[command(flatten)]
    on: OnBus,
}

impl ToFleet {
    fn key(&self) -> anyhow::Result<OperatorKey> {
        let path = self.key.as_ref().context("--fleet needs --key FILE: the operator's private key")?;
        Ok(OperatorKey::read(path)?)
    }

    fn tenant(&self, places: &Places) -> anyhow::Result<String> {
        if let Some(tenant) = &self.tenant {
            return Ok(tenant.clone());
        }
        let policy = Settings::load(places)?.policy;
        policy.map(|policy| policy.enrolment.tenant).context("give --tenant, or set `policy.tenant` in the settings")
    }
}

/// Orders hosts to block a value for a while.
///
/// # Errors
/// The bus cannot be reached, or does not take the order.
pub fn block(
    to: &ToFleet,
    value: &str,
    duration: Option<Duration>,
    reason: Option<String>,
    is_json: bool,
    places: &Places,
) -> anyhow::Result<Exit> {
    let observable =
        normalise::any(value).with_context(|| format!("`{value}` is no address, domain, digest or path"))?;
    let duration = duration.context("--fleet needs --for: what is to stay goes into a policy")?;
    let now = Timestamp::now();
    let order = Order {
        schema: 1,
        id: uuid::Uuid::now_v7().to_string(),
        tenant: to.tenant(places)?,
        group: to.group.clone(),
        effect: Effect::Block,
        value: observable.to_string(),
        issued: now,
        until: now.checked_add(duration)?,
        reason,
    };
    let signed = order.sign(to.key()?.pair()).map_err(anyhow::Error::msg)?;
    wait(async {
        let bus = to.on.connect(places).await?;
        Ok(fleet::give(&bus, to.group.as_deref(), &[signed], now).await?)
    })?;
    let document = json!({ "schema": 1, "order": order });
    let whom = to.group.as_ref().map_or_else(|| "all hosts".to_owned(), |group| format!("group {group}"));
    match is_json {
        true => println!("{document}"),
        false => println!("{whom} of {} block {observable} until {}; order {}", order.tenant, order.until, order.id),
    }
    Ok(Exit::Done)
}

/// Orders hosts to obey no more what they were ordered about a value.
///
/// # Errors
/// No order about it is on the bus, or the bus does not take the new one.
pub fn unblock(to: &ToFleet, value: &str, is_json: bool, places: &Places) -> anyhow::Result<Exit> {
    let observable =
        normalise::any(value).with_context(|| format!("`{value}` is no address, domain, digest or path"))?;
    let (key, now) = (to.key()?, Timestamp::now());
    let withdrawn = wait(async {
        let bus = to.on.connect(places).await?;
        let given = fleet::given(&bus, to.group.as_deref()).await?;
        let mut orders = Vec::new();
        for order in
            standing(&given, now).into_iter().filter(|order| normalise::any(&order.value).as_ref() == Some(&observable))
        {
            let withdrawal = Order {
                id: uuid::Uuid::now_v7().to_string(),
                effect: Effect::Withdraw(order.id.clone()),
                issued: now,
                reason: None,
                ..order
            };
            orders.push(withdrawal.sign(key.pair()).map_err(anyhow::Error::msg)?);
        }
        anyhow::ensure!(!orders.is_empty(), "no order about {observable} is in force there");
        fleet::give(&bus, to.group.as_deref(), &orders, now).await?;
        anyhow::Ok(orders.len())
    })?;
    match is_json {
        true => println!("{}", json!({ "schema": 1, "value": observable.to_string(), "withdrawn": withdrawn })),
        false => println!("{withdrawn} orders about {observable} withdrawn"),
    }
    Ok(Exit::Done)
}

/// Those that block, and that nobody has withdrawn.
fn standing(given: &[SignedOrder], now: Timestamp) -> Vec<Order> {
    let orders: Vec<Order> = given.iter().filter_map(|order| serde_json::from_str(&order.order).ok()).collect();
    let withdrawn: BTreeSet<&String> = orders
        .iter()
        .filter_map(|order| match &order.effect {
            Effect::Withdraw(id) => Some(id),
            Effect::Block => None,
        })
        .collect();
    let stands = |order: &&Order| order.effect == Effect::Block && order.until > now && !withdrawn.contains(&order.id);
    orders.iter().filter(stands).cloned().collect()
}
