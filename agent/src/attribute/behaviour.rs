//! What a record says where no indicator matched, but the settings judge what a program did.

use super::finding::IndicatorRef;
use crate::event::{Action, Behaviour};

const AF_PACKET: u16 = 17;

/// What stands for an indicator: its `type` is `behaviour`, its `source` the settings.
pub(super) fn indicator(behaviour: Behaviour, action: &Action) -> IndicatorRef {
    let value = match (behaviour, action) {
        (Behaviour::SourceRoute, _) => "source_route",
        (Behaviour::RawSocket, Action::Socket { family: AF_PACKET, .. }) => "packet_socket",
        (Behaviour::RawSocket, _) => "raw_socket",
        (Behaviour::UnreadName, _) => "unread_name",
    };
    IndicatorRef {
        id: format!("behaviour:{value}"),
        kind: "behaviour".to_owned(),
        value: value.to_owned(),
        source: "settings".to_owned(),
        confidence: None,
        tlp: None,
        valid_until: None,
    }
}

/// The key of the settings that decides.
pub(super) const fn rule(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::SourceRoute => "network.source_routes",
        Behaviour::RawSocket => "network.raw_sockets",
        Behaviour::UnreadName => "network.unread_names",
    }
}
