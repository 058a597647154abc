use super::{Mirrors, is_candidate};

const ONE_LINE: &str = "\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://third.example/apt stable main
deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
";

const DEB822: &str = "
Types: deb
URIs: https://third.example/node
Suites: nodistro

Types: deb
# a comment: with a colon
URIs: http://other.example/debian
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: http://other.example/debian-security
Suites: trixie-security
";

#[test]
fn one_line_sources_give_the_mirrors() {
    let mirrors = Mirrors::parse(ONE_LINE, "").expect("both mirrors are named");
    assert_eq!(
        mirrors.sources(&["bookworm", "bookworm-security"]),
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main\n\
         deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian-security \
         bookworm-security main\n"
    );
}

#[test]
fn deb822_sources_give_the_mirrors() {
    let mirrors = Mirrors::parse("", DEB822).expect("both mirrors are named");
    assert_eq!(mirrors.release, "http://other.example/debian");
    assert_eq!(mirrors.security, "http://other.example/debian-security");
}

#[test]
fn a_machine_without_debian_mirrors_is_told_so() {
    assert_eq!(Mirrors::parse("deb http://archive.example/ubuntu noble main", ""), None);
}

#[test]
fn a_package_without_a_candidate_is_not_offered() {
    assert!(is_candidate("  Candidate: 1:1.35.0-4"));
    assert!(!is_candidate("  Candidate: (none)"));
    assert!(!is_candidate("  Installed: 3"));
}
