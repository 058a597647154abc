//! Signing and verifying policies by the command line: what is meant to work, and every attack on a repository that TUF is there
//! against, refused for its own reason.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod organisation;
mod served;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use organisation::{Organisation, copy, only, text};
use serde_json::{Value, json};
use served::Served;

const LIST: &str = "[[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\n";

/// An organisation whose policy brings a list.
fn acme() -> Organisation {
    let acme = Organisation::new("acme");
    fs::write(acme.path("list.txt"), "9.9.9.1\n").unwrap();
    acme.sign(1, LIST, &[]);
    acme
}

#[test]
fn what_is_signed_is_taken_and_shown() {
    let acme = acme();
    let (code, document) = acme.verify(text(&acme.repository()), &[]);
    assert_eq!(code, 0);
    assert_eq!(
        (&document["valid"], &document["serial"], &document["intelligence"], &document["lint"]),
        (&json!(true), &json!(1), &json!(1), &json!([]))
    );
    let root = acme.root();
    let asked = ["--pin", text(&root), "--tenant", "acme", "--group", "web"];
    let shown = acme.done(&[&["policy", "show", text(&acme.repository())], &asked[..]].concat());
    assert_eq!((&shown["document"]["tenant"], shown["signed"]["sha256"].is_string()), (&json!("acme"), true));
    let unsigned = acme.done(&["policy", "show", text(&acme.path("web.toml"))]);
    assert_eq!((&unsigned["document"], &unsigned["signed"]), (&shown["document"], &Value::Null));
    let for_people = acme.cordon(&["policy", "show", text(&acme.path("web.toml"))]);
    let for_people = String::from_utf8(for_people.stdout).unwrap();
    assert!(
        for_people.contains("serial       1 (not signed)") && for_people.contains("list (list.txt), block"),
        "{for_people}"
    );
}

#[test]
fn the_example_of_the_page_is_signed_as_the_page_says() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let acme = Organisation::new("acme");
    fs::write(acme.path("example.toml"), example).unwrap();
    fs::write(acme.path("advisory.txt"), "9.9.9.1\n").unwrap();
    let (file, keys, repository) = (acme.path("example.toml"), acme.keys(), acme.repository());
    acme.done(&["policy", "sign", text(&file), "--keys", text(&keys), "-o", text(&repository)]);
    let (code, document) = acme.verify(text(&repository), &[]);
    assert_eq!((code, &document["serial"], &document["rules"]), (0, &json!(12), &json!(4)), "{document}");
}

#[test]
fn keys_of_somebody_else_count_for_nothing() {
    let (acme, other) = (acme(), Organisation::new("acme"));
    other.sign(5, "", &[]);
    acme.refuses(&other.repository(), &[], "bad_signature");
    // Nor do they once they stand in the root of the repository.
    let forged = acme.path("forged");
    copy(&other.repository(), &forged);
    fs::copy(other.root(), forged.join("metadata/2.root.json")).unwrap();
    acme.refuses(&forged, &[], "bad_signature");
}

#[test]
fn other_tenants_and_groups_are_refused() {
    let acme = acme();
    let root = acme.root();
    let repository = acme.repository();
    for (tenant, group, reason) in [("other", "web", "wrong_tenant"), ("acme", "db", "no_group")] {
        let asked = [
            "policy",
            "verify",
            text(&repository),
            "--json",
            "--pin",
            text(&root),
            "--tenant",
            tenant,
            "--group",
            group,
        ];
        let output = acme.cordon(&asked);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), document["reason"].as_str()), (Some(3), Some(reason)));
    }
}

#[test]
fn what_was_seen_once_is_never_followed_by_something_older() {
    let acme = acme();
    let trust = acme.path("trust");
    let (old, remember) = (acme.path("old"), ["--trust", text(&trust)]);
    copy(&acme.repository(), &old);
    assert_eq!(acme.verify(text(&acme.repository()), &remember).0, 0);
    acme.sign(2, LIST, &[]);
    assert_eq!(acme.verify(text(&acme.repository()), &remember).1["serial"], 2);
    acme.refuses(&old, &remember, "rollback");
    assert_eq!(acme.verify(text(&old), &[]).0, 0, "for whoever never saw the newer one it is as good as any");
    assert_eq!(acme.verify(text(&acme.repository()), &remember).0, 0, "and the attempt changes nothing");
}

#[test]
fn what_nobody_vouches_for_any_more_is_expired_until_somebody_does() {
    let acme = acme();
    acme.refresh("1s");
    sleep(Duration::from_millis(2100));
    acme.refuses(&acme.repository(), &[], "expired");
    acme.refresh("1h");
    assert_eq!(acme.verify(text(&acme.repository()), &[]).0, 0);
}

#[test]
fn files_that_are_changed_cut_mixed_or_padded_are_refused() {
    type Spoil = fn(&Path);
    let cases: [(&str, &str, Spoil); 8] = [
        ("a policy that is changed", "altered", |repository| {
            let path = only(&repository.join("targets"), ".policy.toml@web");
            let policy = fs::read_to_string(&path).unwrap();
            fs::write(path, policy.replace("serial = 2", "serial = 3")).unwrap();
        }),
        ("intelligence that is cut", "altered", |repository| {
            fs::write(only(&repository.join("targets"), ".list.txt@web"), "9.9.9").unwrap();
        }),
        ("intelligence that is longer than was signed", "too_large", |repository| {
            fs::write(only(&repository.join("targets"), ".list.txt@web"), "9.9.9.1\n".repeat(100)).unwrap();
        }),
        ("a file that is gone", "unreachable", |repository| {
            fs::remove_file(only(&repository.join("targets"), ".list.txt@web")).unwrap();
        }),
        ("metadata that is cut", "altered", |repository| {
            let path = repository.join("metadata/timestamp.json");
            let whole = fs::read(&path).unwrap();
            fs::write(path, &whole[..whole.len() / 2]).unwrap();
        }),
        ("metadata without end", "too_large", |repository| {
            let path = repository.join("metadata/timestamp.json");
            let mut whole = fs::read(&path).unwrap();
            whole.resize((4 << 20) + 1, b' ');
            fs::write(path, whole).unwrap();
        }),
        ("a snapshot of before under the name of the latest", "altered", |repository| {
            let metadata = repository.join("metadata");
            fs::copy(metadata.join("1.snapshot.json"), metadata.join("2.snapshot.json")).unwrap();
        }),
        ("targets of before under the name of the latest", "altered", |repository| {
            let metadata = repository.join("metadata");
            fs::copy(metadata.join("1.targets.json"), metadata.join("2.targets.json")).unwrap();
        }),
    ];
    let acme = acme();
    fs::remove_dir_all(acme.repository().join("targets")).unwrap();
    fs::write(acme.path("list.txt"), "9.9.9.2\n").unwrap();
    acme.sign(2, LIST, &[]);
    for (number, (what, reason, spoil)) in cases.into_iter().enumerate() {
        let repository = acme.path(&format!("spoilt-{number}"));
        copy(&acme.repository(), &repository);
        spoil(&repository);
        println!("{what}");
        acme.refuses(&repository, &[], reason);
    }
    assert_eq!(acme.verify(text(&acme.repository()), &[]).0, 0, "and the one that they were made from is good");
}

#[test]
fn keys_are_replaced_under_the_root_that_hosts_have_and_old_ones_never_come_back() {
    let acme = acme();
    let (trust, keys) = (acme.path("trust"), acme.keys());
    let remember = ["--trust", text(&trust)];
    // Whoever took the online key over has these.
    let (stolen, theirs) = (acme.path("stolen"), acme.path("theirs"));
    copy(&keys, &stolen);
    copy(&acme.repository(), &theirs);
    for role in ["online", "policy", "root"] {
        acme.done(&["policy", "keygen", "--rotate", role, "-o", text(&keys)]);
    }
    acme.sign(2, LIST, &[]);
    assert_eq!(acme.verify(text(&acme.repository()), &remember).1["serial"], 2, "from the root that was pinned first");
    // A root that was passed before is spoilt: whoever is beyond it would find out after a restart, without a policy.
    let spoilt = acme.path("spoilt");
    copy(&acme.repository(), &spoilt);
    fs::write(spoilt.join("metadata/2.root.json"), "{}").unwrap();
    acme.refuses(&spoilt, &remember, "altered");
    fs::remove_file(spoilt.join("metadata/2.root.json")).unwrap();
    acme.refuses(&spoilt, &remember, "unreachable");
    acme.done(&["policy", "sign", "--refresh", "--keys", text(&stolen), "-o", text(&theirs)]);
    assert_eq!(acme.verify(text(&theirs), &[]).0, 0, "a host that never saw the new root cannot know better");
    acme.done(&["policy", "sign", "--refresh", "--keys", text(&stolen), "-o", text(&theirs)]);
    // It holds the new root back: who saw that one does not begin with the pinned one again.
    acme.refuses(&theirs, &remember, "bad_signature");
}

#[test]
fn as_many_keys_sign_as_the_root_asks_for() {
    let acme = Organisation::with_keys("acme", &["--policy-keys", "3", "--policy-threshold", "2"]);
    let (file, keys, repository) = (acme.write(1, ""), acme.keys(), acme.repository());
    let [one, two, online] =
        ["keys/policy-1.pem", "keys/policy-3.pem", "keys/online-1.pem"].map(|name| acme.path(name));
    let sign = ["policy", "sign", text(&file), "--keys", text(&keys), "-o", text(&repository), "--key", text(&online)];
    let output = acme.cordon(&[&sign[..], &["--key", text(&one)]].concat());
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it takes the policy keys that the root names"));
    assert_eq!(acme.cordon(&["policy", "verify", text(&repository)]).status.code(), Some(1), "nothing was published");
    acme.done(&[&sign[..], &["--key", text(&one), "--key", text(&two)]].concat());
    assert_eq!(acme.verify(text(&repository), &[]).0, 0);
}

#[test]
fn serials_only_count_up_and_going_back_is_a_new_one() {
    let acme = acme();
    fs::write(acme.path("list.txt"), "9.9.9.2\n").unwrap();
    acme.sign(2, &format!("mode = \"enforce\"\n{LIST}"), &[]);
    let (file, keys, repository) = (acme.write(2, LIST), acme.keys(), acme.repository());
    let again = acme.cordon(&["policy", "sign", text(&file), "--keys", text(&keys), "-o", text(&repository)]);
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("group `web` has 2 already"));
    let back = acme.done(&[
        "policy",
        "rollback",
        "--group",
        "web",
        "--to",
        "1",
        "--keys",
        text(&keys),
        "-o",
        text(&repository),
    ]);
    assert_eq!(back["serial"], 3);
    let (_, document) = acme.verify(text(&repository), &[]);
    assert_eq!((&document["serial"], &document["mode"]), (&json!(3), &Value::Null));
    let list = fs::read_dir(repository.join("targets"))
        .unwrap()
        .filter(|entry| fs::read_to_string(entry.as_ref().unwrap().path()).is_ok_and(|list| list == "9.9.9.1\n"));
    assert_eq!(list.count(), 1, "with the intelligence of then");
    let never = acme.cordon(&[
        "policy",
        "rollback",
        "--group",
        "web",
        "--to",
        "9",
        "--keys",
        text(&keys),
        "-o",
        text(&repository),
    ]);
    assert_eq!(never.status.code(), Some(3));
}

#[test]
fn groups_of_one_organisation_share_a_repository_and_nothing_else() {
    let acme = acme();
    let other = acme.path("db.toml");
    fs::write(&other, "schema = 1\ntenant = \"acme\"\ngroup = \"db\"\nserial = 7\n").unwrap();
    let (keys, repository) = (acme.keys(), acme.repository());
    acme.done(&["policy", "sign", text(&other), "--keys", text(&keys), "-o", text(&repository)]);
    let root = acme.root();
    let db =
        acme.done(&["policy", "verify", text(&repository), "--pin", text(&root), "--tenant", "acme", "--group", "db"]);
    assert_eq!(db["serial"], 7);
    assert_eq!(acme.verify(text(&repository), &[]).1["serial"], 1);
}

#[test]
fn what_no_host_would_take_is_not_signed_and_the_place_is_named() {
    let acme = Organisation::new("acme");
    let (keys, repository) = (acme.keys(), acme.repository());
    for (rest, wanted) in [
        ("colour = 1\n", "web.toml: line 5, column 1: unknown field `colour`"),
        ("requires = [\"telepathy\"]\n", "requires `telepathy`"),
        (
            "[[rule]]\nname = \"r\"\naction = \"ignore\"\nwhere = { unit = [\"scanner.service\"] }\n",
            "`where` (unit) cannot be enforced",
        ),
        ("valid_until = \"2020-01-01T00:00:00Z\"\n", "has passed"),
        (LIST, "intelligence `list`"),
    ] {
        let file = acme.write(1, rest);
        let output = acme.cordon(&["policy", "sign", text(&file), "--keys", text(&keys), "-o", text(&repository)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(wanted), "{said}\nwanted: {wanted}");
    }
    assert!(!repository.exists());
    let rules = "[[rule]]\nname = \"all\"\naction = \"report\"\n[[rule]]\nname = \"more\"\naction = \"block\"\n";
    let signed = acme.sign(1, rules, &[]);
    assert_eq!((&signed["lint"][0]["rule"], &signed["lint"][0]["is"]), (&json!("more"), &json!("shadowed")));
}

#[test]
fn the_same_over_http_with_entity_tags() {
    let acme = acme();
    let served = Served::new(acme.repository());
    assert_eq!(acme.verify(&served.url(), &[]).1["serial"], 1);
    let trust = acme.path("trust");
    assert_eq!(acme.verify(&served.url(), &["--trust", text(&trust)]).0, 0);
    acme.sign(2, LIST, &[]);
    assert_eq!(acme.verify(&served.url(), &["--trust", text(&trust)]).1["serial"], 2);
    drop(served);
    let gone = Served::new(acme.path("nothing"));
    let (code, document) = acme.verify(&gone.url(), &[]);
    assert_eq!((code, &document["reason"]), (3, &json!("unreachable")));
}

#[test]
fn private_keys_are_for_their_owner_alone_and_are_never_replaced_by_mistake() {
    use std::os::unix::fs::PermissionsExt;
    let acme = Organisation::new("acme");
    let mut keys = 0;
    for entry in fs::read_dir(acme.keys()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            keys += 1;
        }
    }
    assert_eq!(keys, 5, "3 root, 1 policy, 1 online");
    let before = fs::read(acme.root()).unwrap();
    let again = acme.cordon(&["policy", "keygen", "-o", text(&acme.keys())]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read(acme.root()).unwrap(), before);
}
