//! Repeats that the hooks fold: counted in one of two tables, of which user space empties the other.
//!
//! Both are pinned, because opening a table by its id takes `CAP_SYS_ADMIN`, and so that what a daemon that died had not
//! taken yet is there for the next.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use agent_common::limits::FOLDS;
use agent_common::wire::{Fold, FoldKey};

use super::Error;
use super::bpf::{self, Table};

const NAMES: [&str; 2] = ["FOLDS_0", "FOLDS_1"];

/// The two tables, and the slot that says which one the hooks count in.
#[derive(Debug)]
pub(super) struct Folds {
    slot: Table<u32, u32>,
    tables: [(u32, Table<FoldKey, Fold>); 2],
}

fn failed(source: io::Error) -> Error {
    Error::Bpf { what: "map FOLDS".to_owned(), source }
}

impl Folds {
    /// Opens or makes the tables pinned below `maps`, and puts one of them into `slot`.
    pub(super) fn open(slot: Table<u32, u32>, maps: &Path) -> Result<Self, Error> {
        let [first, second] = NAMES.map(|name| Self::table(&maps.join(name), name));
        let folds = Self { slot, tables: [first?, second?] };
        if folds.current()?.is_none() {
            folds.switch_to(0)?;
        }
        Ok(folds)
    }

    fn table(path: &Path, name: &'static str) -> Result<(u32, Table<FoldKey, Fold>), Error> {
        let map = match bpf::open_pin(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let map = bpf::create_hash::<FoldKey, Fold>(FOLDS, name).map_err(failed)?;
                bpf::pin(map.as_fd(), path).map_err(failed)?;
                map
            }
            opened => opened.map_err(failed)?,
        };
        let id = bpf::map_shape(map.as_fd()).map_err(failed)?.id;
        Ok((id, Table::open(map, name)?))
    }

    /// Index of the table that the hooks count in.
    fn current(&self) -> Result<Option<usize>, Error> {
        let id = self.slot.get(&0).map_err(failed)?;
        Ok(self.tables.iter().position(|(own, _)| id == Some(*own)))
    }

    /// When this returns, no program counts in the other table any more.
    fn switch_to(&self, index: usize) -> Result<(), Error> {
        let Some((_, table)) = self.tables.get(index) else { return Ok(()) };
        self.slot.set(&0, &table.descriptor().as_raw_fd().cast_unsigned()).map_err(failed)
    }

    /// Takes all that has been counted. A daemon that died in here has left some in the table that is not in use.
    pub(super) fn take(&self) -> Result<Vec<(FoldKey, Fold)>, Error> {
        let current = self.current()?.unwrap_or(0);
        let mut taken = Vec::new();
        let [(_, first), (_, second)] = &self.tables;
        let (in_use, spare) = if current == 0 { (first, second) } else { (second, first) };
        drain(spare, &mut taken)?;
        if !in_use.is_empty().map_err(failed)? {
            self.switch_to(1 - current)?;
            drain(in_use, &mut taken)?;
        }
        Ok(taken)
    }
}

fn drain(table: &Table<FoldKey, Fold>, taken: &mut Vec<(FoldKey, Fold)>) -> Result<(), Error> {
    for key in table.keys(FOLDS).map_err(failed)? {
        if let Some(fold) = table.get(&key).map_err(failed)? {
            taken.push((key, fold));
        }
        table.remove(&key).map_err(failed)?;
    }
    Ok(())
}
