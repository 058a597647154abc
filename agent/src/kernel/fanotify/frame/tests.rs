use agent_common::wire::ExecRecord;
use zerocopy::{FromZeros, IntoBytes};

use super::{Frame, GuardOptions, GuardStatus};

#[test]
fn frames_come_back_as_they_were() {
    let mut record = ExecRecord::new_zeroed();
    record.sha256 = [7; 32];
    let status = GuardStatus { denied: 3, failures: [("too_large".to_owned(), 2)].into(), ..GuardStatus::default() };
    let mut bytes = Vec::new();
    Frame::Options(GuardOptions::default()).write(&mut bytes).unwrap();
    Frame::Status(status.clone()).write(&mut bytes).unwrap();
    Frame::Hit(Box::new(record)).write(&mut bytes).unwrap();
    Frame::Fault("slow".into()).write(&mut bytes).unwrap();
    let mut from = bytes.as_slice();
    assert!(matches!(Frame::read(&mut from).unwrap(), Frame::Options(options) if options == GuardOptions::default()));
    assert!(matches!(Frame::read(&mut from).unwrap(), Frame::Status(read) if read == status));
    assert!(matches!(Frame::read(&mut from).unwrap(), Frame::Hit(read) if read.as_bytes() == record.as_bytes()));
    assert!(matches!(Frame::read(&mut from).unwrap(), Frame::Fault(text) if text == "slow"));
    assert_eq!(Frame::read(&mut from).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn broken_frames_are_errors() {
    let broken: [&[u8]; 5] =
        [&[9, 0, 0, 0, 0], &[3, 1, 0, 0, 0, 0], &[2, 1, 0, 0, 0, b'{'], &[2, 0, 0, 0, 255], &[2, 5, 0]];
    for mut bytes in broken {
        assert!(Frame::read(&mut bytes).is_err(), "{bytes:?}");
    }
}
