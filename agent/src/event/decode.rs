//! One record's bytes → [`Event`].

use std::net::{IpAddr, Ipv6Addr};

use agent_common::limits::{ARGS_LEN, NAME_LEN, PATH_LEN};
use agent_common::wire::{
    DomainRecord, ExecRecord, Header, Hook, NameForm, NetworkRecord, Process, RecordKind, Verdict,
};
use zerocopy::FromBytes;

use super::name;
use super::{Action, Event, Match, ProcessKey, Task};

/// Why a record made no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its kind asks for.
    #[error("a record of {found} bytes, where {needed} are needed")]
    Short {
        /// Bytes there.
        found: usize,
        /// Bytes wanted.
        needed: usize,
    },
    /// A value of another ABI version.
    #[error("a record whose {field} is {value}, which this build does not know")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A length that exceeds its field.
    #[error("a record whose {field} is {value}, more than the {most} that fit")]
    Length {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// The most it may hold.
        most: u64,
    },
}

fn prefix<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    let short = |_| DecodeError::Short { found: bytes.len(), needed: size_of::<T>() };
    T::read_from_prefix(bytes).map(|(value, _)| value).map_err(short)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn task(process: &Process) -> Task {
    let comm = process.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Task {
        key: ProcessKey { pid: process.pid, start_boot_ns: process.start_boot_ns },
        tid: process.tid,
        ppid: process.ppid,
        uid: process.uid,
        gid: process.gid,
        // What is all zero is nobody.
        loginuid: (process.pid != 0 && process.loginuid != u32::MAX).then_some(process.loginuid),
        cgroup_id: process.cgroup_id,
        comm: text(comm),
    }
}

fn address(octets: [u8; 16], family: u16) -> Result<IpAddr, DecodeError> {
    let address = Ipv6Addr::from(octets);
    match (family, address.to_ipv4_mapped()) {
        // An IPv4 call has its address in the mapped form; an IPv6 call that named a mapped address keeps it.
        (2, Some(ipv4)) => Ok(IpAddr::V4(ipv4)),
        (2, None) => Err(DecodeError::Unknown { field: "IPv4 address's prefix", value: 0 }),
        (10, _) => Ok(IpAddr::V6(address)),
        (family, _) => Err(DecodeError::Unknown { field: "address family", value: family.into() }),
    }
}

fn domain(bytes: &[u8]) -> Result<Action, DecodeError> {
    let record: DomainRecord = prefix(bytes)?;
    let written = part::<NAME_LEN>(&record.name, record.name_len, "name_len")?;
    let name = match NameForm::from_u8(record.form) {
        Some(NameForm::Labels) => name::presented(written),
        Some(NameForm::Text) => text(written),
        None => return Err(DecodeError::Unknown { field: "form of a name", value: record.form.into() }),
    };
    Ok(Action::Name {
        name,
        query_type: (record.query_type != 0).then_some(record.query_type),
        address: address(record.address, record.family)?,
        port: record.port,
        protocol: record.protocol,
    })
}

fn network(bytes: &[u8]) -> Result<Action, DecodeError> {
    let record: NetworkRecord = prefix(bytes)?;
    let has_none = match Hook::from_u8(record.header.hook) {
        Some(Hook::SockCreate | Hook::SocketCreate) => true,
        // A route whose first hop was not looked for.
        Some(Hook::Setsockopt) => record.address == [0; 16],
        _ => false,
    };
    if has_none {
        let NetworkRecord { family, protocol, socket_type, .. } = record;
        return Ok(Action::Socket { family, protocol, socket_type });
    }
    let address = address(record.address, record.family)?;
    let NetworkRecord { port, local_port, protocol, socket_type, .. } = record;
    Ok(Action::Network { address, port, local_port, protocol, socket_type })
}

fn part<'a, const MOST: usize>(
    bytes: &'a [u8; MOST],
    length: u16,
    field: &'static str,
) -> Result<&'a [u8], DecodeError> {
    let too_long = DecodeError::Length { field, value: length.into(), most: MOST as u64 };
    bytes.get(..usize::from(length)).ok_or(too_long)
}

fn exec(bytes: &[u8]) -> Result<Action, DecodeError> {
    if bytes.len() < ExecRecord::MIN_LEN {
        return Err(DecodeError::Short { found: bytes.len(), needed: ExecRecord::MIN_LEN });
    }
    let mut whole = [0u8; size_of::<ExecRecord>()];
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    let record: ExecRecord = prefix(&whole)?;
    let there = (bytes.len() - ExecRecord::MIN_LEN).min(ARGS_LEN);
    if usize::from(record.args_len) > there {
        return Err(DecodeError::Length { field: "args_len", value: record.args_len.into(), most: there as u64 });
    }
    let path = part::<PATH_LEN>(&record.path, record.path_len, "path_len")?;
    let args = part::<ARGS_LEN>(&record.args, record.args_len, "args_len")?;
    let args = args.strip_suffix(&[0]).unwrap_or(args);
    let args = if args.is_empty() { Vec::new() } else { args.split(|byte| *byte == 0).map(text).collect() };
    Ok(Action::Exec {
        file: record.file,
        stamp: record.stamp,
        sha256: (record.flags & ExecRecord::DIGEST != 0).then_some(record.sha256),
        has_sha1: record.flags & ExecRecord::SHA1 != 0,
        has_md5: record.flags & ExecRecord::MD5 != 0,
        path: text(path),
        args,
        cut: record.flags & (ExecRecord::PATH_CUT | ExecRecord::ARGS_CUT) != 0,
    })
}

/// Decodes one record of either ring. Total: any bytes give an event or a reason.
///
/// # Errors
/// What does not fit this build's [`agent_common::ABI_VERSION`].
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let header: Header = prefix(bytes)?;
    let unknown = |field, value: u8| DecodeError::Unknown { field, value: value.into() };
    let kind = RecordKind::from_u8(header.kind).ok_or_else(|| unknown("kind", header.kind))?;
    let verdict = Verdict::from_u8(header.verdict).ok_or_else(|| unknown("verdict", header.verdict))?;
    let hook = Hook::from_u8(header.hook).ok_or_else(|| unknown("hook", header.hook))?;
    let action = match kind {
        RecordKind::Network => network(bytes)?,
        RecordKind::Exec => exec(bytes)?,
        RecordKind::Domain => domain(bytes)?,
    };
    let matched =
        (header.entry != Header::NO_ENTRY).then_some(Match { generation: header.generation, entry: header.entry });
    Ok(Event { boot_ns: header.boot_ns, hook, verdict, matched, task: task(&header.process), action })
}

#[cfg(test)]
mod tests;
