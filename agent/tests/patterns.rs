//! The pattern grammar held against the reference: the OASIS validator (PyPI `stix2-patterns`), installed into a private
//! environment below `target/`. Its own cases, a table of ours, and changes made to all of them must be taken or refused alike.
//!
//! Where the two differ on purpose: digests in `IN (…)` and `NOT IN` are checked one by one, where the reference compares the
//! whole list with one digest and refuses it; `[-1]` is an index of the grammar on which the reference crashes; nesting and size
//! have caps. Nothing of this is in the OASIS examples.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::intel::parse::pattern::{Version, parse};
use serde_json::Value;

/// The version whose grammar and checks are matched.
const REFERENCE: &str = "stix2-patterns==2.1.2";

/// Pattern, valid in 2.0, valid in 2.1.
const TABLE: &[(&str, bool, bool)] = &[
    // Observations.
    ("[a:b = 1]", true, true),
    ("([a:b = 1])", true, true),
    ("(([a:b = 1]) AND [c:d = 2])", true, true),
    ("[a:b = 1] AND [c:d = 2] OR [e:f = 3] FOLLOWEDBY [g:h = 4]", true, true),
    ("[a:b = 1] AND", false, false),
    ("[a:b = 1] [c:d = 2]", false, false),
    ("[a:b = 1]]", false, false),
    ("[[a:b = 1]]", false, false),
    ("[]", false, false),
    ("()", false, false),
    ("   ", false, false),
    ("a:b = 1", false, false),
    // Qualifiers.
    ("[a:b = 1] WITHIN 5 SECONDS", true, true),
    ("[a:b = 1] WITHIN .5 SECONDS", true, true),
    ("[a:b = 1] WITHIN +5 SECONDS", true, true),
    ("[a:b = 1] WITHIN 0 SECONDS", true, true),
    ("[a:b = 1] WITHIN -5 SECONDS", false, false),
    ("[a:b = 1] WITHIN '5' SECONDS", false, false),
    ("[a:b = 1] WITHIN 5 HOURS", false, false),
    ("[a:b = 1] within 5 SECONDS", false, false),
    ("[a:b = 1] REPEATS 5 TIMES", true, true),
    ("[a:b = 1] REPEATS 0 TIMES", true, true),
    ("[a:b = 1] REPEATS 1.5 TIMES", false, false),
    ("[a:b = 1] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z'", true, true),
    ("[a:b = 1] START t'2026-02-01T00:00:00Z' STOP t'2026-01-01T00:00:00Z'", true, true),
    ("[a:b = 1] START '2026-01-01T00:00:00Z' STOP '2026-02-01T00:00:00Z'", false, false),
    ("[a:b = 1] START t'2026-01-01T00:00:00Z'", false, false),
    ("[a:b = 1] WITHIN 5 SECONDS WITHIN 6 SECONDS", true, false),
    ("([a:b = 1] REPEATS 2 TIMES WITHIN 3 SECONDS REPEATS 4 TIMES)", true, false),
    ("([a:b = 1]) WITHIN 5 SECONDS WITHIN 6 SECONDS", true, true),
    ("([a:b = 1] WITHIN 5 SECONDS) WITHIN 6 SECONDS", true, true),
    // Comparisons.
    ("[a:b = 1 AND c:d = 2 OR e:f = 3]", true, true),
    ("[(a:b = 1 OR a:c = 2) AND a:d = 3]", true, true),
    ("[a:b == 1]", true, true),
    ("[a:b <> 1]", true, true),
    ("[a:b != 1]", true, true),
    ("[a:b =! 1]", false, false),
    ("[a:b NOT = 1]", true, true),
    ("[a:b NOT LIKE 'x']", true, true),
    ("[NOT a:b = 1]", false, false),
    ("[a:b >= 'x']", true, true),
    ("[a:b > true]", false, false),
    ("[a:b = true]", true, true),
    ("[a:b = TRUE]", false, false),
    ("[a:b IN ()]", true, true),
    ("[a:b IN (true, 1, 'x')]", true, true),
    ("[a:b IN (1, )]", false, false),
    ("[a:b IN (1 2)]", false, false),
    ("[a:b IN 1]", false, false),
    ("[a:b LIKE 5]", false, false),
    ("[a:b MATCHES /x/]", false, false),
    ("[a:b ISSUBSET '192.0.2.0/24']", true, true),
    ("[a:b ISSUPERSET]", false, false),
    ("[EXISTS a:b]", false, true),
    ("[NOT EXISTS a:b.c[*]]", false, true),
    ("[a:b = x]", false, false),
    ("[a:b='x'AND c:d=2]", true, true),
    ("[a:b=1AND c:d=2]", true, true),
    // Paths.
    ("[a-b:c = 1]", true, true),
    ("[a:b-c = 1]", false, false),
    ("[a:'b-c' = 1]", true, true),
    ("[a:b.c-d = 1]", false, false),
    ("[a:b.'c-d'[0][*].e = 1]", true, true),
    ("[a:b[-1] = 1]", true, true),
    ("[a:b[] = 1]", false, false),
    ("[a:b['x'] = 1]", false, false),
    ("[a : b . c = 1]", true, true),
    ("[a = 1]", false, false),
    ("[a.b = 1]", false, false),
    ("[1a:b = 1]", false, false),
    ("[a:1b = 1]", false, false),
    ("[a:AND = 1]", false, false),
    ("[a:and = 1]", true, true),
    ("[a:start.within.in = 1]", true, true),
    ("[a:'AND' = 1]", true, true),
    ("[a:true = 1]", false, false),
    ("[LAST:b = 1]", false, false),
    ("[\u{e9}:b = 1]", false, false),
    // Numbers.
    ("[a:b = 0]", true, true),
    ("[a:b = -0]", true, true),
    ("[a:b = +5]", true, true),
    ("[a:b = 99999999999999999999999999]", true, true),
    ("[a:b = 007]", false, false),
    ("[a:b = -.5]", true, true),
    ("[a:b = 5.]", false, false),
    ("[a:b = 1.2.3]", false, false),
    ("[a:b = 1e5]", false, false),
    // Texts.
    ("[a:b = '']", true, true),
    ("[a:b = 'x\ny']", true, true),
    ("[a:b = 'it\\'s C:\\\\x']", true, true),
    ("[a:b = 'C:\\x']", false, false),
    ("[a:b = 'x]", false, false),
    ("[a:b = \"x\"]", false, false),
    // Other literals.
    ("[a:b = h'']", true, true),
    ("[a:b = h'AbCd']", true, true),
    ("[a:b = h'abc']", false, false),
    ("[a:b = b'AAAA']", true, true),
    ("[a:b = b'YR==']", true, true),
    ("[a:b = b'']", false, false),
    ("[a:b = b'====']", false, false),
    ("[a:b = b'AAAA====']", false, false),
    ("[a:b = b'AA']", false, false),
    ("[a:b = t'2026-02-30T23:59:60Z']", true, true),
    ("[a:b = t'2026-01-01T00:00:00.123456789012Z']", true, true),
    ("[a:b = t'2026-01-01T00:00:00.Z']", false, false),
    ("[a:b = t'2026-01-01T24:00:00Z']", false, false),
    ("[a:b = t'2026-13-01T00:00:00Z']", false, false),
    ("[a:b = t'2026-01-00T00:00:00Z']", false, false),
    ("[a:b = t'2026-01-01t00:00:00z']", false, false),
    ("[a:b = t'2026-01-01T00:00:00+00:00']", false, false),
    // Blanks and comments.
    ("\u{a0}[a:b\u{3000}=\u{2028}1]", true, true),
    ("[a:b\u{200b}= 1]", false, false),
    ("\u{feff}[a:b = 1]", false, false),
    ("[a:b /* x */ = // y\n 1] // z", true, true),
    ("[a:b = 1 /* x /* y */]", true, true),
    ("[a:b /* x = 1]", false, false),
    ("/* x */ [a:b = 1]", false, false),
    // Digests.
    ("[file:hashes.MD5 = '00112233445566778899AABBCCDDEEFF']", true, true),
    ("[file:hashes.MD5 = 'x']", false, false),
    ("[file:hashes.MD5 != 'x']", false, false),
    ("[file:hashes.MD5 LIKE '0%']", false, false),
    ("[file:hashes.MD5 = 5]", false, false),
    ("[EXISTS file:hashes.MD5]", false, true),
    ("[x:y.hashes[0].'sha-512' = 'f00']", false, false),
    ("[file:hashes.SHA_256 = 'x']", true, true),
    ("[file:hashes.IMPHASH = 'x']", true, true),
    ("[file:hashes.ssdeep = '3:AbC+/:x']", true, true),
    ("[file:hashes.ssdeep = '!']", false, false),
    ("[file:hashes[*] = 'x']", true, true),
    ("[file:hashes.MD5.x = 'y']", true, true),
    ("[x:MD5.hashes = 'x']", true, true),
];

fn is_valid(pattern: &str, version: Version) -> bool {
    parse(pattern, version).is_ok()
}

#[test]
fn every_pattern_of_the_table_is_taken_or_refused() {
    for (pattern, in_20, in_21) in TABLE {
        let found = (is_valid(pattern, Version::V20), is_valid(pattern, Version::V21));
        assert_eq!(found, (*in_20, *in_21), "{pattern:?}: {:?}", parse(pattern, Version::V21).err());
    }
}

/// Where the reference is installed; installs it if it is not. `None` where that cannot be done.
fn reference() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(REFERENCE);
    let python = place.join("bin/python");
    let is_there = |python: &Path| {
        let found = Command::new(python).args(["-c", "import stix2patterns"]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    if !is_there(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&place).stdout(Stdio::null()).status();
        let pip = || Command::new(&python).args(["-m", "pip", "install", "--quiet", REFERENCE]).status();
        let installed = made.is_ok_and(|status| status.success()) && pip().is_ok_and(|status| status.success());
        if !installed {
            println!("NOT RUN the_reference_validator_agrees: {REFERENCE} cannot be installed with python3 and pip");
            return None;
        }
    }
    Some(python)
}

/// Reads a JSON list of patterns; answers with a list of [valid in 2.0, valid in 2.1], `null` where it crashes.
const ASK: &str = r"
import json, sys
from stix2patterns.validator import validate
def ask(pattern, version):
    try:
        return validate(pattern, stix_version=version)
    except Exception:
        return None
json.dump([[ask(p, '2.0'), ask(p, '2.1')] for p in json.load(sys.stdin)], sys.stdout)
";

/// The reference's own cases, from its installed tests.
const OWN_CASES: &str = r"
import ast, json, os, sys, stix2patterns
root = os.path.join(os.path.dirname(stix2patterns.__file__), 'test')
found = []
for version in ('v20', 'v21'):
    found += [line.strip() for line in open(os.path.join(root, version, 'spec_examples.txt'))]
    tree = ast.parse(open(os.path.join(root, version, 'test_validator.py')).read())
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id.endswith('_CASES') and isinstance(node.value, ast.List):
            for case in ast.literal_eval(node.value):
                found.append(case if isinstance(case, str) else case[0])
json.dump(found, sys.stdout)
";

fn run(python: &Path, script: &str, input: &Value) -> Value {
    let mut child =
        Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // All of it is read before anything is written.
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the reference failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Changes to the patterns: pieces of one put into another, removed, doubled. The same every time.
fn changed(patterns: &BTreeSet<String>, count: usize) -> BTreeSet<String> {
    const PIECES: [&str; 40] = [
        "'",
        "\\",
        "\\'",
        "[",
        "]",
        "(",
        ")",
        ":",
        ".",
        ",",
        "*",
        "=",
        "!=",
        "<",
        ">=",
        "-",
        "+",
        "0",
        "7",
        ".5",
        "a",
        "-b",
        "_",
        "t'",
        "h'",
        "b'",
        "Z",
        " AND ",
        " OR ",
        " NOT ",
        " IN ",
        " LIKE ",
        "EXISTS ",
        " FOLLOWEDBY ",
        " WITHIN 5 SECONDS",
        " REPEATS 2 TIMES",
        "true",
        "hashes",
        "MD5",
        "//",
    ];
    let patterns: Vec<&String> = patterns.iter().collect();
    let mut state: u64 = 0x1234_5678_9abc_def1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut made = BTreeSet::new();
    while made.len() < count {
        let mut characters: Vec<char> = patterns[random(patterns.len())].chars().collect();
        for _ in 0..=random(2) {
            let place = random(characters.len() + 1);
            match random(3) {
                0 if place < characters.len() => {
                    characters.remove(place);
                }
                1 => {
                    let other: Vec<char> = patterns[random(patterns.len())].chars().collect();
                    let start = random(other.len());
                    let end = (start + 1 + random(12)).min(other.len());
                    characters.splice(place..place, other[start..end].iter().copied());
                }
                _ => {
                    characters.splice(place..place, PIECES[random(PIECES.len())].chars());
                }
            }
        }
        made.insert(characters.into_iter().collect());
    }
    made
}

#[test]
fn the_reference_validator_agrees() {
    let Some(python) = reference() else { return };
    let own = run(&python, OWN_CASES, &Value::Null);
    let mut patterns: BTreeSet<String> =
        own.as_array().unwrap().iter().map(|pattern| pattern.as_str().unwrap().to_owned()).collect();
    assert!(patterns.len() > 60, "the reference has {} cases", patterns.len());
    patterns.extend(TABLE.iter().map(|(pattern, ..)| (*pattern).to_owned()));
    patterns.extend(changed(&patterns, 4000));
    let patterns: Vec<String> = patterns.into_iter().filter(|pattern| !pattern.is_empty()).collect();
    let answers = run(&python, ASK, &serde_json::to_value(&patterns).unwrap());
    let mut counts = [0_u32; 3];
    let mut wrong = Vec::new();
    for (pattern, answer) in patterns.iter().zip(answers.as_array().unwrap()) {
        for (version, answer) in [Version::V20, Version::V21].into_iter().zip(answer.as_array().unwrap()) {
            let Some(expected) = answer.as_bool() else {
                counts[2] += 1;
                continue;
            };
            counts[usize::from(expected)] += 1;
            // Digests in a list: see above.
            let is_list = pattern.contains(" IN") && pattern.contains("hashes");
            if is_valid(pattern, version) != expected && !is_list {
                wrong.push(format!(
                    "{version:?} {pattern:?}: the reference says {expected}, {:?}",
                    parse(pattern, version)
                ));
            }
        }
    }
    println!("{} refused, {} taken, {} on which the reference crashes", counts[0], counts[1], counts[2]);
    assert!(counts[1] > 500 && counts[0] > 500, "the changes are of one kind: {counts:?}");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
