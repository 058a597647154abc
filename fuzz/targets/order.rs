//! Lists of orders and heartbeats, which anybody on the bus may have made.
#![no_main]

use agent::fleet::{Heartbeat, Orders};
use agent::policy::{Enrolment, Order};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let own = Enrolment { tenant: "acme".to_owned(), group: "web".to_owned() };
    for order in Orders::parse(bytes).into_iter().flatten() {
        // Nobody has signed it: it must never be obeyed.
        assert!(order.judge(&[], &own, Timestamp::UNIX_EPOCH).is_err());
        let _ = serde_json::from_str::<Order>(&order.order);
    }
    let _ = serde_json::from_slice::<Heartbeat>(bytes);
});
