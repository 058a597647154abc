//! Names gathered for one indicator, whatever way they are published, and what MISP's galaxies call them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use crate::intel::{Attribution, Name, Path};

/// Names of one kind on one indicator.
const MAX_NAMES: usize = 256;

/// Names in all distinct attributions of a file, which are otherwise as many as its indicators times their names.
const MAX_TIES: usize = 4_000_000;

/// The names found, each with its most direct path.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    actors: BTreeMap<String, Path>,
    campaigns: BTreeMap<String, Path>,
    malware: BTreeMap<String, Path>,
    techniques: BTreeMap<String, Path>,
    reports: BTreeSet<String>,
    references: BTreeSet<String>,
}

fn note(names: &mut BTreeMap<String, Path>, name: &str, path: Path) {
    let name = name.trim();
    if name.is_empty() || (names.len() >= MAX_NAMES && !names.contains_key(name)) {
        return;
    }
    let known = names.entry(name.to_owned()).or_insert(path);
    *known = (*known).min(path);
}

fn sorted(found: BTreeMap<String, Path>) -> Vec<Name> {
    let mut names: Vec<Name> = found.into_iter().map(|(name, path)| Name { name, path }).collect();
    names.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| a.name.cmp(&b.name)));
    names
}

/// `T1071` or `T1071.001`.
pub(super) fn is_technique(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('T') else { return false };
    let (id, sub) = digits.split_once('.').unwrap_or((digits, "000"));
    let number = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    number(id, 4) && number(sub, 3)
}

/// The ATT&CK id at the end of a name, as MISP's galaxies write it: `Web Protocols - T1071.001`.
fn technique_in(name: &str) -> Option<&str> {
    name.rsplit([' ', '-', '(', ')', ':']).find(|word| is_technique(word))
}

impl Names {
    pub(super) fn actor(&mut self, name: &str, path: Path) {
        note(&mut self.actors, name, path);
    }

    pub(super) fn campaign(&mut self, name: &str, path: Path) {
        note(&mut self.campaigns, name, path);
    }

    pub(super) fn malware(&mut self, name: &str, path: Path) {
        note(&mut self.malware, name, path);
    }

    /// Notes the ATT&CK id in a name, or the name.
    pub(super) fn technique(&mut self, name: &str, path: Path) {
        note(&mut self.techniques, technique_in(name).unwrap_or(name), path);
    }

    pub(super) fn report(&mut self, title: &str) {
        let title = title.trim();
        if !title.is_empty() && self.reports.len() < MAX_NAMES {
            self.reports.insert(title.to_owned());
        }
    }

    pub(super) fn reference(&mut self, url: &str) {
        if self.references.len() < MAX_NAMES {
            self.references.insert(url.to_owned());
        }
    }

    /// Takes a MISP attribute that names who or what is behind the others of its event; `false` for one of another type.
    pub(super) fn misp_attribute(&mut self, kind: &str, value: &str) -> bool {
        match kind {
            "threat-actor" => self.actor(value, Path::MispAttribute),
            "campaign-name" => self.campaign(value, Path::MispAttribute),
            "malware-type" => self.malware(value, Path::MispAttribute),
            _ => return false,
        }
        true
    }

    /// Takes a tag that stands for a cluster of a MISP galaxy: `misp-galaxy:threat-actor="…"`.
    pub(super) fn label(&mut self, label: &str) {
        let galaxy = label.trim().strip_prefix("misp-galaxy:").and_then(|label| label.split_once('='));
        if let Some((galaxy, value)) = galaxy {
            self.galaxy(galaxy, value.trim_matches('"'));
        }
    }

    /// Takes a cluster of a MISP galaxy. Private galaxies name their clusters by UUID, which tells nobody anything.
    pub(super) fn galaxy(&mut self, galaxy: &str, value: &str) {
        if uuid::Uuid::try_parse(value).is_ok() {
            return;
        }
        // ATT&CK's galaxies have been renamed over the years, the ends of their names have not:
        // mitre-attack-pattern, mitre-enterprise-attack-attack-pattern, mitre-mobile-attack-attack-pattern.
        match galaxy {
            "microsoft-activity-group" => self.actor(value, Path::Label),
            "malpedia" | "tool" | "rat" | "botnet" | "ransomware" | "backdoor" | "stealer" | "banker"
            | "exploit-kit" | "cryptominers" => self.malware(value, Path::Label),
            _ if galaxy.ends_with("attack-pattern") => self.technique(value, Path::Label),
            _ if galaxy.ends_with("threat-actor") || galaxy.ends_with("intrusion-set") => {
                self.actor(value, Path::Label);
            }
            _ if galaxy.ends_with("campaign") || galaxy.ends_with("campaigns") => self.campaign(value, Path::Label),
            _ if galaxy.starts_with("mitre-") && (galaxy.ends_with("malware") || galaxy.ends_with("tool")) => {
                self.malware(value, Path::Label);
            }
            _ => {}
        }
    }

    /// Takes in what another has.
    pub(super) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.actors, &other.actors),
            (&mut self.campaigns, &other.campaigns),
            (&mut self.malware, &other.malware),
            (&mut self.techniques, &other.techniques),
        ];
        for (own, others) in pairs {
            others.iter().for_each(|(name, path)| note(own, name, *path));
        }
        other.reports.iter().for_each(|title| self.report(title));
        other.references.iter().for_each(|url| self.reference(url));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let names = [&self.actors, &self.campaigns, &self.malware, &self.techniques];
        names.into_iter().map(BTreeMap::len).sum::<usize>() + self.reports.len() + self.references.len()
    }

    pub(super) fn finish(self) -> Attribution {
        Attribution {
            actors: sorted(self.actors),
            campaigns: sorted(self.campaigns),
            malware: sorted(self.malware),
            techniques: sorted(self.techniques),
            reports: self.reports.into_iter().collect(),
            references: self.references.into_iter().collect(),
        }
    }
}

/// Attributions by what gives them, so that equal ones are one.
pub(super) struct Attributions<K> {
    known: HashMap<K, Arc<Attribution>>,
    ties: usize,
    cut: u64,
}

impl<K> Default for Attributions<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), ties: 0, cut: 0 }
    }
}

impl<K: Eq + Hash> Attributions<K> {
    /// What `key` gives, if that is known; nothing once there are too many names, see [`Self::read_as`].
    pub(super) fn get(&mut self, key: &K) -> Option<Arc<Attribution>> {
        let known = self.known.get(key).cloned();
        let is_cut = known.is_none() && self.ties > MAX_TIES;
        self.cut += u64::from(is_cut);
        known.or_else(|| is_cut.then(Arc::default))
    }

    pub(super) fn keep(&mut self, key: K, names: Names) -> Arc<Attribution> {
        self.ties += names.len();
        let attribution = Arc::new(names.finish());
        self.known.insert(key, Arc::clone(&attribution));
        attribution
    }

    /// How a file of this format was read: what was cut is said.
    pub(super) fn read_as(&self, format: &str) -> String {
        match self.cut {
            0 => format.to_owned(),
            cut => format!("{format}; {cut} indicators are without names, because others have {MAX_TIES}"),
        }
    }
}
