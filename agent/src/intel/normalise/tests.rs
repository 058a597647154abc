use proptest::prelude::*;

use super::*;

fn text(value: Result<Observable, Invalid>) -> String {
    value.map_or_else(|error| format!("invalid: {error}"), |value| format!("{} {value}", value.type_name()))
}

#[test]
fn addresses_have_one_spelling() {
    for (given, expected) in [
        ("192.0.2.1", "ipv4 192.0.2.1"),
        (" 192[.]0[.]2(.)1 ", "ipv4 192.0.2.1"),
        ("192.0.2.1/32", "ipv4 192.0.2.1"),
        ("192.0.2.77/28", "ipv4_prefix 192.0.2.64/28"),
        ("0.0.0.0/0", "ipv4_prefix 0.0.0.0/0"),
        ("2001:DB8:0:0::1", "ipv6 2001:db8::1"),
        ("2001[:]db8[:][:]1", "ipv6 2001:db8::1"),
        ("2001:db8::1/128", "ipv6 2001:db8::1"),
        ("2001:db8:1:2::/47", "ipv6_prefix 2001:db8::/47"),
        ("::ffff:192.0.2.1", "ipv4 192.0.2.1"),
        ("::ffff:192.0.2.1/120", "ipv4_prefix 192.0.2.0/24"),
        ("64:ff9b::192.0.2.1", "ipv4 192.0.2.1"),
        ("64:ff9b::192.0.2.1/112", "ipv4_prefix 192.0.0.0/16"),
        ("2002:c000:201::", "ipv4 192.0.2.1"),
        ("2002:c000:200::/40", "ipv4_prefix 192.0.2.0/24"),
        ("2002:c000:201:1::/64", "ipv4 192.0.2.1"),
        ("::ffff:0:0/95", "ipv6_prefix ::fffe:0:0/95"),
    ] {
        assert_eq!(text(address(given)), expected, "{given}");
    }
}

#[test]
fn what_is_no_address_says_why() {
    for given in
        ["192.0.2.256", "192.0.02.1", "0192.0.2.1", "192.0.2", "", "C91.196.152.28", "2001:db8::g", "192.0.2.1:80"]
    {
        assert_eq!(address(given), Err(Invalid::Address), "{given}");
    }
    for given in ["192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.0/008", "192.0.2.0/-1", "192.0.2.0/24/24"] {
        let expected = if given == "192.0.2.0/008" { Ok(()) } else { Err(Invalid::PrefixLength(32)) };
        assert_eq!(address(given).map(drop), expected, "{given}");
    }
    assert_eq!(address("2001:db8::/129"), Err(Invalid::PrefixLength(128)));
}

#[test]
fn endpoints_need_a_port() {
    assert_eq!(text(endpoint("192[.]0[.]2[.]1[:]443")), "endpoint 192.0.2.1:443");
    assert_eq!(text(endpoint("[2001:db8::1]:65535")), "endpoint [2001:db8::1]:65535");
    assert_eq!(text(endpoint("[::ffff:192.0.2.1]:1")), "endpoint 192.0.2.1:1");
    for given in ["192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:+1", "192.0.2.1:"] {
        assert_eq!(endpoint(given), Err(Invalid::Port), "{given}");
    }
    // Without brackets nobody can tell the port from the last group.
    assert_eq!(endpoint("2001:db8::1:443"), Err(Invalid::Address));
}

#[test]
fn domains_are_lower_case_a_labels() {
    for (given, expected) in [
        ("MiXeD.Example.NET.", "domain mixed.example.net"),
        ("bücher.example", "domain xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "domain xn--bcher-kva.example"),
        ("faß.example", "domain xn--fa-hia.example"),
        ("_dmarc.example.net", "domain _dmarc.example.net"),
        ("www[dot]example(.)net", "domain www.example.net"),
        ("198.51.100.41", "ipv4 198.51.100.41"),
        ("a.b.c.d.e.example", "domain a.b.c.d.e.example"),
    ] {
        assert_eq!(text(domain(given)), expected, "{given}");
    }
    assert_eq!(domain("*.example.net"), Err(Invalid::Wildcard));
    assert_eq!(domain("despachosnegocios"), Err(Invalid::OneLabel));
    let long = format!("{}.example", "a".repeat(64));
    let longer = format!("{}example", "abcdefgh.".repeat(32));
    for given in [
        "a..example",
        ".example.net",
        "-a.example",
        "a-.example",
        "a b.example",
        "x/y.example",
        "1.2.3",
        "",
        &long,
        &longer,
    ] {
        assert!(domain(given).is_err(), "{given}");
    }
}

#[test]
fn a_long_name_is_refused_before_it_is_mapped() {
    // Found by fuzzing: a label in Punycode took time that grows with the square of its length.
    let label = format!("xn--{}.example", "g".repeat(900));
    assert_eq!(domain(&label), Err(Invalid::Domain("a label longer than 63 octets")));
    let labels = "xn--4gbrim.".repeat(1_000) + "example";
    assert_eq!(domain(&labels), Err(Invalid::Domain("longer than 253 octets")));
    let letters = "ü".repeat(600) + ".example";
    assert_eq!(domain(&letters), Err(Invalid::Domain("longer than 253 octets")));
    // As long as a name can be.
    let most = ["ü".repeat(50), "ü".repeat(50), "ü".repeat(50), "ü".repeat(50)].join(".");
    assert!(domain(&most).is_ok(), "{:?}", domain(&most));
}

#[test]
fn a_name_written_in_unicodes_tricks_is_the_name_that_resolves_or_none() {
    for (given, expected) in [
        // Full stops that are none, full-width and circled letters, a ligature, the sign of Kelvin.
        ("evil\u{3002}example", "domain evil.example"),
        ("evil\u{ff0e}example\u{ff61}net", "domain evil.example.net"),
        ("\u{ff45}\u{ff36}\u{24d8}l.example", "domain evil.example"),
        ("\u{fb03}x.example", "domain ffix.example"),
        ("\u{212a}ind.example", "domain kind.example"),
        // What is not seen: a soft hyphen, a space without width, a byte order mark.
        ("ev\u{ad}il.exam\u{200b}ple\u{feff}", "domain evil.example"),
        // Letters that look Latin are other names.
        ("\u{430}pple.example", "domain xn--pple-43d.example"),
        // Composed and decomposed are one.
        ("b\u{fc}cher.example", "domain xn--bcher-kva.example"),
        ("bu\u{308}cher.example", "domain xn--bcher-kva.example"),
    ] {
        assert_eq!(text(domain(given)), expected, "{given}");
    }
    for given in [
        "evil\u{202e}elpmaxe.example",
        "evil\u{2028}.example",
        "evil\u{2024}example",
        "\u{301}evil.example",
        "xn--a.example",
        "xn--\u{fc}.example",
        "\u{ff11}\u{ff19}\u{ff12}.0.2.1",
        "a\u{2f}b.example",
        "evil.example\u{0}",
    ] {
        assert!(domain(given).is_err(), "{given}: {:?}", domain(given));
    }
    assert_eq!(text(url("http://evil\u{3002}example/x")), "url http://evil.example/x");
    assert!(address("\u{ff11}.1.1.1").is_err());
}

#[test]
fn urls_keep_their_path() {
    for (given, expected) in [
        ("hXXps[://]EVIL[.]example/Gate.php?X=1", "url https://evil.example/Gate.php?X=1"),
        ("http://user@Evil.example:81/#F", "url http://user@evil.example:81/#F"),
        ("http://[2001:DB8:0::1]:8080/x", "url http://[2001:db8::1]:8080/x"),
        ("http://<random>.Example.net", "url http://<random>.example.net"),
        ("evil.example/x", "url evil.example/x"),
        ("evil.example", "url evil.example"),
        ("192.0.2.1:56456", "url 192.0.2.1:56456"),
    ] {
        assert_eq!(text(url(given)), expected, "{given}");
    }
    for given in [
        "http://",
        "/only/a/path",
        "http://a b.example",
        "http://\u{3000}:",
        "1http://a.example",
        "http://a.example:99999/",
        "http://a.example:b:/",
        "http://2001:db8::1/x",
        "http://[2001:db8::1/x",
        "word/x",
    ] {
        assert!(url(given).is_err(), "{given}");
    }
    assert_eq!(url_host("http://u@192.0.2.1:80/x"), Some(Observable::Ipv4([192, 0, 2, 1].into())));
    assert_eq!(url_host("evil.example/x"), Some(Observable::Domain("evil.example".into())));
    assert_eq!(url_host("http://<random>.example.net"), None);
}

#[test]
fn digests_have_their_length() {
    assert_eq!(text(sha256(&"AB".repeat(32))), format!("sha256 {}", "ab".repeat(32)));
    assert_eq!(text(sha1(&"01".repeat(20))), format!("sha1 {}", "01".repeat(20)));
    assert_eq!(text(md5(&"fF".repeat(16))), format!("md5 {}", "ff".repeat(16)));
    for given in ["abcd".to_owned(), "g".repeat(64), "a".repeat(63), "a".repeat(65), "é".repeat(32)] {
        assert!(sha256(&given).is_err(), "{given}");
    }
}

#[test]
fn paths_are_absolute_and_names_have_no_slash() {
    assert_eq!(text(path("/usr//local/./bin/x/")), "path /usr/local/bin/x");
    for given in ["usr/bin/x", "/usr/../x", "/", "", "C:\\x", "/a\0b"] {
        assert_eq!(path(given), Err(Invalid::Path), "{given}");
    }
    assert_eq!(text(file_name("x.sh")), "file_name x.sh");
    for given in ["", ".", "..", "a/b"] {
        assert_eq!(file_name(given), Err(Invalid::FileName), "{given}");
    }
}

#[test]
fn refanging_leaves_other_brackets_alone() {
    assert_eq!(refang("plain.example"), "plain.example");
    assert_eq!(refang("a[.]b(dot)c{.}d[DOT]e"), "a.b.c.d.e");
    assert_eq!(refang("x[at]y[.]example"), "x@y.example");
    assert_eq!(refang("[2001:db8::1]:443"), "[2001:db8::1]:443");
    assert_eq!(refang("hXXps://a[.]b"), "https://a.b");
    assert_eq!(refang("(ü[.]"), "(ü.");
}

proptest! {
    #[test]
    fn no_text_panics_and_canonical_text_stays(given in "\\PC{0,60}") {
        for reader in [address, endpoint, domain, url, sha256, sha1, md5, path, file_name] {
            if let Ok(value) = reader(&given) {
                let again = value.to_string();
                let reread = match &value {
                    Observable::Ipv4(_) | Observable::Ipv6(_) | Observable::Ipv4Prefix(_) | Observable::Ipv6Prefix(_) => address(&again),
                    _ => reader(&again),
                };
                prop_assert_eq!(reread, Ok(value));
            }
        }
    }

    #[test]
    fn every_ipv4_spelling_of_an_address_is_the_same(bits: u32) {
        let address = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = address.octets();
        let expected = Ok(Observable::Ipv4(address));
        prop_assert_eq!(super::address(&address.to_string()), expected.clone());
        prop_assert_eq!(super::address(&format!("::ffff:{address}")), expected.clone());
        prop_assert_eq!(super::address(&format!("64:ff9b::{address}")), expected.clone());
        prop_assert_eq!(super::address(&format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1")), expected);
    }
}

#[test]
fn every_type_of_value_is_understood() {
    for (text, kind) in [
        ("192.0.2.1", "ipv4"),
        ("192.0.2.0/24", "ipv4_prefix"),
        ("192.0.2.1:443", "endpoint"),
        ("[2001:db8::1]:443", "endpoint"),
        ("evil.example", "domain"),
        ("hxxps://evil.example/a", "url"),
        ("/usr/bin/evil", "path"),
        ("d41d8cd98f00b204e9800998ecf8427e", "md5"),
    ] {
        assert_eq!(super::any(text).map(|value| value.type_name()), Some(kind), "{text}");
    }
    assert_eq!(super::any("what?"), None);
}
