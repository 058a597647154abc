use std::os::unix::fs::PermissionsExt;

use super::*;

fn load(files: &[(&str, &str)]) -> Result<Settings, Error> {
    let root = tempfile::tempdir().unwrap();
    let places = Places::new(Some(root.path()));
    fs::create_dir_all(&places.drop_ins).unwrap();
    for (name, text) in files {
        fs::write(root.path().join("etc/cordon").join(name), text).unwrap();
    }
    Settings::load(&places)
}

#[test]
fn nothing_said_is_monitor_mode_without_sources() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.mode, Mode::Monitor);
    assert!(settings.sources.is_empty());
    assert!(settings.never_block.host);
}

#[test]
fn a_drop_in_overrides_keys_and_adds_sources() {
    let main = "mode = \"monitor\"\n[exec]\ndeadline_ms = 100\n[[source]]\nname = \"a\"\npath = \"/a\"\n";
    let over =
        "mode = \"enforce\"\n[exec]\nguard = false\n[[source]]\nname = \"b\"\npath = \"/etc/cordon/intel.d/b\"\n";
    let settings = load(&[("cordon.toml", main), ("cordon.d/10-b.toml", over), ("cordon.d/ignored.txt", "?")]).unwrap();
    assert_eq!(settings.mode, Mode::Enforce);
    assert_eq!(settings.exec.deadline, Duration::from_millis(100));
    assert!(!settings.exec.guard);
    assert_eq!(settings.sources.len(), 2);
    assert_eq!(settings.sources[0].path, Path::new("/a"), "only what is below /etc/cordon moves with --root");
    assert!(
        settings.sources[1].path.ends_with("etc/cordon/intel.d/b")
            && settings.sources[1].path.starts_with(std::env::temp_dir())
    );
}

#[test]
fn contacts_are_kept_only_where_somebody_says_so() {
    assert_eq!(load(&[]).unwrap().telemetry, Telemetry { contacts: false, max_bytes: 64 << 20 });
    let said =
        load(&[("cordon.toml", "[telemetry]\ncontacts = true\n"), ("cordon.d/1.toml", "[telemetry]\nmax_bytes = 7\n")]);
    assert_eq!(said.unwrap().telemetry, Telemetry { contacts: true, max_bytes: 1 << 20 });
}

#[test]
fn metrics_are_served_to_this_host_alone_and_only_where_somebody_says_so() {
    assert_eq!(load(&[]).unwrap().metrics, None);
    let said = |listen: &str| load(&[("cordon.toml", &format!("[metrics]\nlisten = \"{listen}\"\n"))]);
    assert_eq!(said("[::1]:9478").unwrap().metrics, Some(Listen::Loopback("[::1]:9478".parse().unwrap())));
    assert_eq!(said("/run/cordon/m.sock").unwrap().metrics, Some(Listen::Unix("/run/cordon/m.sock".into())));
    for refused in
        ["0.0.0.0:9478", "[::]:9478", "192.0.2.1:9478", "127.0.0.1:0", "127.0.0.1", "metrics.sock", "localhost:1"]
    {
        let error = said(refused).unwrap_err().to_string();
        assert!(error.contains("cordon.toml: metrics.listen = ") && error.contains(refused), "{error}");
    }
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_known_one() {
    let error = load(&[("cordon.toml", "\n  mood = \"enforce\"\n")]).unwrap_err().to_string();
    assert!(
        error.contains("cordon.toml:2:3: unknown field `mood`") && error.ends_with("did you mean `mode`?"),
        "{error}"
    );
}

#[test]
fn a_source_twice_or_with_a_bad_name_is_refused() {
    let twice = "[[source]]\nname = \"a\"\npath = \"/a\"\n[[source]]\nname = \"a\"\npath = \"/b\"\n";
    assert!(load(&[("cordon.toml", twice)]).unwrap_err().to_string().contains("there twice"));
    let bad = "[[source]]\nname = \"A b\"\npath = \"/a\"\n";
    assert!(load(&[("cordon.toml", bad)]).unwrap_err().to_string().contains("a name is"));
}

#[test]
fn what_is_fetched_is_kept_below_the_state_directory_and_secrets_move_with_the_root() {
    let text = "[[source]]\nname = \"isac\"\ninterval = \"15m\"\nstale_after = \"2d\"\n\
                [source.taxii]\nurl = \"https://taxii.example/taxii2/\"\ncollection = \"feed\"\n\
                [source.access]\nusername = \"agent\"\npassword = \"/etc/cordon/secret\"\nca = \"/etc/ssl/isac.pem\"\n";
    let settings = load(&[("cordon.toml", text)]).unwrap();
    let source = &settings.sources[0];
    assert!(source.path.to_str().unwrap().contains("/var/lib/cordon/sources/isac/"), "{source:?}");
    assert_eq!(source.interval(), Duration::from_secs(900));
    assert_eq!(source.limits().time, Duration::from_secs(300));
    let access = format!("{:?}", source.access);
    assert!(access.contains("/etc/cordon/secret") && !access.contains("\"/etc/cordon/secret\""), "{access}");
    assert!(access.contains("\"/etc/ssl/isac.pem\""), "{access}");
}

#[test]
fn a_source_that_makes_no_sense_is_refused_in_words() {
    for (keys, why) in [
        ("", "exactly one of `path`, `url`"),
        ("path = \"/a\"\nurl = \"https://a.example/\"", "exactly one of `path`, `url`"),
        ("path = \"/a\"\ninterval = \"1h\"", "`interval` is for what is fetched"),
        ("path = \"/a\"\naccess = { plain_http = true }", "`access` is for what is fetched"),
        ("url = \"http://a.example/\"", "http://a.example/: over http://"),
        ("url = \"https://u:p@a.example/\"", "a URL holds no credentials"),
        ("url = \"/a\"", "relative URL"),
        (
            "misp = { url = \"https://a.example/\", uri = 1 }",
            "unknown field `uri`, expected `url`; did you mean `url`?",
        ),
        ("taxii = { url = \"https://a.example/\" }", "missing field `collection`"),
        ("url = \"https://a.example/\"\ninterval = \"0s\"", "no length of time"),
        ("url = \"https://a.example/\"\nintervall = \"1h\"", "did you mean `interval`?"),
    ] {
        let error = load(&[("cordon.toml", &format!("[[source]]\nname = \"a\"\n{keys}\n"))]).unwrap_err().to_string();
        assert!(error.contains(why), "{keys}: {error}");
    }
}

const SIGHTINGS: &str = "[[source]]\nname = \"isac\"\npath = \"/a\"\n[sightings]\nname = \"Member 17\"\n";

#[test]
fn the_examples_of_the_documentation_are_valid_settings() {
    let text = include_str!("../../../docs/sources.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 2);
    let settings = load(&[("cordon.toml", &examples.concat())]).unwrap();
    assert_eq!(settings.sources[0].name, "isac");
    assert_eq!(settings.sightings.unwrap().to[0].name, "isac");
    let text = include_str!("../../../docs/intelligence.md");
    let example = text.split("```toml\n").nth(1).and_then(|block| block.split("```").next()).unwrap();
    let settings = load(&[("cordon.toml", example)]).unwrap();
    assert_eq!(settings.sources[0].min_confidence, Some(50));
    assert_eq!(settings.sources[0].csv.delimiter, Some(';'));
    let packaged = include_str!("../../../packaging/cordon.toml");
    let said: String = packaged
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    load(&[("cordon.toml", &said)]).unwrap();
}

/// Whether a comment is a setting: `key = …` or a table's heading.
fn is_toml(line: &str) -> bool {
    line.starts_with('[')
        || line
            .split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b)))
}

#[test]
fn nobody_is_told_of_sightings_unless_somebody_is_named() {
    assert!(load(&[("cordon.toml", SIGHTINGS)]).unwrap().sightings.is_none());
    let one = "[[sightings.to]]\nname = \"x\"\naudience = \"community\"\ndirectory = \"/etc/cordon/out\"\n";
    let settings = load(&[("cordon.toml", SIGHTINGS), ("cordon.d/x.toml", one)]).unwrap();
    let sightings = settings.sightings.unwrap();
    assert_eq!(sightings.window, Duration::from_secs(3600));
    assert_eq!(sightings.to[0].ceiling, crate::intel::Tlp::Green);
    let again = load(&[("cordon.toml", SIGHTINGS), ("cordon.d/x.toml", one)]).unwrap().sightings.unwrap();
    assert_eq!(again.identity, sightings.identity, "made of the name");
    assert!(
        matches!(&sightings.to[0].to, crate::report::sightings::To::Directory(path) if path.starts_with(std::env::temp_dir()))
    );
}

#[test]
fn sightings_that_make_no_sense_are_refused_in_words() {
    let to = |keys: &str| format!("{SIGHTINGS}[[sightings.to]]\nname = \"x\"\n{keys}\n");
    for (text, why) in [
        (to("audience = \"world\""), "exactly one of `taxii`, `directory` and `misp`"),
        (to("audience = \"world\"\ndirectory = \"/a\"\nmisp = \"/b\""), "exactly one of"),
        (
            to("audience = \"world\"\ndirectory = \"/a\"\nmax_tlp = \"green\""),
            "may see up to \"clear\", and `max_tlp` is \"green\"",
        ),
        (to("audience = \"origin\"\ndirectory = \"/a\""), "needs `sources`"),
        (to("audience = \"world\"\ndirectory = \"/a\"\nsources = [\"isack\"]"), "no source `isack`"),
        (to("audience = \"word\"\ndirectory = \"/a\""), "unknown variant `word`"),
        (to("audience = \"world\"\ntaxii = { url = \"http://a.example/\", collection = \"x\" }"), "over http://"),
        (to("audience = \"world\"\ndirectory = \"/a\"").replace("name = \"Member 17\"", ""), "needs a `name`"),
        (
            to("audience = \"world\"\ndirectory = \"/a\"").replace("[sightings]", "[sightings]\nid = \"me\""),
            "no STIX id",
        ),
    ] {
        let error = load(&[("cordon.toml", &text)]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_others_can_write_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let places = Places::new(Some(root.path()));
    fs::create_dir_all(&places.drop_ins).unwrap();
    fs::write(&places.settings, "").unwrap();
    fs::set_permissions(&places.settings, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(Settings::load(&places), Err(Error::Untrusted { .. })));
}

#[test]
fn each_root_has_pins_of_its_own() {
    let (host, one, two) = (Places::new(None), Places::new(Some(Path::new("/a"))), Places::new(Some(Path::new("/b"))));
    assert_eq!(host.pins, Path::new("/sys/fs/bpf/cordon"));
    assert_ne!(one.pins, two.pins);
    assert_eq!(one.pins, Places::new(Some(Path::new("/a"))).pins);
}

#[test]
fn source_routes_are_denied_and_the_rest_allowed_unless_said_otherwise() {
    use super::network::{Network, Rule};
    let nothing = load(&[]).unwrap().network;
    assert_eq!(
        nothing,
        Network {
            egress: true,
            ingress: true,
            source_routes: Rule::Deny,
            raw_sockets: Rule::Allow,
            unread_names: Rule::Allow
        }
    );
    let main = "[network]\negress = false\nsource_routes = \"report\"\nraw_sockets = \"report\"\n";
    let over = "[network]\nraw_sockets = \"deny\"\nunread_names = \"report\"\n";
    let said = load(&[("cordon.toml", main), ("cordon.d/10.toml", over)]).unwrap().network;
    assert_eq!(
        said,
        Network {
            egress: false,
            ingress: true,
            source_routes: Rule::Report,
            raw_sockets: Rule::Deny,
            unread_names: Rule::Report
        }
    );
    let error = load(&[("cordon.toml", "[network]\nraw_sockets = \"never\"\n")]).unwrap_err().to_string();
    assert!(error.contains("cordon.toml:2:15") && error.contains("`deny`"), "{error}");
}

const POLICY: &str = "[policy]\nroot = \"/etc/cordon/root.json\"\ntenant = \"acme\"\ngroup = \"web\"\n";

#[test]
fn a_policy_comes_from_a_directory_or_a_server_and_moves_with_the_root() {
    let settings = load(&[("cordon.toml", &format!("{POLICY}from = \"/etc/cordon/repository\"\n"))]).unwrap();
    let policy = settings.policy.unwrap();
    assert!(matches!(&policy.from, From::Directory(path) if path.starts_with(std::env::temp_dir())), "{policy:?}");
    assert!(policy.root.starts_with(std::env::temp_dir()));
    assert_eq!((policy.interval, policy.lease, policy.after_lease), (Duration::from_secs(60), None, WhenOver::Keep));
    let drop_in = "[policy]\nfrom = \"https://policy.example/acme\"\nlease = \"7d\"\nafter_lease = \"report\"\n";
    let settings = load(&[("cordon.toml", POLICY), ("cordon.d/10.toml", drop_in)]).unwrap();
    let policy = settings.policy.unwrap();
    assert_eq!(policy.from.to_string(), "https://policy.example/acme/");
    assert_eq!(policy.after_lease, WhenOver::Report);
}

#[test]
fn what_is_wrong_with_a_policy_is_said_with_what_to_do() {
    for (settings, wanted) in [
        (POLICY.to_owned(), "needs `root`, `tenant`, `group` and `from`"),
        (format!("{POLICY}from = \"http://policy.example/\"\n"), "use https://"),
        (format!("{}from = \"/x\"\n", POLICY.replace("web", "Web Servers")), "`Web Servers` is no name"),
        (format!("{POLICY}from = \"/x\"\ninterval = \"0s\"\n"), "no length of time"),
        (format!("{POLICY}from = \"/x\"\nform = \"/x\"\n"), "did you mean `from`"),
        ("[[source]]\nname = \"bundle.x\"\npath = \"/x\"\n".to_owned(), "comes with a policy"),
    ] {
        let error = load(&[("cordon.toml", &settings)]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}\nwanted: {wanted}");
    }
}

#[test]
fn where_policies_come_from_is_known_so_that_none_blocks_the_way_back() {
    let policy = |from: &str| {
        format!("[policy]\nroot = \"/root.json\"\ntenant = \"acme\"\ngroup = \"web\"\nfrom = \"{from}\"\n")
    };
    let bus = "[bus]\nservers = [\"tls://192.0.2.1:4222\", \"tls://[2001:db8::1]:4222\", \"tls://bus.example\"]\n";
    let settings = load(&[("cordon.toml", &(policy("bus") + bus))]).unwrap();
    assert_eq!(settings.upstreams(), ["192.0.2.1", "2001:db8::1", "bus.example"]);
    let settings = load(&[("cordon.toml", &policy("https://policy.example/acme"))]).unwrap();
    assert_eq!(settings.upstreams(), ["policy.example"]);
    let error = load(&[("cordon.toml", &policy("bus"))]).unwrap_err().to_string();
    assert!(error.contains("there is no `[bus]`"), "{error}");
}
