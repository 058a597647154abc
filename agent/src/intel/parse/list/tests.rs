use super::*;
use crate::intel::parse::{Fault, parse};

fn read(format: &str, bytes: &[u8]) -> Result<Parsed, ParseError> {
    parse(&format.parse::<Format>().unwrap().into(), &Arc::from("feeds/glass-finch.txt"), bytes)
}

fn values(parsed: &Parsed) -> Vec<String> {
    parsed.indicators.iter().map(|indicator| indicator.observables[0].to_string()).collect()
}

#[test]
fn a_line_is_an_item_with_its_place() {
    let parsed = read("list", b"\xef\xbb\xbf192.0.2.1\r\n\r\n# x\r\n  c2.example.net # why\r\nword").unwrap();
    assert_eq!(values(&parsed), ["192.0.2.1", "c2.example.net"]);
    assert_eq!(parsed.read, 3);
    assert_eq!(parsed.indicators.iter().nth(1).unwrap().origin.to_string(), "feeds/glass-finch.txt:4");
    assert_eq!(parsed.skipped.iter().next().unwrap().origin.to_string(), "feeds/glass-finch.txt:5");
    assert_eq!(parsed.skipped.iter().next().unwrap().why, "a domain name needs at least two labels");
    assert_eq!(parsed.indicators.iter().next().unwrap().attribution.reports, ["glass-finch"]);
}

#[test]
fn a_remark_behind_the_first_field_becomes_the_name() {
    let hash = "a".repeat(64);
    let text = format!(
        "{hash} – Earthworm\n{hash}  x_64.exe\n192.0.2.1\t9\nc2.example\t3\nc2.example;note\nNode.js is prose\n"
    );
    let parsed = read("talos", text.as_bytes()).unwrap();
    let indicators: Vec<Indicator> = parsed.indicators.iter().collect();
    let names: Vec<Option<&str>> = indicators.iter().map(|indicator| indicator.name.as_deref()).collect();
    assert_eq!(names, [Some("Earthworm"), Some("x_64.exe"), Some("9"), Some("3"), Some("note")]);
    assert_eq!(parsed.skipped.len(), 1);
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let text =
        "192.0.2.1\r\n0.0.0.0 a.example.net b.example.net\n# x\nhxxp://c[.]example/x\nend.example.net".as_bytes();
    let whole = read("list", text).unwrap();
    for size in 1..text.len() {
        let mut parser = Box::new(Lines::new(&Arc::from("feeds/glass-finch.txt"), Format::AUTO));
        text.chunks(size).for_each(|piece| parser.push(piece).unwrap());
        assert_eq!(parser.finish().unwrap().indicators, whole.indicators, "{size}");
    }
    assert_eq!(whole.indicators.len(), 5);
}

#[test]
fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
    let mut parser = Lines::new(&Arc::from("f"), Format::AUTO);
    parser.push(b"192.0.2.1\n").unwrap();
    let piece = [b'a'; 4096];
    let error = (0..1000).find_map(|_| parser.push(&piece).err()).unwrap();
    assert_eq!((error.line, error.fault.clone()), (2, Fault::LineTooLong));
    assert!(parser.partial.capacity() <= 2 * MAX_LINE_BYTES);
    let long = [b"a".repeat(MAX_LINE_BYTES + 1), b"\n".to_vec()].concat();
    assert_eq!(read("list", &long).unwrap_err().fault, Fault::LineTooLong);
}

#[test]
fn text_without_an_item_is_a_list_only_if_told_so() {
    let prose = b"# a keyword list\npg slot\npg soft\n";
    let error = read("auto", prose).unwrap_err();
    assert_eq!(error.to_string().split(": ").next(), Some("feeds/glass-finch.txt:2:1"));
    assert_eq!(read("talos", prose).unwrap().skipped.len(), 2);
    assert_eq!(read("list", b"# nothing today\n").unwrap().read, 0);
    assert_eq!(read("auto", b"# nothing today\n").unwrap().read, 0);
}

#[test]
fn every_line_is_counted() {
    let text = "\u{1}\n\u{feff}x\n|||\n@\n:\n/\n;\n[\n192.0.2.1/24/8\n1.2.3.4:5:6\n::\n0.0.0.0\n0.0.0.0 192.0.2.1\n";
    let parsed = read("list", text.as_bytes()).unwrap();
    assert_eq!(parsed.read, (parsed.indicators.len() + parsed.skipped.len()) as u64);
    assert_eq!(parsed.read, 12);
    // An address with something behind a slash that is no prefix length is a URL.
    assert_eq!(values(&parsed), ["192.0.2.1/24/8", "::", "0.0.0.0"]);
}

#[test]
fn ipset_statements_are_entries() {
    let text = "create lamps hash:net family inet hashsize 4096 maxelem 65536\nadd lamps 192.0.2.0/25 timeout 300\nadd lamps 192.0.2.7 comment \"desk lamp\"\n\
        create ends hash:ip,port\nadd ends 192.0.2.1,tcp:443\nadd ends 192.0.2.1,udp:53\nadd ends 2001:db8::1,80\nflush lamps\n\
        add r 198.51.100.1-198.51.100.4\nadd m 00:11:22:33:44:55\nadd t 192.0.2.1,tcp:1,192.0.2.2\nadd p 192.0.2.0/24,80\nadd i 192.0.2.1,icmp:ping\nCOMMIT\n";
    let parsed = read("auto", text.as_bytes()).unwrap();
    let all: Vec<String> = parsed
        .indicators
        .iter()
        .map(|item| item.observables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        all,
        [
            "192.0.2.0/25",
            "192.0.2.7",
            "192.0.2.1:443",
            "192.0.2.1:53",
            "[2001:db8::1]:80",
            "198.51.100.1 198.51.100.2/31 198.51.100.4"
        ]
    );
    assert_eq!(parsed.indicators.iter().nth(1).unwrap().name.as_deref(), Some("desk lamp"));
    let reasons: Vec<SkipReason> = parsed.skipped.iter().map(|item| item.reason).collect();
    use SkipReason::{UnsupportedPattern, UnsupportedType};
    assert_eq!(reasons, [UnsupportedType, UnsupportedPattern, UnsupportedPattern, UnsupportedType]);
    assert_eq!(parsed.read, 10);
    // Prose that starts like a statement is prose.
    assert_eq!(read("list", b"add some salt\nflush it\n192.0.2.1\n").unwrap().skipped.len(), 2);
}

#[test]
fn what_a_set_excepts_is_taken_out_of_its_prefixes() {
    let text = "create s hash:net\nadd s 192.0.2.0/29\nadd s 192.0.2.2 nomatch\nadd s 192.0.2.4/31 nomatch\nadd s 192.0.2.4/32 nomatch\n\
        add s 192.0.2.5\nadd s 198.51.100.1\nadd s 2001:db8::/126\nadd s 2001:db8:: nomatch\nadd s 2001:db8::3 nomatch\n\
        add s 255.255.255.254/31\nadd s 255.255.255.255 nomatch\n";
    let parsed = read("auto", text.as_bytes()).unwrap();
    let all: Vec<String> =
        parsed.indicators.iter().flat_map(|item| item.observables).map(|value| value.to_string()).collect();
    assert_eq!(
        all,
        ["192.0.2.0/31", "192.0.2.3", "192.0.2.6/31", "198.51.100.1", "2001:db8::1", "2001:db8::2", "255.255.255.254"]
    );
    assert_eq!(parsed.skipped.iter().filter(|item| item.reason == SkipReason::Benign).count(), 7);
    assert_eq!(parsed.read, 11);
}

#[test]
fn drop_lists_are_read_as_text_and_as_json_lines() {
    let text = b"; Lamp DROP List 2026/01/01\n192.0.2.0/24 ; LMP1\n198.51.100.0/25;LMP2\n";
    let parsed = read("auto", text).unwrap();
    assert_eq!(values(&parsed), ["192.0.2.0/24", "198.51.100.0/25"]);
    assert_eq!(parsed.indicators.iter().next().unwrap().name.as_deref(), Some("LMP1"));
    let text = b"{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"LMP1\",\"rir\":\"x\"}\n{\"asn\":64496,\"rir\":\"x\"}\n{\"cidr\":\"x\"}\n{\"x\":1}\n{\n{\"type\":\"metadata\",\"records\":1}\n";
    let parsed = read("auto", text).unwrap();
    assert_eq!(values(&parsed), ["192.0.2.0/24"]);
    assert_eq!(parsed.indicators.iter().next().unwrap().name.as_deref(), Some("LMP1"));
    assert_eq!((parsed.read, parsed.skipped.len()), (5, 4));
}

#[test]
fn a_range_is_the_prefixes_that_cover_it() {
    let text = b"192.0.2.1-192.0.2.3\n192.0.2.9 - 192.0.2.9\n192.0.2.9-192.0.2.1\n198.51.100.0\t198.51.100.255\t24\t99\tLamps\n198.51.100.0\t198.51.100.9\t24\n";
    let parsed = read("auto", text).unwrap();
    let all: Vec<String> =
        parsed.indicators.iter().flat_map(|item| item.observables).map(|value| value.to_string()).collect();
    assert_eq!(all, ["192.0.2.1", "192.0.2.2/31", "192.0.2.9", "198.51.100.0/24", "198.51.100.0"]);
    assert_eq!(parsed.skipped.iter().next().unwrap().why, "a range that ends before it starts");
}
