use aws_lc_rs::signature::KeyPair;

use super::*;

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn own() -> Enrolment {
    Enrolment { tenant: "acme".into(), group: "web".into() }
}

fn operators() -> Vec<Operator> {
    let operator = |name: &str, seed, types: &[&str]| Operator {
        name: name.into(),
        key: STANDARD.encode(key(seed).public_key().as_ref()),
        longest: "24h".parse().unwrap(),
        types: types.iter().map(|&name| name.into()).collect(),
    };
    vec![operator("alice", 1, &[]), operator("night-shift", 2, &["ipv4", "domain"])]
}

fn order(value: &str) -> Order {
    Order {
        schema: 1,
        id: "0193-1".into(),
        tenant: "acme".into(),
        group: Some("web".into()),
        effect: Effect::Block,
        value: value.into(),
        issued: now(),
        until: now() + SignedDuration::from_hours(24),
        reason: Some("seen elsewhere".into()),
    }
}

fn judge(order: &Order, seed: u8) -> Result<Obeyed, Disobeyed> {
    order.sign(&key(seed)).unwrap().judge(&operators(), &own(), now())
}

#[test]
fn an_order_within_its_scope_is_obeyed() {
    let obeyed = judge(&order("198.51.100.7"), 2).unwrap();
    assert_eq!((obeyed.operator.as_str(), obeyed.observable.to_string().as_str()), ("night-shift", "198.51.100.7"));
    let everybody = Order { group: None, ..order("evil.example") };
    assert_eq!(judge(&everybody, 1).unwrap().operator, "alice");
}

#[test]
fn nobody_else_is_obeyed() {
    assert_eq!(judge(&order("198.51.100.7"), 3), Err(Disobeyed::Signature));
    let mut altered = order("198.51.100.7").sign(&key(1)).unwrap();
    altered.order = altered.order.replace("198.51.100.7", "198.51.100.8");
    assert_eq!(altered.judge(&operators(), &own(), now()), Err(Disobeyed::Signature));
    // Signed by the right key for something else.
    let bare = order("198.51.100.7");
    let text = serde_json::to_string(&bare).unwrap();
    let signature = STANDARD.encode(key(1).sign(text.as_bytes()));
    let signed = SignedOrder { order: text, signature };
    assert_eq!(signed.judge(&operators(), &own(), now()), Err(Disobeyed::Signature));
    assert_eq!(judge(&order("198.51.100.7"), 1).unwrap().order, bare);
    assert_eq!(signed.judge(&[], &own(), now()), Err(Disobeyed::Signature), "a policy without operators obeys none");
}

#[test]
fn an_order_for_others_or_another_time_is_not_obeyed() {
    let tenant = Order { tenant: "other".into(), ..order("198.51.100.7") };
    assert!(matches!(judge(&tenant, 1), Err(Disobeyed::NotForUs(_))));
    let group = Order { group: Some("db".into()), ..order("198.51.100.7") };
    assert!(matches!(judge(&group, 1), Err(Disobeyed::NotForUs(_))));
    let ended = Order { issued: now() - SignedDuration::from_hours(2), until: now(), ..order("198.51.100.7") };
    assert!(judge(&ended, 1).unwrap_err().is_over());
    let early = Order { issued: now() + SignedDuration::from_mins(6), ..order("198.51.100.7") };
    assert!(judge(&early, 1).unwrap_err().is_over());
}

#[test]
fn an_operator_may_no_more_than_the_policy_says() {
    let long = Order { until: now() + SignedDuration::from_hours(25), ..order("198.51.100.7") };
    assert!(matches!(judge(&long, 1), Err(Disobeyed::Scope { .. })));
    let hash = order("d41d8cd98f00b204e9800998ecf8427e");
    assert!(matches!(judge(&hash, 2), Err(Disobeyed::Scope { .. })));
    assert!(judge(&hash, 1).is_ok());
    assert!(matches!(judge(&order("what?"), 1), Err(Disobeyed::Form(_))));
    let unknown = Order { schema: 2, ..order("198.51.100.7") };
    assert!(matches!(judge(&unknown, 1), Err(Disobeyed::Form(_))));
    assert!(Order { reason: Some("x".repeat(5000)), ..order("198.51.100.7") }.sign(&key(1)).is_err());
}
