//! The records that the kernel half writes and user space reads, and the map keys and values of both. One file a record.
//!
//! All are plain data without padding, in host byte order unless a field says otherwise; user space decodes them with
//! `zerocopy` and never transmutes. Enumerations travel as integers: an unknown value is an error in the decoder, not
//! undefined behaviour.

mod contact;
mod control;
mod domain;
mod exec;
mod file;
mod header;
mod hit;
mod learned;
mod network;
mod protect;
mod socket;

pub use contact::{Contact, ContactKey};
pub use control::{Config, Counter, Mode};
pub use domain::{DomainRecord, NameConfig, NameForm};
pub use exec::ExecRecord;
pub use file::{FileDigests, FileKey, FileStamp};
pub use header::{Behaviour, Header, Hook, Process, RecordKind, Verdict};
pub use hit::{Fold, FoldKey, HitKey};
pub use learned::{Learned, LearnedKey};
pub use network::NetworkRecord;
pub use protect::{Attempt, ObjectKey, ObjectKind, Protection, Refusal, RefusalKey, TICK_NS};
pub use socket::SocketMemory;
