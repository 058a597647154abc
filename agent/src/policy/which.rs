//! Which indicators a rule is about.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::intel::{Attribution, Name, Observable, Path, Tlp};

/// Which indicators a rule is about. What is said must all hold; of a list, one of it. Names are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// Sources, by name; `bundle.NAME` for what came with the policy.
    pub source: Vec<String>,
    /// Types of values: `ipv4`, `ipv4_prefix`, `ipv6`, `ipv6_prefix`, `endpoint`, `domain`, `url`, `sha256`, `sha1`, `md5`,
    /// `path`, `file_name`.
    #[serde(rename = "type")]
    pub kind: Vec<String>,
    /// Ids, as the publisher gave them.
    pub id: Vec<String>,
    /// 0 to 100: of this confidence or a higher one. An indicator without a confidence does not match.
    pub min_confidence: Option<u8>,
    /// Names that the publisher gave as a label, tag or galaxy. Labels that name no actor, malware, campaign or technique are
    /// not kept, and match nothing.
    pub label: Vec<String>,
    /// Threat actors and intrusion sets.
    pub actor: Vec<String>,
    /// Campaigns.
    pub campaign: Vec<String>,
    /// Malware and tools.
    pub malware: Vec<String>,
    /// ATT&CK ids of techniques; `T1071` also matches `T1071.001`.
    pub technique: Vec<String>,
    /// Markings (TLP 2.0): `clear`, `green`, `amber`, `amber+strict`, `red`.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub tlp: Vec<Tlp>,
}

/// What is known of an indicator when a rule is looked for.
pub struct Facts<'a> {
    /// The publisher's id.
    pub id: Option<&'a str>,
    /// 0..=100.
    pub confidence: Option<u8>,
    /// Effective marking.
    pub tlp: Option<Tlp>,
    /// Who and what it stands for; asked for only if a rule names somebody.
    pub attribution: &'a dyn Fn() -> Arc<Attribution>,
}

impl Which {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(unknown) = self.kind.iter().find(|kind| !Observable::TYPE_NAMES.contains(&kind.as_str())) {
            return Err(format!("type `{unknown}` is not known; there are {}", Observable::TYPE_NAMES.join(", ")));
        }
        match self.min_confidence {
            Some(least) if least > 100 => Err("min_confidence is 0 to 100".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether it can match anything of a source.
    pub(super) fn is_about(&self, source: &str) -> bool {
        holds(&self.source, |name| name == source)
    }

    /// Whether it matches a value of an indicator of a source that [`Self::is_about`] accepts.
    pub(super) fn matches(&self, facts: &Facts<'_>, value: &Observable) -> bool {
        holds(&self.kind, |kind| kind == value.type_name())
            && holds(&self.id, |id| facts.id == Some(id))
            && self.min_confidence.is_none_or(|least| facts.confidence.is_some_and(|given| given >= least))
            && (self.tlp.is_empty() || facts.tlp.is_some_and(|tlp| self.tlp.contains(&tlp)))
            && (self.names_nobody() || self.names(&(facts.attribution)()))
    }

    fn names_nobody(&self) -> bool {
        [&self.label, &self.actor, &self.campaign, &self.malware, &self.technique].iter().all(|names| names.is_empty())
    }

    fn names(&self, known: &Attribution) -> bool {
        let among = |names: &[Name], wanted: &str| names.iter().any(|name| same(&name.name, wanted));
        let labels = || [&known.actors, &known.campaigns, &known.malware, &known.techniques].into_iter().flatten();
        holds(&self.label, |wanted| labels().any(|name| name.path == Path::Label && same(&name.name, wanted)))
            && holds(&self.actor, |wanted| among(&known.actors, wanted))
            && holds(&self.campaign, |wanted| among(&known.campaigns, wanted))
            && holds(&self.malware, |wanted| among(&known.malware, wanted))
            && holds(&self.technique, |wanted| known.techniques.iter().any(|name| is_technique(&name.name, wanted)))
    }

    /// Whether whatever `other` matches is matched by this, too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let exact = [(&self.source, &other.source), (&self.kind, &other.kind), (&self.id, &other.id)];
        let names = [
            (&self.label, &other.label),
            (&self.actor, &other.actor),
            (&self.campaign, &other.campaign),
            (&self.malware, &other.malware),
            (&self.technique, &other.technique),
        ];
        let spans = |own: &[String], others: &[String], is_same: fn(&str, &str) -> bool| {
            own.is_empty()
                || (!others.is_empty() && others.iter().all(|other| own.iter().any(|one| is_same(one, other))))
        };
        let tlp = self.tlp.is_empty() || (!other.tlp.is_empty() && other.tlp.iter().all(|tlp| self.tlp.contains(tlp)));
        let confidence = self.min_confidence.is_none_or(|own| other.min_confidence.is_some_and(|least| least >= own));
        exact.iter().all(|(own, others)| spans(own, others, |one, other| one == other))
            && names.iter().all(|(own, others)| spans(own, others, same))
            && tlp
            && confidence
    }
}

/// Whether nothing is said, or one of what is said holds.
fn holds(said: &[String], is_so: impl Fn(&str) -> bool) -> bool {
    said.is_empty() || said.iter().any(|one| is_so(one))
}

fn same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// Whether a technique is the wanted one, or one below it.
fn is_technique(name: &str, wanted: &str) -> bool {
    same(name, wanted) || name.split_once('.').is_some_and(|(above, _)| same(above, wanted))
}
