//! What goes wrong around a journal: torn and strange files, clocks that jump, readers that are slow.

use super::*;

#[test]
fn a_torn_segment_is_set_aside_and_the_journal_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { total_bytes: 2 << 20, ..SMALL };
    let (mut journal, _) = open(dir.path(), limits);
    let records: Vec<_> = (0..1500).map(finding).collect();
    journal.append(&records).unwrap();
    journal.close();
    let before = segments(dir.path());
    assert!(before.len() >= 3);
    // One cut, one overwritten in its middle while it was the newest.
    let cut = &before[0];
    let length = fs::metadata(cut).unwrap().len();
    fs::OpenOptions::new().write(true).open(cut).unwrap().set_len(length / 2 + 100).unwrap();
    let newest = before.last().unwrap();
    let mut content = fs::read(newest).unwrap();
    let (from, to) = (content.len() / 4, content.len() * 3 / 4);
    content[from..to].fill(0xa5);
    fs::write(newest, content).unwrap();

    let (mut journal, health) = open(dir.path(), limits);
    let faults = health.faults();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().all(|fault| fault.number == Fault::JournalSegmentDamaged.number()));
    for segment in [cut, newest] {
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(dir.path().join(format!("damaged-{name}")).exists(), "{name} is kept");
    }
    journal.append(&[finding(5000)]).unwrap();
    let left = all(dir.path(), &everything());
    assert_eq!(left.last().unwrap().id, "id-00005000");
    assert!(left.len() > 1 && left.len() < records.len(), "the whole segments are still read");
    let losses = Reader::open(dir.path()).unwrap().losses(None, None).unwrap();
    assert_eq!(losses.iter().map(|loss| loss.reason).collect::<Vec<_>>(), [LossReason::SegmentDamaged; 2]);
    let lost: u64 = losses.iter().map(|loss| loss.count).sum();
    assert!(lost > 1 && lost <= (records.len() - left.len() + 2) as u64, "{losses:?}");
    assert_eq!(health.counter("journal.lost.segment_damaged").get(), lost);
}

#[test]
fn a_segment_damaged_or_taken_away_while_it_is_written_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits::default());
    journal.append(&[finding(0)]).unwrap();
    fs::remove_file(&segments(dir.path())[0]).unwrap();
    journal.append(&[finding(1)]).unwrap();
    assert_eq!(ids(&all(dir.path(), &everything())), ["id-00000001"]);
}

#[test]
fn a_file_that_is_no_segment_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hits-0000000004.sqlite"), b"this is not a database, however long it is".repeat(400))
        .unwrap();
    fs::write(dir.path().join("hits-0000000003.sqlite"), b"").unwrap();
    fs::write(dir.path().join("notes.txt"), b"x").unwrap();
    let (mut journal, health) = open(dir.path(), Limits::default());
    assert_eq!(health.faults().len(), 2, "{:?}", health.faults());
    journal.append(&[finding(0)]).unwrap();
    assert_eq!(ids(&all(dir.path(), &everything())), ["id-00000000"]);
}

#[test]
fn a_clock_that_jumps_loses_nothing_and_mixes_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    // All in one segment: what is in another comes before or after it, whatever its times.
    let (mut journal, _) = open(dir.path(), Limits { segment_bytes: 1 << 20, total_bytes: 4 << 20, ..SMALL });
    let mut follow = Reader::open(dir.path()).unwrap().follow(&everything()).unwrap();
    // Written in this order: an hour ahead, ten years back, and as it should be.
    let ahead: Vec<_> = (3600..3700).map(finding).collect();
    let mut back: Vec<_> = (0..100).map(finding).collect();
    for record in &mut back {
        record.id = format!("back-{}", record.id);
        record.time -= SignedDuration::from_hours(10 * 365 * 24);
        record.last_time = record.time;
    }
    let right: Vec<_> = (100..200).map(finding).collect();
    for records in [&ahead, &back, &right] {
        journal.append(records).unwrap();
        journal.retain(base()).unwrap();
    }
    let by_time: Vec<_> = back.iter().chain(&right).chain(&ahead).map(|record| record.id.as_str()).collect();
    assert_eq!(ids(&all(dir.path(), &everything())), by_time);
    let until = Query { until: Some(base() - SignedDuration::from_hours(1)), ..everything() };
    assert_eq!(all(dir.path(), &until).len(), 100, "what was written under the wrong time is found there");
    let followed = follow.poll().unwrap();
    let written: Vec<_> = ahead.iter().chain(&back).chain(&right).map(|record| record.id.as_str()).collect();
    let followed: Vec<_> = followed
        .iter()
        .map(|followed| match followed {
            Followed::Record(finding) => finding.id.as_str(),
            Followed::Loss(loss) => panic!("{loss:?}"),
        })
        .collect();
    assert_eq!(followed, written, "in the order in which it was written");
    assert!(Reader::open(dir.path()).unwrap().verify().unwrap().broken.is_none());
}

#[test]
fn a_reader_slower_than_the_writer_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, health) = open(dir.path(), SMALL);
    journal.append(&(0..300).map(finding).collect::<Vec<_>>()).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let mut records = reader.records(&everything());
    let mut follow = reader.follow(&everything()).unwrap();
    // Each has begun, and goes on only when what it was reading is long gone.
    let first = records.next().unwrap().unwrap();
    assert_eq!(first.id, "id-00000000");
    for batch in 1..30 {
        journal.append(&(batch * 300..(batch + 1) * 300).map(finding).collect::<Vec<_>>()).unwrap();
        assert!(bytes(dir.path()) <= SMALL.total_bytes + (256 << 10), "{} bytes", bytes(dir.path()));
    }
    assert!(health.counter("journal.segments_deleted").get() > 0);
    let rest: Vec<_> = records.collect::<Result<_, _>>().unwrap();
    assert!(rest.is_sorted_by_key(|record| record.time) && rest.len() < 9000, "{} records", rest.len());
    let followed = follow.poll().unwrap();
    assert!(!followed.is_empty() && follow.poll().unwrap().is_empty());
}
