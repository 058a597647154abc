//! What hosts are called, and what they tell when something reached them.

use std::sync::mpsc::Sender;

use anyhow::{Result, anyhow};
use jiff::Timestamp;

/// Who has something since when.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// By the one clock that all processes of this machine share.
    pub at: Timestamp,
    /// What it has.
    pub what: What,
}

/// What reached a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A simulated host is connected.
    Connected,
    /// A simulated host accepted the policy with this serial.
    Policy(u64),
    /// A simulated host obeys the order about this value.
    Order(String),
    /// A real host let a connect to this address pass.
    Passed(String),
    /// The kernel of a real host refused a connect to this address.
    Refused(String),
}

/// Where hosts tell it.
pub type Tell = Sender<Arrival>;

/// Tells it; an error when nobody listens any more.
pub fn tell(to: &Tell, what: What) -> Result<()> {
    tell_since(to, Timestamp::now(), what)
}

/// The same, of an earlier moment.
pub fn tell_since(to: &Tell, at: Timestamp, what: What) -> Result<()> {
    to.send(Arrival { at, what }).map_err(|_| anyhow!("nobody listens to the hosts any more"))
}

/// The name of a simulated host.
pub fn simulated(number: usize) -> String {
    format!("simulated-{number:06}")
}

/// The name of a real host.
pub fn real(number: usize) -> String {
    format!("real-{number}")
}

/// All of them.
pub fn names(simulated_hosts: usize, real_hosts: usize) -> Vec<String> {
    (0..simulated_hosts).map(simulated).chain((0..real_hosts).map(real)).collect()
}
