use super::{Judgement, judge};

const BLESSED: &str = "ABI_VERSION 1\nHitKey size 8 align 4\n";
const CHANGED: &str = "ABI_VERSION 1\nHitKey size 16 align 8\n";
const RAISED: &str = "ABI_VERSION 2\nHitKey size 16 align 8\n";

fn refusal(picture: &str, blessed: Option<&str>, bless: bool) -> String {
    judge(picture, blessed, bless).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn the_same_picture_passes() {
    assert_eq!(judge(BLESSED, Some(BLESSED), false).ok(), Some(Judgement::Same));
}

#[test]
fn a_change_without_a_new_version_is_refused_even_when_blessing() {
    for bless in [false, true] {
        let words = refusal(CHANGED, Some(BLESSED), bless);
        assert!(words.contains("was `HitKey size 8 align 4`, is `HitKey size 16 align 8`"), "{words}");
        assert!(words.contains("set it to 2"), "{words}");
    }
}

#[test]
fn a_change_with_a_new_version_wants_the_blessing() {
    assert!(refusal(RAISED, Some(BLESSED), false).contains("--bless"));
    assert_eq!(judge(RAISED, Some(BLESSED), true).ok(), Some(Judgement::Write));
}

#[test]
fn a_missing_picture_wants_the_blessing() {
    assert!(refusal(BLESSED, None, false).contains("is missing"));
    assert_eq!(judge(BLESSED, None, true).ok(), Some(Judgement::Write));
}
