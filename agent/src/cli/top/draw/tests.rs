use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::*;
use crate::cli::log::tests::record;
use crate::cli::top::feed::News;
use crate::cli::top::view::Wish;
use crate::control::Request;
use crate::journal::{Followed, Loss, LossReason};

fn now() -> Timestamp {
    "2026-11-23T19:30:15Z".parse().unwrap()
}

fn status() -> Value {
    json!({
        "mode": "enforce", "generation": 12, "tables": {"entries": 1_204_331}, "faults": [],
        "counters": {"blocked": 27, "reported": 3}, "hits": {"counted": 30, "recorded": 30},
        "losses": {"journal.lost.ring_full": 0, "journal.written": 30},
    })
}

/// With the three example records and a fourth whose names would steer a terminal.
fn view() -> View {
    let mut view = View::new(status(), TimeZone::UTC, now());
    let mut evil = record("connect");
    (evil.id, evil.count) = ("evil".into(), 4);
    evil.process.as_mut().unwrap().exe = Some("/tmp/\u{1b}[2J\u{202e}x".into());
    evil.last_time = evil.time + SignedDuration::from_mins(10);
    view.take(["connect", "send", "exec"].map(record).into_iter().chain([evil]).collect());
    view
}

fn screen(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, true)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

fn press(view: &mut View, keys: &str) -> Vec<Wish> {
    let code = |key: char| match key {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\u{1b}' => KeyCode::Esc,
        '↓' => KeyCode::Down,
        key => KeyCode::Char(key),
    };
    keys.chars().map(|key| view.press(KeyEvent::new(code(key), KeyModifiers::NONE))).collect()
}

#[test]
fn eighty_columns_hold_everything() {
    let expected = r"cordon enforce  generation 12  values 1204331  faults 0  lost 0
kernel: blocked 27, reported 3; this generation: 30 hits, 30 recorded
                           █▂ ▂  ▂   ▂                0/min, 9 in the last hour

INDICATORS               HITS  PROGRAMS             HITS  ACTORS            HITS
203.0.113.0/24              5  /tmp/\u{1b…\u{202e}x    4  Example Bear         6
222222222222…22222222222    3  /tmp/dropper            3  Second Name          5
[2001:db8::53]:53           1  /usr/bin/curl           1  -                    3
                               resolver                1

HITS, newest first
19:15:11 blocked ×4       203.0.113.7:443/tcp        \u{1b}[2J\u{202e}x[4711] w…
19:06:00 killed ×3        exec ./dropper             dropper[4712] 1000 0123456…
19:05:13 would_block      [2001:db8::53]:53/udp      resolver[99] root
19:05:11 blocked          203.0.113.7:443/tcp        curl[4711] www-data nginx.…








/ filter  Enter explain  b block  a allow  p pause  Tab list  ? help  q quit";
    assert_eq!(screen(&view(), 80, 24), expected);
}

#[test]
fn more_room_shows_more() {
    let shown = screen(&view(), 200, 50);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 50);
    let tops = r"
INDICATORS                                                            HITS  PROGRAMS                                                     HITS  ACTORS                                               HITS
203.0.113.0/24                                                           5  /tmp/\u{1b}[2J\u{202e}x                                         4  Example Bear                                            6
2222222222222222222222222222222222222222222222222222222222222222         3  /tmp/dropper                                                    3  Second Name                                             5
[2001:db8::53]:53                                                        1  /usr/bin/curl                                                   1  -                                                       3
                                                                            resolver                                                        1";
    assert_eq!(lines[3..9].join("\n"), tops);
    let hits = r"HITS, newest first
19:15:11 blocked ×4       203.0.113.7:443/tcp                                         \u{1b}[2J\u{202e}x[4711] www-data nginx.service           203.0.113.0/24 (example)
19:06:00 killed ×3        exec ./dropper                                              dropper[4712] 1000 0123456789ab                           2222222222222222222222222222…22222222222222222 (example)
19:05:13 would_block      [2001:db8::53]:53/udp                                       resolver[99] root                                         [2001:db8::53]:53 (example)
19:05:11 blocked          203.0.113.7:443/tcp                                         curl[4711] www-data nginx.service                         203.0.113.0/24 (example)";
    assert_eq!(lines[19..24].join("\n"), hits);
}

#[test]
fn faults_and_losses_are_on_every_screen() {
    let mut view = view();
    view.status["faults"] =
        json!([{"number": "C033", "title": "tampered", "subject": "cgroup_connect4", "detail": "put back"}]);
    view.status["losses"]["journal.lost.queue_full"] = json!(7);
    let loss = Loss { reason: LossReason::RingFull, count: 5, from: now(), to: now() };
    view.hear(News::Journal(vec![Followed::Loss(loss)]));
    for keys in ["", "?", "/curl"] {
        press(&mut view, keys);
        let shown = screen(&view, 80, 24);
        assert!(shown.contains("faults 1  lost 7 (5 new)"), "{shown}");
        assert!(shown.contains("C033 tampered cgroup_connect4: put back"), "{shown}");
    }
    view.hear(News::Status(Err("no agent is running".into())));
    assert!(screen(&view, 80, 24).contains("no agent is running"));
}

#[test]
fn a_filter_is_about_all_lists_and_escape_clears_it() {
    let mut view = view();
    press(&mut view, "/usr/bin/curl\n");
    let shown = screen(&view, 80, 24);
    assert!(
        shown.contains("filter: usr/bin/curl") && shown.contains("curl[4711]") && !shown.contains("resolver"),
        "{shown}"
    );
    assert!(shown.contains("1 in the last hour"), "{shown}");
    press(&mut view, "\u{1b}");
    assert!(screen(&view, 80, 24).contains("resolver"));
    press(&mut view, "/nothing\n");
    assert!(screen(&view, 80, 24).contains("none that the filter finds"));
}

#[test]
fn blocking_asks_first_and_only_yes_means_it() {
    let mut view = view();
    assert_eq!(press(&mut view, "bn"), [Wish::Nothing, Wish::Nothing]);
    press(&mut view, "b");
    assert!(screen(&view, 80, 24).contains("Block 203.0.113.0/24 on this host until `cordon unblock`? y/N"));
    let wished = press(&mut view, "y").pop().unwrap();
    let Wish::Ask(Request::AddRule { rule }) = wished else { panic!("{wished:?}") };
    assert_eq!((rule.value.as_str(), rule.effect), ("203.0.113.0/24", Effect::Block));
    view.hear(News::Answer(Request::AddRule { rule: rule.clone() }, Ok(json!({"generation": 13}))));
    assert!(screen(&view, 80, 24).contains("203.0.113.0/24 is blocked: generation 13 is live"));
    view.hear(News::Answer(Request::AddRule { rule }, Err("only root may change what the agent does".into())));
    assert!(screen(&view, 80, 24).contains("only root may"));
}

#[test]
fn enter_explains_what_is_chosen_and_an_actor_filters() {
    let mut view = view();
    let explain = |value: &str| Wish::Ask(Request::Explain { value: value.into() });
    assert_eq!(press(&mut view, "↓↓\n")[2], explain("[2001:db8::53]:53"));
    assert_eq!(press(&mut view, "\t\n")[1], explain("203.0.113.0/24"));
    view.hear(News::Answer(
        Request::Explain { value: String::new() },
        Ok(json!({"value": "203.0.113.0/24", "type": "ipv4_prefix", "outcome": "blocked", "why": "an indicator is in force"})),
    ));
    let shown = screen(&view, 80, 24);
    assert!(shown.contains("blocked") && shown.contains("┌"), "{shown}");
    press(&mut view, "\u{1b}");
    assert!(!screen(&view, 80, 24).contains("┌"));
    press(&mut view, "\t\t\n");
    assert_eq!(view.filter, "Example Bear");
}

#[test]
fn while_paused_nothing_moves_and_nothing_is_forgotten() {
    let mut view = view();
    press(&mut view, "p");
    let mut fresh = record("connect");
    fresh.id = "fresh".into();
    fresh.process.as_mut().unwrap().exe = Some("/usr/bin/fresh".into());
    view.hear(News::Journal(vec![Followed::Record(Box::new(fresh))]));
    let shown = screen(&view, 80, 24);
    assert!(shown.contains("paused, 1 held back") && !shown.contains("fresh"), "{shown}");
    press(&mut view, "p");
    let shown = screen(&view, 80, 24);
    assert!(!shown.contains("paused") && shown.contains("fresh"), "{shown}");
}

#[test]
fn a_record_that_repeats_were_folded_into_is_shown_once_with_its_count() {
    let mut view = view();
    let again = Finding { count: 9, ..record("connect") };
    view.hear(News::Journal(vec![Followed::Record(Box::new(again))]));
    let shown = screen(&view, 120, 24);
    assert_eq!(shown.matches("curl[4711]").count(), 1, "{shown}");
    assert!(shown.contains("blocked ×9"), "{shown}");
}

#[test]
fn what_is_drawn_is_drawn_once_unless_something_happens() {
    let mut view = view();
    view.was_drawn();
    view.tick(now() + SignedDuration::from_secs(1));
    view.hear(News::Status(Ok(status())));
    assert!(!view.has_changed(), "nothing new");
    view.tick(now() + SignedDuration::from_secs(60));
    assert!(view.has_changed(), "a new minute");
}

#[test]
fn any_size_can_be_drawn() {
    let mut view = view();
    for keys in ["", "?", "\u{1b}/x"] {
        press(&mut view, keys);
        for (width, height) in [(1, 1), (3, 2), (10, 5), (20, 8), (40, 10), (80, 3), (500, 4)] {
            screen(&view, width, height);
        }
    }
}
