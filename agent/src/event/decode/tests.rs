use std::net::IpAddr;

use agent_common::limits::{ARGS_LEN, COMM_LEN, PATH_LEN};
use agent_common::wire::{
    DomainRecord, ExecRecord, FileKey, FileStamp, Header, Hook, NameForm, NetworkRecord, Process, RecordKind, Verdict,
};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{DecodeError, decode};
use crate::event::{Action, Match};

fn header(kind: RecordKind) -> Header {
    let mut comm = [0; COMM_LEN];
    comm[..4].copy_from_slice(b"curl");
    Header {
        boot_ns: 77,
        generation: 3,
        entry: 9,
        kind: kind as u8,
        verdict: Verdict::Blocked as u8,
        hook: Hook::Connect4 as u8,
        reserved: [0; 5],
        process: Process {
            start_boot_ns: 5,
            cgroup_id: 6,
            pid: 7,
            tid: 8,
            ppid: 1,
            uid: 33,
            gid: 34,
            loginuid: u32::MAX,
            comm,
        },
    }
}

fn network(family: u16, address: &str) -> NetworkRecord {
    let address = match address.parse().unwrap() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let header = header(RecordKind::Network);
    NetworkRecord {
        header,
        address: address.octets(),
        port: 443,
        family,
        protocol: 6,
        socket_type: 1,
        local_port: 0,
        reserved: [0; 6],
    }
}

fn exec(path: &[u8], args: &[u8]) -> ExecRecord {
    let mut record = ExecRecord {
        header: header(RecordKind::Exec),
        file: FileKey { device: 1, inode: 2 },
        stamp: FileStamp { size: 3, mtime_ns: 4, ctime_ns: 5 },
        sha256: [0xab; 32],
        flags: ExecRecord::DIGEST | ExecRecord::MD5,
        path_len: u16::try_from(path.len()).unwrap(),
        args_len: u16::try_from(args.len()).unwrap(),
        path: [b'!'; PATH_LEN],
        args: [b'!'; ARGS_LEN],
    };
    record.path[..path.len()].copy_from_slice(path);
    record.args[..args.len()].copy_from_slice(args);
    record
}

#[test]
fn a_network_record_tells_who_and_where_to() {
    let event = decode(network(2, "203.0.113.7").as_bytes()).unwrap();
    assert_eq!((event.boot_ns, event.hook, event.verdict), (77, Hook::Connect4, Verdict::Blocked));
    assert_eq!(event.matched, Some(Match { generation: 3, entry: 9 }));
    assert_eq!((event.task.comm.as_str(), event.task.loginuid), ("curl", None));
    let Action::Network { address, port, protocol, socket_type, .. } = event.action else { panic!() };
    assert_eq!((address.to_string().as_str(), port, protocol, socket_type), ("203.0.113.7", 443, 6, 1));
}

#[test]
fn a_mapped_address_that_the_program_gave_stays_as_it_is() {
    let event = decode(network(10, "::ffff:203.0.113.7").as_bytes()).unwrap();
    let Action::Network { address, .. } = event.action else { panic!() };
    assert_eq!(address, "::ffff:203.0.113.7".parse::<IpAddr>().unwrap());
    assert!(decode(network(2, "2001:db8::1").as_bytes()).is_err());
    let unknown = decode(network(3, "::1").as_bytes());
    assert_eq!(unknown, Err(DecodeError::Unknown { field: "address family", value: 3 }));
}

#[test]
fn an_exec_record_tells_the_file_and_the_arguments() {
    let event = decode(exec(b"/usr/bin/id", b"id\0-u\0\0").as_bytes()).unwrap();
    let Action::Exec { file, stamp, sha256, has_sha1, has_md5, path, args, cut } = event.action else { panic!() };
    assert!(has_md5 && !has_sha1);
    assert_eq!((file.inode, stamp.size, sha256, cut), (2, 3, Some([0xab; 32]), false));
    assert_eq!(path, "/usr/bin/id");
    assert_eq!(args, ["id", "-u", ""]);
}

#[test]
fn an_exec_record_may_end_after_its_arguments() {
    let record = exec(b"id", b"id\0");
    let bytes = record.as_bytes();
    let Action::Exec { args, .. } = decode(&bytes[..ExecRecord::MIN_LEN + 3]).unwrap().action else { panic!() };
    assert_eq!(args, ["id"]);
    let cut = decode(&bytes[..ExecRecord::MIN_LEN + 2]);
    assert_eq!(cut, Err(DecodeError::Length { field: "args_len", value: 3, most: 2 }));
    let short = decode(&bytes[..ExecRecord::MIN_LEN - 1]);
    assert!(matches!(short, Err(DecodeError::Short { .. })));
}

#[test]
fn lengths_and_values_of_another_build_are_errors() {
    let mut record = exec(b"id", b"");
    record.path_len = 513;
    assert!(matches!(decode(record.as_bytes()), Err(DecodeError::Length { field: "path_len", value: 513, most: 512 })));
    for (kind, verdict, hook) in [(9, 1, 1), (1, 5, 1), (1, 1, 200), (0, 0, 0)] {
        let mut record = network(2, "127.0.0.1");
        (record.header.kind, record.header.verdict, record.header.hook) = (kind, verdict, hook);
        assert!(matches!(decode(record.as_bytes()), Err(DecodeError::Unknown { .. })));
    }
    let mut telemetry = exec(b"id", b"");
    telemetry.header.entry = Header::NO_ENTRY;
    assert_eq!(decode(telemetry.as_bytes()).unwrap().matched, None);
}

#[test]
fn names_are_decoded_in_either_form() {
    let mut record = DomainRecord {
        header: header(RecordKind::Domain),
        address: "::ffff:192.0.2.53".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        port: 53,
        family: 2,
        protocol: 17,
        query_type: 28,
        form: NameForm::Labels as u8,
        reserved: [0; 5],
        name_len: 14,
        name: [0; 256],
    };
    record.name[..14].copy_from_slice(b"\x04Evil\x07example\0");
    let Action::Name { name, query_type, address, port, protocol } = decode(record.as_bytes()).unwrap().action else {
        panic!()
    };
    assert_eq!((name.as_str(), query_type), ("Evil.example", Some(28)));
    assert_eq!((address, port, protocol), ("192.0.2.53".parse().unwrap(), 53, 17));
    record.name[..12].copy_from_slice(b"evil.example");
    (record.form, record.name_len, record.query_type) = (NameForm::Text as u8, 12, 0);
    let Action::Name { name, query_type, .. } = decode(record.as_bytes()).unwrap().action else { panic!() };
    assert_eq!((name.as_str(), query_type), ("evil.example", None));
    record.name_len = 257;
    assert!(matches!(decode(record.as_bytes()), Err(DecodeError::Length { field: "name_len", .. })));
    (record.form, record.name_len) = (3, 0);
    assert!(matches!(decode(record.as_bytes()), Err(DecodeError::Unknown { .. })));
}

#[test]
fn every_shorter_record_is_an_error() {
    let record = network(2, "127.0.0.1");
    for length in 0..size_of::<NetworkRecord>() {
        assert!(matches!(decode(&record.as_bytes()[..length]), Err(DecodeError::Short { .. })), "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_event_or_a_reason(
        start in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0u8..5, verdict in 0u8..7, hook in 0u8..25,
        path_len in any::<u16>(), args_len in any::<u16>(), cut in 0usize..2000,
    ) {
        let _ = decode(&start);
        let mut record = exec(b"id", b"id\0");
        (record.header.kind, record.header.verdict, record.header.hook) = (kind, verdict, hook);
        (record.path_len, record.args_len) = (path_len, args_len);
        let bytes = record.as_bytes();
        let _ = decode(&bytes[..cut.min(bytes.len())]);
    }
}
