//! Traffic Light Protocol colours by name (FIRST TLP 2.0; TLP 1 WHITE is CLEAR).

use crate::intel::{Tlp, TlpOrigin};

/// A colour, with or without `TLP:`, in any case.
pub(super) fn named(text: &str) -> Option<Tlp> {
    let text = text.trim().to_ascii_lowercase().replace(' ', "");
    match text.strip_prefix("tlp:").unwrap_or(&text) {
        "clear" | "white" => Some(Tlp::Clear),
        "green" => Some(Tlp::Green),
        "amber" => Some(Tlp::Amber),
        "amber+strict" => Some(Tlp::AmberStrict),
        "red" => Some(Tlp::Red),
        _ => None,
    }
}

/// A label or tag that is a TLP marking; a colour that nobody knows is the strictest, because it may be.
pub(super) fn label(text: &str) -> Option<Tlp> {
    let is_marking = text.trim().get(..4).is_some_and(|start| start.eq_ignore_ascii_case("tlp:"));
    is_marking.then(|| named(text).unwrap_or(Tlp::Red))
}

/// The stricter of an indicator's own marking and a report's, and which it is.
pub(super) fn stricter(own: Option<Tlp>, inherited: Option<Tlp>) -> Option<(Tlp, TlpOrigin)> {
    match (own, inherited) {
        (own, Some(inherited)) if own.is_none_or(|own| inherited > own) => Some((inherited, TlpOrigin::Report)),
        (own, _) => own.map(|own| (own, TlpOrigin::Own)),
    }
}
