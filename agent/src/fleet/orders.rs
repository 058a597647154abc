//! Orders on the bus: a list for each group and one for all, each order signed by itself.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bus::Reader;
use super::{Bus, Error, NEWS, POLICY};
use crate::policy::{Order, SignedOrder, is_name};

/// Bytes of a list: some five hundred orders.
const MAX_BYTES: usize = 512 << 10;
/// Attempts to change a list that others are changing, too.
const ATTEMPTS: usize = 8;

/// What news are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A policy was pushed.
    Policy,
    /// Orders were given, to a group or to all.
    Orders(Option<String>),
}

impl Topic {
    /// By the subject that they came with.
    #[must_use]
    pub fn of(subject: &str) -> Option<Self> {
        match subject.strip_prefix(NEWS)?.strip_prefix('.')? {
            "timestamp.json" => Some(Self::Policy),
            "orders.all" => Some(Self::Orders(None)),
            other => {
                let group = other.strip_prefix("orders.group.").filter(|group| is_name(group))?;
                Some(Self::Orders(Some(group.to_owned())))
            }
        }
    }

    /// Whether they concern a host of this group.
    #[must_use]
    pub fn concerns(&self, own: Option<&str>) -> bool {
        match self {
            Self::Policy | Self::Orders(None) => true,
            Self::Orders(Some(group)) => own == Some(group),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => f.write_str("the policy"),
            Self::Orders(None) => f.write_str("orders to all"),
            Self::Orders(Some(group)) => write!(f, "orders to group {group}"),
        }
    }
}

/// A list as it is on the bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    schema: u32,
    orders: Vec<SignedOrder>,
}

impl Orders {
    /// The orders of a list. What they say is nobody's word yet.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Vec<SignedOrder>, String> {
        if bytes.len() > MAX_BYTES {
            return Err(format!("a list of orders with {} bytes; {MAX_BYTES} are read", bytes.len()));
        }
        let list: Self = serde_json::from_slice(bytes).map_err(|error| format!("no list of orders: {error}"))?;
        match list.schema {
            1 => Ok(list.orders),
            other => Err(format!("a list of orders of schema {other}, which this version does not know")),
        }
    }
}

/// The key of a list.
fn key(group: Option<&str>) -> String {
    group.map_or_else(|| "news.orders.all".to_owned(), |group| format!("news.orders.group.{group}"))
}

/// The orders for all and for a group.
///
/// # Errors
/// The bus does not give them, or what it gives is no list.
pub async fn orders(bus: &Bus, group: &str) -> Result<Vec<(Topic, Vec<SignedOrder>)>, Error> {
    let mut lists = Vec::new();
    for group in [None, Some(group)] {
        lists.push((Topic::Orders(group.map(str::to_owned)), list(bus, group, Reader::Any).await?.0));
    }
    Ok(lists)
}

/// The orders that were given to a group, or to all.
///
/// # Errors
/// The bus does not give them, or what it gives is no list.
pub async fn given(bus: &Bus, group: Option<&str>) -> Result<Vec<SignedOrder>, Error> {
    Ok(list(bus, group, Reader::Leader).await?.0)
}

/// A list and its revision.
async fn list(bus: &Bus, group: Option<&str>, from: Reader) -> Result<(Vec<SignedOrder>, u64), Error> {
    let key = key(group);
    let Some(value) = bus.read(&key, from).await? else { return Ok((Vec::new(), 0)) };
    let orders = Orders::parse(&value.bytes).map_err(|why| Error::Refused { what: format!("give `{key}`"), why })?;
    Ok((orders, value.revision))
}

/// Adds orders to a list, and drops those that are over.
///
/// # Errors
/// The bus does not take it.
pub async fn give(bus: &Bus, group: Option<&str>, given: &[SignedOrder], now: Timestamp) -> Result<(), Error> {
    let bucket = bus.bucket(POLICY).await?;
    let key = key(group);
    let what = format!("take orders as `{key}`");
    for _ in 0..ATTEMPTS {
        let (mut orders, revision) = list(bus, group, Reader::Leader).await?;
        orders.retain(|order| !is_over(order, now));
        orders.extend_from_slice(given);
        let bytes = serde_json::to_vec(&Orders { schema: 1, orders }).unwrap_or_default();
        if bytes.len() > MAX_BYTES {
            let why = "too many are in force; sign a policy with what they block, and withdraw them".to_owned();
            return Err(Error::Refused { what, why });
        }
        match bucket.update(&key, bytes.into(), revision).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == async_nats::jetstream::kv::UpdateErrorKind::WrongLastRevision => {}
            Err(error) => return Err(bus.refused(&what, error)),
        }
    }
    Err(Error::Refused { what, why: "others change them all the time; try again".to_owned() })
}

/// As the order itself says: what nobody obeys any more need not be there.
fn is_over(order: &SignedOrder, now: Timestamp) -> bool {
    serde_json::from_str::<Order>(&order.order).is_ok_and(|order| order.until <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_apart() {
        assert_eq!(Topic::of("cordon.news.timestamp.json"), Some(Topic::Policy));
        assert_eq!(Topic::of("cordon.news.orders.all"), Some(Topic::Orders(None)));
        assert_eq!(Topic::of("cordon.news.orders.group.web.eu"), Some(Topic::Orders(Some("web.eu".into()))));
        for other in ["cordon.news.orders.group.", "cordon.news.orders.group.A", "cordon.newsorders.all", "cordon.news"]
        {
            assert_eq!(Topic::of(other), None, "{other}");
        }
        assert!(!Topic::Orders(Some("web".into())).concerns(Some("db")));
        assert!(!Topic::Orders(Some("web".into())).concerns(None));
        assert!(Topic::Orders(None).concerns(None));
    }

    #[test]
    fn a_list_is_one_or_is_refused() {
        assert_eq!(Orders::parse(br#"{"schema":1,"orders":[]}"#), Ok(Vec::new()));
        for bad in ["", "[]", r#"{"schema":2,"orders":[]}"#] {
            assert!(Orders::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Orders::parse(&vec![b' '; MAX_BYTES + 1]).unwrap_err().contains("bytes"));
    }
}
