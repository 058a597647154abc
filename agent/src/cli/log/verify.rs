//! `cordon log --verify`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::explain;
use crate::cli::Exit;
use crate::cli::table::printable;
use crate::journal::{Breach, Break, Reader, Verification};

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    intact: bool,
    #[serde(flatten)]
    found: &'a Verification,
}

/// Says what was verified, and the first place where the journal is not as it was written.
pub(super) fn run(journal_dir: &Path, is_json: bool, out: &mut impl Write) -> io::Result<Exit> {
    let found = match Reader::open(journal_dir).and_then(|reader| reader.verify()) {
        Ok(found) => found,
        Err(error) => return Ok(explain("log", &error)),
    };
    let intact = found.broken.is_none();
    if is_json {
        serde_json::to_writer(&mut *out, &Document { schema: 1, intact, found: &found })?;
        writeln!(out)?;
    } else {
        out.write_all(text(&found).as_bytes())?;
    }
    out.flush()?;
    Ok(if intact { Exit::Done } else { Exit::Failed })
}

fn text(found: &Verification) -> String {
    let mut text = String::new();
    if let Some(broken) = &found.broken {
        text.push_str(&format!("BROKEN: {}\n", place(broken)));
        if found.breaks > 1 {
            text.push_str(&format!("and {} more places\n", found.breaks - 1));
        }
    }
    let range = match (found.from, found.to) {
        (Some(from), Some(to)) => format!(" from {from} to {to}"),
        _ => String::new(),
    };
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "read: {} records in {} segments{range}", found.records, found.segments);
    if let Some(last) = found.not_chained.last() {
        text.push_str(&format!(
            "not chained: {} segments up to {last}, which this Cordon did not write; whether they were changed nobody can tell\n",
            found.not_chained.len()
        ));
    }
    if !found.end_is_known {
        text.push_str(
            "the file `head` is missing or cannot be read: whether newer records were removed nobody can tell\n",
        );
    }
    if found.broken.is_none() {
        text.push_str("intact\n");
    }
    text
}

fn place(broken: &Breach) -> String {
    let what = match broken.what {
        Break::Changed => "was changed after it was written",
        Break::Removed => "was removed",
        Break::Inserted => "was not written by Cordon",
        Break::Unlinked => "has an entry in the chain that was changed, removed or added",
        Break::SegmentUnlinked => "does not follow from the segment before it",
        Break::SegmentMissing => "is missing",
        Break::SegmentUnreadable => "cannot be read",
        Break::EndMissing => "lacks its newest records",
    };
    let subject = match (&broken.id, broken.revision) {
        (Some(id), _) => format!("{}: record {}", broken.segment, printable(id)),
        (None, Some(revision)) if broken.what != Break::EndMissing => format!("{}: loss {revision}", broken.segment),
        _ => broken.segment.clone(),
    };
    let time = broken.time.map(|time| format!(" of {time}")).unwrap_or_default();
    let detail = broken.detail.as_ref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
    format!("{subject}{time} {what}{detail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_break_is_named_with_record_time_and_segment() {
        let broken = Breach {
            what: Break::Removed,
            segment: "hits-0000000002.sqlite".to_owned(),
            revision: Some(7),
            id: Some("a\u{1b}b".to_owned()),
            time: Some("2026-11-23T12:00:00Z".parse().unwrap()),
            detail: None,
        };
        let found = Verification { breaks: 3, broken: Some(broken), end_is_known: true, ..Verification::default() };
        assert_eq!(
            text(&found),
            "BROKEN: hits-0000000002.sqlite: record a\\u{1b}b of 2026-11-23T12:00:00Z was removed\nand 2 more places\n\
             read: 0 records in 0 segments\n"
        );
        assert!(text(&Verification::default()).ends_with("nobody can tell\nintact\n"));
    }

    #[test]
    fn whoever_asks_in_a_program_gets_one_document_and_the_exit() {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        assert_eq!(run(&dir.path().join("none"), true, &mut out).unwrap(), Exit::Failed);
        assert!(out.is_empty());
        assert_eq!(run(dir.path(), true, &mut out).unwrap(), Exit::Done);
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&document["schema"], &document["intact"]), (&1.into(), &true.into()));
    }
}
