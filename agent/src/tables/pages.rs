//! Pages of a generation's file, each with a checksum: what was damaged is told, whichever part of it is read.
//!
//! A checksum covers the page's number and the identity of the generation, so that no page passes for another's.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use agent_common::image::SipHasher13;
use lru::LruCache;

use crate::intel::packed::{Bytes, Damaged};

const PAGE: usize = 4096;
const BODY: usize = PAGE - size_of::<u64>();
/// Pages that are kept once they were checked.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

fn checksum(identity: u64, number: u64, body: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new(identity, number);
    body.as_chunks::<8>().0.iter().for_each(|word| hasher.write(u64::from_le_bytes(*word)));
    hasher.finish()
}

/// Writes pages. The last is filled up with zeros by [`Self::finish`].
pub(super) struct PageWriter<W> {
    out: W,
    identity: u64,
    number: u64,
    body: Vec<u8>,
}

impl<W: Write> PageWriter<W> {
    pub(super) fn new(out: W, identity: u64) -> Self {
        Self { out, identity, number: 0, body: Vec::with_capacity(BODY) }
    }

    fn page(&mut self) -> io::Result<()> {
        self.body.resize(BODY, 0);
        let checksum = checksum(self.identity, self.number, &self.body);
        self.out.write_all(&self.body)?;
        self.out.write_all(&checksum.to_le_bytes())?;
        self.body.clear();
        self.number += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.body.is_empty() {
            self.page()?;
        }
        self.out.flush()
    }
}

impl<W: Write> Write for PageWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(BODY - self.body.len());
        self.body.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        if self.body.len() == BODY {
            self.page()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What was written through a [`PageWriter`], read from pages that lie elsewhere.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Arc<dyn Bytes>,
    identity: u64,
    known: Mutex<LruCache<u64, Arc<[u8]>>>,
}

impl Pages {
    pub(super) fn new(pages: Arc<dyn Bytes>, identity: u64) -> Self {
        Self { pages, identity, known: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// The body of a page that is what was written.
    fn page(&self, number: u64, page: &mut [u8; PAGE]) -> Result<(), Damaged> {
        self.pages.read(number.checked_mul(PAGE as u64).ok_or(Damaged)?, page)?;
        let (body, sum) = page.split_at(BODY);
        let is_sound = checksum(self.identity, number, body).to_le_bytes() == *sum;
        if is_sound { Ok(()) } else { Err(Damaged) }
    }

    fn remembered(&self, number: u64) -> Result<Arc<[u8]>, Damaged> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = known.get(&number) {
            return Ok(Arc::clone(page));
        }
        let mut page = [0; PAGE];
        self.page(number, &mut page)?;
        let page: Arc<[u8]> = Arc::from(page.as_slice());
        known.put(number, Arc::clone(&page));
        Ok(page)
    }
}

impl Bytes for Pages {
    fn len(&self) -> u64 {
        self.pages.len() / PAGE as u64 * BODY as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Damaged> {
        // What is read as a whole is read once, and must not push out what is read again and again.
        let is_once = into.len() > PAGE;
        let (mut at, mut into) = (at, into);
        while !into.is_empty() {
            let (number, offset) = (at / BODY as u64, (at % BODY as u64) as usize);
            let length = into.len().min(BODY - offset);
            let (now, later) = into.split_at_mut(length);
            let copy = |page: &[u8], now: &mut [u8]| -> Result<(), Damaged> {
                now.copy_from_slice(page.get(offset..offset + length).ok_or(Damaged)?);
                Ok(())
            };
            if is_once {
                let mut page = [0; PAGE];
                self.page(number, &mut page)?;
                copy(&page, now)?;
            } else {
                copy(&self.remembered(number)?, now)?;
            }
            at = at.checked_add(length as u64).ok_or(Damaged)?;
            into = later;
        }
        Ok(())
    }
}
