//! Where is looked: the journal, open flows, running programs. What cannot be looked at is said, and the rest is looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;

use agent_common::wire::FileDigests;
use jiff::Timestamp;
use serde::Serialize;

use super::wanted::{Match, Wanted};
use crate::attribute::finding::{Kind, Verdict};
use crate::attribute::{Finding, protocol_name};
use crate::host::{
    Algorithms, DigestCache, NetworkNamespace, ProcessSnapshot, network_namespaces, process, running_processes,
    snapshot, socket_holders,
};
use crate::intel::Observable;
use crate::journal::{Contacts, Met, Order, Query, Reader, Seen};
use crate::kernel::sock_diag::{Flow, SockDiag, Transport};

/// Up to so many values are looked up by the journal's indexes; beyond, it is read from end to end.
const FEW: usize = 16;
/// Files that are hashed once however many processes run them.
const FILES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// A flow that is open.
    Socket,
    /// A process that runs.
    Process,
    /// Records of the journal.
    Journal,
    /// What was met and listed by nobody then.
    Contact,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    #[serde(rename = "where")]
    pub(super) place: Place,
    /// The value that was hunted.
    pub(super) value: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// Whether only the host of a hunted URL was seen, and not which page.
    pub(super) is_host_only: bool,
    /// The publisher's id of the indicator.
    pub(super) indicator: Option<String>,
    /// Where the indicator was read.
    pub(super) origin: Option<String>,
    /// Actors or malware.
    pub(super) names: Vec<String>,
    /// What was attempted; `None` where nothing but that it is there is known.
    pub(super) attempted: Option<Kind>,
    pub(super) verdict: Option<Verdict>,
    pub(super) process: Option<Who>,
    pub(super) destination: Option<Destination>,
    pub(super) path: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) first_seen: Option<Timestamp>,
    pub(super) last_seen: Option<Timestamp>,
    pub(super) count: u64,
    /// Id of the newest record.
    pub(super) record: Option<String>,
}

/// A process, the newest of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) uid: Option<u32>,
    pub(super) exe: Option<String>,
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Destination {
    pub(super) ip: std::net::IpAddr,
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) domain: Option<String>,
}

/// What could not be looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Unseen {
    pub(super) what: String,
    pub(super) why: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Looked {
    /// Records of the journal; by an index only those of the values.
    pub(super) records: u64,
    pub(super) contacts: u64,
    pub(super) flows: u64,
    pub(super) processes: u64,
}

/// A hunt and what it has found.
pub(super) struct Hunt<'a> {
    wanted: &'a Wanted,
    pub(super) found: Vec<Found>,
    pub(super) looked: Looked,
    pub(super) unseen: Vec<Unseen>,
}

impl Found {
    fn new(place: Place, matched: Match<'_>) -> Self {
        let value = matched.value;
        Self {
            place,
            value: value.observable.to_string(),
            kind: value.observable.type_name(),
            is_host_only: matched.is_host_only,
            indicator: value.id.clone(),
            origin: value.origin.clone(),
            names: value.names.clone(),
            attempted: None,
            verdict: None,
            process: None,
            destination: None,
            path: None,
            sha256: None,
            first_seen: None,
            last_seen: None,
            count: 1,
            record: None,
        }
    }
}

impl<'a> Hunt<'a> {
    pub(super) fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, found: Vec::new(), looked: Looked::default(), unseen: Vec::new() }
    }

    fn unseen(&mut self, what: impl Into<String>, why: impl ToString) {
        self.unseen.push(Unseen { what: what.into(), why: why.to_string() });
    }

    /// Looks into the journal in `dir`. Records of one value, outcome, program and other end are one.
    pub(super) fn look_into_journal(&mut self, dir: &Path) {
        let reader = match Reader::open(dir) {
            Ok(reader) => reader,
            Err(error) => return self.unseen("journal", error),
        };
        let mut together = BTreeMap::new();
        let values = self.wanted.values();
        if values.len() <= FEW {
            let mut known = HashSet::new();
            for query in values.iter().flat_map(|value| queries(&value.observable)) {
                self.look_at_records(&reader, &query, &mut together, |finding| known.insert(finding.id.clone()));
            }
        } else {
            let query = Query { order: Order::OldestFirst, ..Query::default() };
            self.look_at_records(&reader, &query, &mut together, |_| true);
        }
        self.found.extend(together.into_values());
    }

    fn look_at_records(
        &mut self,
        reader: &Reader,
        query: &Query,
        together: &mut BTreeMap<String, Found>,
        mut is_new: impl FnMut(&Finding) -> bool,
    ) {
        for finding in reader.records(query) {
            match finding {
                Ok(finding) if is_new(&finding) => {
                    self.looked.records += 1;
                    if let Some(matched) = self.wanted.record(&finding) {
                        add_record(together, matched, &finding);
                    }
                }
                Ok(_) => {}
                Err(error) => self.unseen("journal", error),
            }
        }
    }

    /// Looks at what was met, where the agent that writes the journal in `dir` keeps that.
    pub(super) fn look_at_contacts(&mut self, dir: &Path) {
        let contacts = match Contacts::read(dir) {
            Ok(Some(contacts)) => contacts,
            Ok(None) => return,
            Err(error) => return self.unseen("contacts", error),
        };
        let wanted = self.wanted;
        let looked = contacts.each(|seen| {
            self.looked.contacts += 1;
            self.found.extend(found_contact(wanted, seen));
        });
        if let Err(error) = looked {
            self.unseen("contacts", error);
        }
    }

    /// Looks at the flows that are open in every network namespace, if addresses are hunted.
    pub(super) fn look_at_flows(&mut self) {
        let is_of_flows = |value: &Observable| {
            use Observable::{Domain, Endpoint, Ipv4, Ipv4Prefix, Ipv6, Ipv6Prefix, Url};
            matches!(value, Ipv4(_) | Ipv4Prefix(_) | Ipv6(_) | Ipv6Prefix(_) | Endpoint(..) | Url(_) | Domain(_))
        };
        if !self.wanted.has(is_of_flows) {
            return;
        }
        match network_namespaces() {
            Ok(namespaces) => namespaces.iter().for_each(|namespace| self.look_into_namespace(namespace)),
            Err(error) => self.unseen("open flows", error),
        }
    }

    fn look_into_namespace(&mut self, namespace: &NetworkNamespace) {
        let name = |transport: &str| format!("open {transport} flows of net:[{}]", namespace.inode);
        let opened = match namespace.is_own {
            true => SockDiag::open(),
            false => SockDiag::open_in(namespace.descriptor.as_fd()),
        };
        let diag = match opened {
            Ok(diag) => diag,
            Err(error) => return self.unseen(name("TCP and UDP"), error),
        };
        let mut flows = Vec::new();
        for transport in Transport::ALL {
            let listed = diag.flows(transport, |flow| {
                self.looked.flows += 1;
                if self.wanted.address(flow.remote().ip(), flow.remote().port()).is_some() {
                    flows.push(flow);
                }
            });
            if let Err(error) = listed {
                self.unseen(name(transport.name()), error);
                break;
            }
        }
        self.tell_flows(&flows);
    }

    fn tell_flows(&mut self, flows: &[Flow]) {
        let inodes: HashSet<u64> = flows.iter().filter_map(|flow| flow.inode).collect();
        let holders = socket_holders(&inodes).unwrap_or_else(|error| {
            self.unseen("whose the flows are", error);
            HashMap::new()
        });
        for flow in flows {
            let remote = flow.remote();
            let Some(matched) = self.wanted.address(remote.ip(), remote.port()) else { continue };
            let holder = flow.inode.and_then(|inode| holders.get(&inode)?.iter().min());
            let process = holder.and_then(|holder| snapshot(holder.pid).ok().flatten());
            self.found.push(Found {
                process: process.as_ref().map(who),
                destination: Some(Destination {
                    ip: crate::intel::normalise::ip(remote.ip()),
                    port: remote.port(),
                    protocol: flow.transport.name().to_lowercase(),
                    domain: None,
                }),
                ..Found::new(Place::Socket, matched)
            });
        }
    }

    /// Looks at the programs that run, if files are hunted.
    pub(super) fn look_at_processes(&mut self) {
        let is_of = |names: &'static [&'static str]| move |value: &Observable| names.contains(&value.type_name());
        let digests = self.wanted.has(is_of(&["sha256", "sha1", "md5"]));
        if !digests && !self.wanted.has(is_of(&["path", "file_name"])) {
            return;
        }
        let algorithms = Algorithms { sha1: self.wanted.has(is_of(&["sha1"])), md5: self.wanted.has(is_of(&["md5"])) };
        let cache = digests.then(|| DigestCache::new(FILES, u64::MAX));
        let processes = match running_processes() {
            Ok(processes) => processes,
            Err(error) => return self.unseen("running processes", error),
        };
        for process in processes {
            self.looked.processes += 1;
            // Kernel threads run no file.
            let Some(exe) = &process.exe else { continue };
            let digest = cache.as_ref().and_then(|cache| self.digest(cache, &process, exe, algorithms));
            let by_digest = digest.as_ref().and_then(|digests| self.by_digest(digests));
            let Some(matched) = by_digest.or_else(|| self.wanted.path(exe)) else { continue };
            self.found.push(Found {
                process: Some(who(&process)),
                path: Some(exe.clone()),
                sha256: digest.map(|digests| Observable::Sha256(digests.sha256).to_string()),
                ..Found::new(Place::Process, matched)
            });
        }
    }

    fn by_digest(&self, digests: &FileDigests) -> Option<Match<'a>> {
        let sha1 = (digests.flags & FileDigests::SHA1 != 0).then_some(Observable::Sha1(digests.sha1));
        let md5 = (digests.flags & FileDigests::MD5 != 0).then_some(Observable::Md5(digests.md5));
        let known = [Some(Observable::Sha256(digests.sha256)), sha1, md5];
        known.into_iter().flatten().find_map(|digest| self.wanted.digest(&digest))
    }

    fn digest(
        &mut self,
        cache: &DigestCache,
        process: &ProcessSnapshot,
        exe: &str,
        algorithms: Algorithms,
    ) -> Option<FileDigests> {
        let Some(file) = process::open_executable(process.pid, process.start) else {
            // It may have ended.
            if snapshot(process.pid).ok().flatten().is_some_and(|now| now.start == process.start) {
                self.unseen(format!("the program of process {} ({exe})", process.pid), "it cannot be opened");
            }
            return None;
        };
        match cache.digest(&file, algorithms) {
            Ok(digested) => Some(digested.digests),
            Err(error) => {
                self.unseen(format!("the program of process {} ({exe})", process.pid), error);
                None
            }
        }
    }
}

fn who(process: &ProcessSnapshot) -> Who {
    Who { pid: process.pid, uid: Some(process.uid), exe: process.exe.clone() }
}

fn found_contact(wanted: &Wanted, seen: Seen) -> Option<Found> {
    let (matched, exe, destination, sha256) = match seen.met {
        Met::Contact { ip, port, protocol, exe } => {
            let protocol = protocol_name(protocol);
            (wanted.address(ip, port)?, exe, Some(Destination { ip, port, protocol, domain: None }), String::new())
        }
        Met::Executable { sha256, path } => {
            let digest = crate::intel::normalise::sha256(&sha256).ok();
            let by_digest = digest.and_then(|digest| wanted.digest(&digest));
            (by_digest.or_else(|| wanted.path(&path))?, path, None, sha256)
        }
    };
    let path = Some(exe).filter(|exe| !exe.is_empty());
    Some(Found {
        attempted: Some(if destination.is_some() { Kind::Connect } else { Kind::Exec }),
        process: Some(Who { pid: seen.pid, uid: None, exe: path.clone() }),
        path: path.filter(|_| destination.is_none()),
        destination,
        sha256: Some(sha256).filter(|sha256| !sha256.is_empty()),
        first_seen: Some(seen.first),
        last_seen: Some(seen.last),
        count: seen.count,
        ..Found::new(Place::Contact, matched)
    })
}

/// What finds all records of a value by the journal's indexes.
fn queries(value: &Observable) -> Vec<Query> {
    let any = || Query { order: Order::OldestFirst, ..Query::default() };
    let text = value.to_string();
    let destination =
        |text: &str| text.parse().ok().map(|destination| Query { destination: Some(destination), ..any() });
    let seen = match value {
        Observable::Ipv4(_)
        | Observable::Ipv4Prefix(_)
        | Observable::Ipv6(_)
        | Observable::Ipv6Prefix(_)
        | Observable::Endpoint(..)
        | Observable::Domain(_) => destination(&text),
        Observable::Url(url) => crate::intel::normalise::url_host(url).and_then(|host| destination(&host.to_string())),
        Observable::Sha256(_) | Observable::Sha1(_) | Observable::Md5(_) => {
            Some(Query { hash: Some(text.clone()), ..any() })
        }
        Observable::Path(_) | Observable::FileName(_) => Some(Query { exe: Some(escaped(&text)), ..any() }),
        Observable::Process(_) => None,
    };
    seen.into_iter().chain([Query { indicator: Some(text), ..any() }]).collect()
}

/// A path as the glob of that path alone.
fn escaped(path: &str) -> String {
    path.chars().fold(String::new(), |mut glob, c| {
        match c {
            '*' | '?' | '[' => glob.extend(['[', c, ']']),
            c => glob.push(c),
        }
        glob
    })
}

fn add_record(together: &mut BTreeMap<String, Found>, matched: Match<'_>, finding: &Finding) {
    let exe = finding.process.as_ref().and_then(|process| process.exe.clone());
    let destination = finding.destination.as_ref().map(|destination| Destination {
        ip: destination.ip,
        port: destination.port,
        protocol: destination.protocol.clone(),
        domain: destination.domain.clone(),
    });
    let file = finding.file.as_ref();
    let path = file.and_then(|file| file.path.clone());
    let key = format!("{:?}", (matched.number, finding.kind, finding.verdict, &exe, &destination, &path));
    let found = together.entry(key).or_insert_with(|| Found {
        attempted: Some(finding.kind),
        verdict: Some(finding.verdict),
        destination,
        path,
        sha256: file.and_then(|file| file.sha256.clone()),
        first_seen: Some(finding.time),
        count: 0,
        ..Found::new(Place::Journal, matched)
    });
    found.count += finding.count;
    found.first_seen = found.first_seen.min(Some(finding.time));
    if found.last_seen.is_none_or(|last| last <= finding.last_time) {
        found.last_seen = Some(finding.last_time);
        found.record = Some(finding.id.clone());
        found.process = finding.process.as_ref().map(|process| Who {
            pid: process.pid,
            uid: process.uid,
            exe: process.exe.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::normalise;

    #[test]
    fn a_path_with_glob_characters_is_that_path() {
        assert_eq!(escaped("/opt/a[1]*?"), "/opt/a[[]1][*][?]");
    }

    #[test]
    fn a_running_program_is_found_by_path_and_by_each_digest() {
        let own = std::env::current_exe().unwrap();
        let digests =
            DigestCache::new(FILES, u64::MAX).digest_path(&own, Algorithms { sha1: true, md5: true }).unwrap().digests;
        let values = [
            normalise::path(own.to_str().unwrap()).unwrap(),
            Observable::Sha256(digests.sha256),
            Observable::Sha1(digests.sha1),
            Observable::Md5(digests.md5),
        ];
        for value in values {
            let wanted = Wanted::of(value);
            let mut hunt = Hunt::new(&wanted);
            hunt.look_at_processes();
            let is_me = |found: &Found| found.process.as_ref().is_some_and(|who| who.pid == std::process::id());
            assert!(hunt.found.iter().any(is_me), "{:?}", wanted.values());
        }
        let wanted = Wanted::of(Observable::Sha256([0; 32]));
        let mut hunt = Hunt::new(&wanted);
        hunt.look_at_processes();
        assert!(hunt.found.is_empty() && hunt.looked.processes > 0);
    }

    #[test]
    fn an_open_flow_is_found_with_its_process() {
        let listener = std::net::TcpListener::bind("127.81.7.7:0").unwrap();
        let _open = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wanted = Wanted::of(normalise::address("127.81.7.0/24").unwrap());
        let mut hunt = Hunt::new(&wanted);
        hunt.look_at_flows();
        if let Some(unseen) = hunt.unseen.first() {
            println!("NOT RUN an_open_flow_is_found_with_its_process: {}: {}", unseen.what, unseen.why);
            return;
        }
        let port = listener.local_addr().unwrap().port();
        let to = |found: &&Found| found.destination.as_ref().is_some_and(|destination| destination.port == port);
        let found = hunt.found.iter().find(to).unwrap();
        assert_eq!((found.place, found.value.as_str()), (Place::Socket, "127.81.7.0/24"));
        assert_eq!(found.process.as_ref().map(|who| who.pid), Some(std::process::id()));
    }
}
