use super::*;
use crate::intel::SkipReason;
use crate::intel::parse::parse;

fn read_with(columns: &str, format: &str, text: &str) -> Result<Parsed, String> {
    let csv = toml::from_str(columns).unwrap();
    let reading = Reading { format: format.parse().unwrap(), csv, ..Reading::default() };
    parse(&reading, &Arc::from("feeds/lamps.csv"), text.as_bytes()).map_err(|error| error.to_string())
}

fn read(text: &str) -> Parsed {
    read_with("", "auto", text).unwrap()
}

fn values(parsed: &Parsed) -> Vec<String> {
    let joined = |item: Indicator| item.observables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    parsed.indicators.iter().map(joined).collect()
}

#[test]
fn a_known_header_says_what_the_columns_hold() {
    let parsed = read(
        "\u{feff}value,type,notes\r\n192.0.2.1,ipaddress,\"a, b\"\r\nC2[.]example,hostname,\r\nx.example/y,url,\r\n",
    );
    assert_eq!(values(&parsed), ["192.0.2.1", "c2.example", "x.example/y"]);
    assert_eq!(parsed.read_as, "csv: value from `value`, type from `type`, name from `notes`");
    assert_eq!(parsed.indicators.iter().next().unwrap().name.as_deref(), Some("a, b"));
    assert_eq!(parsed.indicators.iter().nth(1).unwrap().origin.to_string(), "feeds/lamps.csv:3");
    assert_eq!(parsed.indicators.iter().next().unwrap().attribution.reports, ["lamps"]);
}

#[test]
fn a_row_is_one_indicator_of_all_its_values() {
    let (sha256, md5) = ("a".repeat(64), "b".repeat(32));
    let parsed = read(&format!("value,entity_type\n\"{sha256}, {md5}\",file\n\"{md5};{sha256}\",\n"));
    assert_eq!(values(&parsed), [format!("{sha256} {md5}"), format!("{md5} {sha256}")]);
    let parsed = read("domain_name,ip_address\na.example,192.0.2.1\nb.example,\n,192.0.2.2\n,\nc.example,nowhere\n");
    assert_eq!(values(&parsed), ["a.example 192.0.2.1", "b.example", "192.0.2.2", "c.example"]);
    assert_eq!((parsed.read, parsed.skipped.iter().next().unwrap().why.as_str()), (5, "the row has no value"));
    assert_eq!(
        (parsed.trimmed.iter().next().unwrap().why.as_str(), parsed.trimmed.iter().next().unwrap().value.as_str()),
        ("not an IP address", "c.example,nowhere")
    );
}

#[test]
fn a_header_may_be_the_last_comment() {
    let text = "####\n# Lamp feed   #\n####\n#\n# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"malware_printable\",\"last_seen_utc\",\"confidence_level\",\"reference\",\"tags\"\n\
        \"2026-01-01 10:00:00\", \"7\", \"192.0.2.1:443\", \"ip:port\", \"Lamp, Desk\", \"2026-01-03 10:00:00\", \"75\", \"https://example.net/7\", \"a,b\"\n\
        \"2026-01-02 10:00:00\", \"8\", \"c2.example\", \"domain\", \"\", \"None\", \"100\", \"None\", \"\"\n# end\n";
    let parsed = read(text);
    assert_eq!(values(&parsed), ["192.0.2.1:443", "c2.example"]);
    let indicators: Vec<Indicator> = parsed.indicators.iter().collect();
    let [first, second] = indicators.as_slice() else { panic!() };
    assert_eq!((first.confidence, second.confidence), (Some(75), Some(100)));
    assert_eq!(first.modified, Some("2026-01-03T10:00:00Z".parse().unwrap()));
    assert_eq!(second.modified, Some("2026-01-02T10:00:00Z".parse().unwrap()));
    assert_eq!(first.attribution.malware[0].name, "Lamp, Desk");
    assert_eq!(
        (first.references.as_slice(), second.references.as_slice()),
        (["https://example.net/7".to_owned()].as_slice(), [].as_slice())
    );
    assert_eq!(read("# MD5;COMMENT\n192.0.2.1;x\n").read_as, "list", "two words are a remark");
    // With another number of fields than the rows it is prose.
    assert_eq!(
        read("# ip,port\nvalue,type,notes\n192.0.2.1,ip,x\n").read_as,
        "csv: value from `value`, type from `type`, name from `notes`"
    );
}

#[test]
fn a_port_of_its_own_makes_an_endpoint() {
    let parsed =
        read("dst_ip,dst_port\n192.0.2.1,443\n192.0.2.2,\n192.0.2.3,0\n192.0.2.4,x\n192.0.2.5:80,\n2001:db8::1,53\n");
    assert_eq!(values(&parsed), ["192.0.2.1:443", "192.0.2.2", "192.0.2.3", "192.0.2.5:80", "[2001:db8::1]:53"]);
    assert_eq!(parsed.skipped.iter().next().unwrap().reason, SkipReason::Malformed);
}

#[test]
fn the_type_of_a_row_is_held_to() {
    let sha1 = "c".repeat(40);
    let text = format!(
        "Indicator type,Indicator\nIPv4,192.0.2.1\nFileHash-SHA1,{sha1}\nFileHash-SHA256,{sha1}\nCVE,CVE-2026-1\nemail-src,a@b.example\n\
         ip-dst|port,192.0.2.1|80\nfile_name,x.sh\nfile path,/opt/x\n,d.example\ndomain,*.example\n"
    );
    let parsed = read(&text);
    assert_eq!(values(&parsed), ["192.0.2.1", &sha1, "192.0.2.1:80", "x.sh", "/opt/x", "d.example"]);
    let reasons: Vec<SkipReason> = parsed.skipped.iter().map(|item| item.reason).collect();
    use SkipReason::{Malformed, UnsupportedType};
    assert_eq!(reasons, [Malformed, UnsupportedType, UnsupportedType, Malformed]);
}

#[test]
fn other_delimiters_are_told_by_the_header() {
    for delimiter in [";", "\t", "|"] {
        let text = format!("ioc{delimiter}comment\n192.0.2.1{delimiter}a,b\n");
        assert_eq!(read(&text).indicators.iter().next().unwrap().name.as_deref(), Some("a,b"), "{delimiter:?}");
    }
}

#[test]
fn settings_map_columns_by_name_and_number() {
    let text = "when,What,who\n2026-01-01,192.0.2.1,HERON\n";
    assert!(
        read_with("", "csv", text)
            .unwrap_err()
            .contains("feeds/lamps.csv:1:1: not readable as CSV: no column of the header is known (when, What, who)")
    );
    let parsed = read_with("value = \"what\"\nactor = \"who\"\nvalid_until = \"when\"", "csv", text).unwrap();
    assert_eq!(parsed.indicators.iter().next().unwrap().attribution.actors[0].name, "HERON");
    assert_eq!(parsed.indicators.iter().next().unwrap().valid_until, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(parsed.read_as, "csv: valid_until from `when`, value from `What`, actor from `who`");
    let parsed = read_with("value = 2\ndelimiter = \";\"", "auto", "x;192.0.2.1;y\nx;192.0.2.2;z\n").unwrap();
    assert_eq!(values(&parsed), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(parsed.read_as, "csv: value from `2`");
    assert!(read_with("value = \"nothing\"", "csv", text).unwrap_err().ends_with("there is no column `nothing`"));
    // A source of several formats: what lacks the column is no CSV.
    assert_eq!(read_with("value = \"nothing\"", "auto", "192.0.2.1\n").unwrap().read_as, "list");
    for wrong in ["delimiter = \"\u{e9}\"", "delimiter = \"ab\"", "values = 1", "value = -1"] {
        assert!(toml::from_str::<Columns>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn nothing_is_guessed_at() {
    for (text, expected) in [
        ("192.0.2.1,bad\n192.0.2.2,bad\n", "text of which no line is an indicator"),
        ("when,what\ntoday,192.0.2.1\n", "text of which no line is an indicator"),
        (
            "# Listingdate,SHA1,Listingreason\n2026-01-01,cccccccccccccccccccccccccccccccccccccccc,C2\n",
            "it lists certificates",
        ),
    ] {
        let error = read_with("", "auto", text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(read("domain\na.example\n").read_as, "list");
}

#[test]
fn bad_rows_are_counted_and_a_bad_quote_ends_it() {
    let parsed =
        read("value,type\n192.0.2.1,ip,more\n192.0.2.2\n\n\"multi\nline\",domain\n\"192.0.2.3\",ip\na\"\"b,domain\n");
    assert_eq!(values(&parsed), ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(parsed.skipped.iter().next().unwrap().why, "3 fields where the header names 2");
    assert_eq!(parsed.indicators.iter().nth(1).unwrap().origin.to_string(), "feeds/lamps.csv:7");
    assert_eq!((parsed.read, parsed.skipped.len()), (5, 3));
    let error = read_with("", "auto", "value,type\n192.0.2.1,ip\n\"192.0.2.2,ip\n192.0.2.3,ip\n").unwrap_err();
    assert_eq!(error, "feeds/lamps.csv:3:1: not readable as CSV: a quote that is not closed");
    let long = format!("value,type\n\"{}", "a\n".repeat(1 << 16));
    assert!(read_with("", "auto", &long).unwrap_err().contains(":2:1: the line is longer"));
    let parsed = parse(&Reading::default(), &Arc::from("f"), b"value,type\n\xff,ip\n192.0.2.1,ip\n").unwrap();
    assert_eq!((parsed.indicators.len(), parsed.skipped.iter().next().unwrap().why.as_str()), (1, "not UTF-8"));
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let text = "\u{feff}value,type,notes\r\n\"192.0.2.1\", \"ip\" ,\"a \"\"b\"\" c\"\r\nx.example,domain,\"two\nlines\"\r\n192.0.2.3";
    let whole = read(text);
    assert_eq!(whole.indicators.len(), 3);
    assert_eq!(whole.indicators.iter().next().unwrap().name.as_deref(), Some("a \"b\" c"));
    for size in 1..text.len() {
        let opened = Csv.text(&Arc::from("feeds/lamps.csv"), text.as_bytes(), &Reading::default());
        let mut rows = opened.unwrap().unwrap_or_else(|error| panic!("{error}"));
        text.as_bytes().chunks(size).for_each(|piece| rows.push(piece).unwrap());
        assert_eq!(rows.finish().unwrap().indicators, whole.indicators, "{size}");
    }
}
