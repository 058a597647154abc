//! Names that belong to everybody: public suffixes and popular sites.

use std::collections::HashMap;

const POPULAR: &str = include_str!("popular.txt");

/// Popular sites, and the names above them: whoever blocks one of these blocks a popular site.
#[derive(Debug)]
pub struct Popular(HashMap<&'static str, &'static str>);

impl Popular {
    /// The list that this version came with.
    #[must_use]
    pub fn new() -> Self {
        let mut sites: Vec<&str> = POPULAR.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        // The last for a name is kept: the name itself, or the shortest below it.
        sites.sort_by_key(|site| std::cmp::Reverse(site.len()));
        Self(sites.into_iter().flat_map(|site| super::benign::suffixes(site).map(move |above| (above, site))).collect())
    }

    /// The popular site that `name` is; a name below one is somebody else's.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<&'static str> {
        let name = name.strip_prefix("www.").unwrap_or(name);
        self.0.get(name).copied().filter(|site| site.strip_prefix("www.").unwrap_or(site) == name)
    }

    /// A popular site that is `name` or lies below it.
    pub(super) fn below(&self, name: &str) -> Option<&'static str> {
        self.0.get(name.strip_prefix("www.").unwrap_or(name)).copied()
    }
}

impl Default for Popular {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether everybody may register names below `name` (publicsuffix.org): by the registries' rules, or by a provider's rule for
/// this very name. A provider's wildcard (`*.compute-1.amazonaws.com`) makes each of its hosts a suffix, which they are not to us.
pub(super) fn is_public_suffix(name: &str) -> bool {
    let Some(kind) = suffix_kind(name) else { return false };
    let by_wildcard = || {
        let above = name.split_once('.').map(|(_, above)| above);
        // No rule names this label, so that only a wildcard makes it a suffix.
        above.is_some_and(|above| suffix_kind(&format!("no-rule-names-this.{above}")).is_some())
    };
    kind == psl::Type::Icann || !by_wildcard()
}

/// Whose rule makes all of `name` a suffix, if any does.
fn suffix_kind(name: &str) -> Option<psl::Type> {
    psl::suffix(name.as_bytes()).filter(|suffix| suffix.as_bytes() == name.as_bytes())?.typ()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_told_from_names_below_them() {
        for name in ["com", "co.uk", "com.au", "foo.ck", "github.io", "duckdns.org", "workers.dev", "appspot.com"] {
            assert!(is_public_suffix(name), "{name}");
        }
        for name in [
            "example.com",
            "a.co.uk",
            "www.ck",
            "evil.github.io",
            "lamp.duckdns.org",
            "ec2-192-0-2-1.compute-1.amazonaws.com",
            "a.example",
            "localdomain.invalid",
        ] {
            assert!(!is_public_suffix(name), "{name}");
        }
    }

    #[test]
    fn popular_sites_are_meant_with_the_names_above_them_and_not_with_those_below() {
        let popular = Popular::new();
        for (name, site) in [
            ("github.com", Some("github.com")),
            ("www.github.com", Some("github.com")),
            ("www.google.com", Some("www.google.com")),
            ("evil.github.com", None),
            ("notgithub.com", None),
            ("s3.amazonaws.com", Some("s3.amazonaws.com")),
            ("lamp.s3.amazonaws.com", None),
            ("talosintelligence.com", Some("talosintelligence.com")),
            ("example.net", None),
        ] {
            let found = popular.below(name);
            assert_eq!(found.is_some(), site.is_some(), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_popular_site_is_told_from_the_names_above_and_below_it() {
        let popular = Popular::new();
        assert_eq!(popular.site("github.com"), Some("github.com"));
        assert_eq!(popular.site("www.github.com"), Some("github.com"));
        for name in ["com", "githubusercontent.com", "evil.github.com", "notgithub.com"] {
            assert_eq!(popular.site(name), None, "{name}");
        }
    }

    #[test]
    fn the_list_is_of_canonical_names_each_once() {
        let names: Vec<&str> = POPULAR.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        for name in &names {
            let canonical = crate::intel::normalise::domain(name).unwrap();
            assert_eq!(canonical.to_string(), **name);
            assert!(!is_public_suffix(name) || names.iter().filter(|other| *other == name).count() == 1);
        }
        let distinct: std::collections::HashSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
