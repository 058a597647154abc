//! One value, packed: a byte that says its type, and no more bytes than it needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use super::{Reader, put_number, put_text};
use crate::intel::Observable;

pub(super) fn put(bytes: &mut Vec<u8>, value: &Observable) {
    match value {
        Observable::Ipv4(address) => fixed(bytes, 1, &address.octets()),
        Observable::Ipv4Prefix(prefix) => {
            fixed(bytes, 2, &prefix.network().octets());
            bytes.push(prefix.prefix_len());
        }
        Observable::Ipv6(address) => fixed(bytes, 3, &address.octets()),
        Observable::Ipv6Prefix(prefix) => {
            fixed(bytes, 4, &prefix.network().octets());
            bytes.push(prefix.prefix_len());
        }
        Observable::Endpoint(IpAddr::V4(address), port) => {
            fixed(bytes, 5, &address.octets());
            bytes.extend_from_slice(&port.to_le_bytes());
        }
        Observable::Endpoint(IpAddr::V6(address), port) => {
            fixed(bytes, 6, &address.octets());
            bytes.extend_from_slice(&port.to_le_bytes());
        }
        Observable::Domain(text) => named(bytes, 7, text),
        Observable::Url(text) => named(bytes, 8, text),
        Observable::Sha256(digest) => fixed(bytes, 9, digest),
        Observable::Sha1(digest) => fixed(bytes, 10, digest),
        Observable::Md5(digest) => fixed(bytes, 11, digest),
        Observable::Path(text) => named(bytes, 12, text),
        Observable::FileName(text) => named(bytes, 13, text),
        Observable::Process(text) => named(bytes, 14, text),
    }
}

fn fixed(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(value);
}

fn named(bytes: &mut Vec<u8>, tag: u8, text: &str) {
    bytes.push(tag);
    put_text(bytes, text);
}

pub(super) fn get(reader: &mut Reader<'_>) -> Option<Observable> {
    Some(match reader.byte()? {
        1 => Observable::Ipv4(reader.array::<4>()?.into()),
        2 => Observable::Ipv4Prefix(Ipv4Net::new(Ipv4Addr::from(reader.array::<4>()?), reader.byte()?).ok()?),
        3 => Observable::Ipv6(reader.array::<16>()?.into()),
        4 => Observable::Ipv6Prefix(Ipv6Net::new(Ipv6Addr::from(reader.array::<16>()?), reader.byte()?).ok()?),
        5 => Observable::Endpoint(reader.array::<4>()?.into(), u16::from_le_bytes(reader.array()?)),
        6 => Observable::Endpoint(reader.array::<16>()?.into(), u16::from_le_bytes(reader.array()?)),
        7 => Observable::Domain(Arc::from(reader.text()?)),
        8 => Observable::Url(Arc::from(reader.text()?)),
        9 => Observable::Sha256(reader.array()?),
        10 => Observable::Sha1(reader.array()?),
        11 => Observable::Md5(reader.array()?),
        12 => Observable::Path(Arc::from(reader.text()?)),
        13 => Observable::FileName(Arc::from(reader.text()?)),
        14 => Observable::Process(Arc::from(reader.text()?)),
        _ => return None,
    })
}

/// Goes past a value.
pub(super) fn skip(reader: &mut Reader<'_>) -> Option<()> {
    let length = match reader.byte()? {
        1 => 4,
        2 => 5,
        3 | 11 => 16,
        4 => 17,
        5 => 6,
        6 => 18,
        9 => 32,
        10 => 20,
        7 | 8 | 12..=14 => reader.count()?,
        _ => return None,
    };
    reader.take(length).map(drop)
}

/// Seconds, then nanoseconds, most of which are none.
pub(super) fn put_time(bytes: &mut Vec<u8>, time: Timestamp) {
    let seconds = time.as_second();
    put_number(bytes, (seconds << 1 ^ seconds >> 63).cast_unsigned());
    put_number(
        bytes,
        u64::from(time.subsec_nanosecond().unsigned_abs()) << 1 | u64::from(time.subsec_nanosecond() < 0),
    );
}

pub(super) fn get_time(reader: &mut Reader<'_>) -> Option<Timestamp> {
    let (seconds, nanoseconds) = (reader.number()?, reader.number()?);
    let seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
    let magnitude = i32::try_from(nanoseconds >> 1).ok()?;
    Timestamp::new(seconds, if nanoseconds & 1 == 1 { -magnitude } else { magnitude }).ok()
}
