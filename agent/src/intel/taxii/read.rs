//! Reading a collection, page by page (§3.5).

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use url::Url;

use super::document::Envelope;
use super::{Collection, Error, ask, document};

/// Objects asked for at a time; servers give fewer if they like.
pub const PAGE: u32 = 1000;
/// Pages without an object before the server is believed to go round in circles.
const EMPTY_PAGES: u32 = 16;
/// An object may become visible this long after its date: a server dates it before its transaction ends.
const SETTLING: SignedDuration = SignedDuration::from_mins(5);

/// A whole reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Objects read; some may have been read before.
    pub objects: u64,
    /// From when on to read the next time. To be kept only when all that was read is.
    pub added_after: Option<Timestamp>,
}

struct Page {
    envelope: Envelope,
    /// `X-TAXII-Date-Added-Last`
    last_added: Option<Timestamp>,
    /// `Date`
    now: Option<Timestamp>,
}

impl Collection<'_> {
    /// Reads what was added after `added_after`, or all, `page` objects at a time, and gives the objects of each page to
    /// `keep`. `next` is followed wherever the server gives it: by date, objects of the same date as the last of a page
    /// would be lost.
    ///
    /// # Errors
    /// The collection cannot be read to its end, or `keep` fails; nothing of the run counts then.
    pub fn read(
        &self,
        added_after: Option<Timestamp>,
        page: u32,
        mut keep: impl FnMut(Vec<Box<RawValue>>) -> Result<(), Error>,
    ) -> Result<Run, Error> {
        if !self.info.can_read {
            return Err(Error::NotPermitted { title: self.info.title.clone(), what: "read" });
        }
        let (mut after, mut next) = (added_after, None);
        let (mut began, mut last_added, mut objects, mut empty) = (None, added_after, 0, 0);
        loop {
            let url = self.page_url(after, page, next.as_deref());
            let page = self.page(&url)?;
            began = began.or(page.now);
            last_added = last_added.max(page.last_added);
            objects += page.envelope.objects.len() as u64;
            empty = if page.envelope.objects.is_empty() { empty + 1 } else { 0 };
            keep(page.envelope.objects)?;
            if !page.envelope.more {
                break;
            }
            if empty > EMPTY_PAGES {
                return Err(Error::Paging { url: url.to_string(), why: "there is always more, but nothing comes" });
            }
            next = page.envelope.next.filter(|next| !next.is_empty());
            if next.is_none() {
                after = Some(later(after, page.last_added).ok_or_else(|| Error::Paging {
                    url: url.to_string(),
                    why: "there is more, but the server gives no `next`, and all of a page has one date",
                })?);
            }
        }
        let settled = began.unwrap_or_else(Timestamp::now).checked_sub(SETTLING).ok();
        let added_after = match (last_added, settled) {
            (Some(last), Some(settled)) => Some(last.min(settled).max(added_after.unwrap_or(Timestamp::MIN))),
            _ => added_after,
        };
        Ok(Run { objects, added_after })
    }

    fn page_url(&self, after: Option<Timestamp>, page: u32, next: Option<&str>) -> Url {
        let mut url = self.url(&["objects", ""]);
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &page.to_string());
        if let Some(after) = after {
            query.append_pair("added_after", &spelled(after));
        }
        if let Some(next) = next {
            query.append_pair("next", next);
        }
        drop(query);
        url
    }

    fn page(&self, url: &Url) -> Result<Page, Error> {
        ask(self.client, url, None, |answer| {
            let last_added = answer.named("x-taxii-date-added-last").and_then(|text| text.parse().ok());
            let now = answer.named("date").and_then(|text| rfc2822::parse(text).ok()).map(|date| date.timestamp());
            let (envelope, _) = document(answer)?;
            Ok(Page { envelope, last_added, now })
        })
    }
}

/// Where to go on without `next`: just before the last date, for more objects may have it. `None` where that does not lead on.
fn later(after: Option<Timestamp>, last_added: Option<Timestamp>) -> Option<Timestamp> {
    let before_last = last_added?.checked_sub(SignedDuration::from_micros(1)).ok()?;
    (after.is_none_or(|after| before_last > after)).then_some(before_last)
}

/// With microseconds, without which one server takes no date (§3.2 allows any precision).
fn spelled(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
