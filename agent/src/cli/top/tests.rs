use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use super::*;

/// Says to this test, started again on a terminal, that it is to panic there.
const ON_TERMINAL: &str = "CORDON_TEST_PANICS_ON_TERMINAL";
/// The alternate screen, xterm's private mode 1049, entered and left.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

#[test]
fn a_panic_gives_the_terminal_back_before_it_says_anything() {
    if std::env::var_os(ON_TERMINAL).is_some() {
        on_screen(|terminal| {
            terminal.draw(|frame| frame.render_widget("drawn", frame.area()))?;
            panic!("of this test");
        })
        .unwrap();
    }
    let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keys).unwrap();
    unlockpt(&keys).unwrap();
    let name = ptsname(&keys, Vec::new()).unwrap();
    let terminal = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let before = tcgetattr(&terminal).unwrap();
    let end = || Stdio::from(terminal.try_clone().unwrap());
    let test = "cli::top::tests::a_panic_gives_the_terminal_back_before_it_says_anything";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1", test])
        .envs([(ON_TERMINAL, "1"), ("TERM", "xterm-256color")])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let (tell, told) = mpsc::channel();
    let mut screen = File::from(keys);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut bytes) {
            let _gone = tell.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    });
    assert!(!child.wait().unwrap().success());
    let mut shown = String::new();
    while let Ok(more) = told.recv_timeout(Duration::from_secs(1)) {
        shown.push_str(&more);
    }
    let at = |text: &str| shown.rfind(text).unwrap_or_else(|| panic!("no {text:?} in {shown:?}"));
    assert!(at(ENTER) < at("drawn") && at("drawn") < at(LEAVE) && at(LEAVE) < at("of this test"), "{shown:?}");
    let after = tcgetattr(&terminal).unwrap();
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes), "echo is back");
}
