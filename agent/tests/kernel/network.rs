//! connect and sendmsg.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use agent::event::{Hook, Verdict};
use agent::intel::Observable;
use agent::policy::Action;
use agent_common::wire::{Counter, Mode};
use jiff::Timestamp;

use crate::sandbox::{Rules, Sandbox, destination};

fn connect(to: &str) -> Result<(), ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    TcpStream::connect_timeout(&to, Duration::from_secs(2)).map(drop).map_err(|error| error.kind())
}

fn send(from: &str, to: &str) -> Result<(), ErrorKind> {
    let socket = UdpSocket::bind(from).unwrap();
    socket.send_to(b"x", to.parse::<SocketAddr>().unwrap()).map(drop).map_err(|error| error.kind())
}

#[test]
fn connect4_is_refused_and_told() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    let listener = TcpListener::bind("127.0.0.8:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(connect(&format!("127.0.0.8:{port}")), Ok(()));
    assert!(running.events().is_empty());
    assert_eq!(connect(&format!("127.0.0.9:{port}")), Err(ErrorKind::PermissionDenied));
    let event = running.event();
    assert_eq!((event.hook, event.verdict), (Hook::Connect4, Verdict::Blocked));
    assert_eq!(destination(&event), ("127.0.0.9".parse().unwrap(), port));
    assert_eq!(running.observable(&event), Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 9)));
    assert_eq!(event.task.key.pid, std::process::id());
    assert_eq!(event.task.cgroup_id, running.kernel.scope_cgroup_id());
    assert_eq!(running.counted(1), 1);
    let counters = running.kernel.counters().unwrap();
    assert_eq!((counters.get(Counter::Blocked), counters.get(Counter::NetworkJudged)), (1, 2));
}

#[test]
fn the_process_is_named_as_proc_names_it() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::PermissionDenied));
    let task = running.event().task;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(task.ppid.to_string(), fields[1]);
    // Field 22, in clock ticks of 10 ms.
    let ticks: u64 = fields[19].parse().unwrap();
    assert_eq!(task.key.start_boot_ns / 10_000_000, ticks);
    assert_eq!((task.uid, task.gid), (0, 0));
    let thread = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert_eq!(task.comm, thread.trim_end());
}

#[test]
fn every_spelling_of_an_ipv4_address_is_that_address() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    for spelling in ["::ffff:127.0.0.9", "::127.0.0.9", "64:ff9b::7f00:9", "2002:7f00:9::1"] {
        assert_eq!(connect(&format!("[{spelling}]:9")), Err(ErrorKind::PermissionDenied), "{spelling}");
        let event = running.event();
        assert_eq!(event.hook, Hook::Connect6, "{spelling}");
        assert_eq!(destination(&event).0, spelling.parse::<IpAddr>().unwrap());
        assert_eq!(running.observable(&event), Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 9)));
        running.kernel.take_folds().unwrap();
    }
}

#[test]
fn the_unspecified_address_is_loopback() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.1").block_ip("::1"));
    for (to, hook) in [("0.0.0.0:9", Hook::Connect4), ("[::]:9", Hook::Connect6), ("[::1]:9", Hook::Connect6)] {
        assert_eq!(connect(to), Err(ErrorKind::PermissionDenied), "{to}");
        assert_eq!(running.event().hook, hook);
        running.kernel.take_folds().unwrap();
    }
}

#[test]
fn datagrams_are_refused_each_for_itself() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9").block_ip("::1"));
    assert_eq!(send("127.0.0.1:0", "127.0.0.8:9"), Ok(()));
    for (from, to, hook) in [
        ("127.0.0.1:0", "127.0.0.9:9", Hook::Sendmsg4),
        ("[::]:0", "[::ffff:127.0.0.9]:9", Hook::Sendmsg4),
        ("[::]:0", "[::1]:9", Hook::Sendmsg6),
    ] {
        assert_eq!(send(from, to), Err(ErrorKind::PermissionDenied), "{to}");
        let event = running.event();
        assert_eq!((event.hook, event.verdict), (hook, Verdict::Blocked));
        running.kernel.take_folds().unwrap();
    }
}

#[test]
fn prefixes_endpoints_and_exceptions() {
    let sandbox = Sandbox::new();
    let rules = Rules::default()
        .block(Observable::Ipv4Prefix("127.7.0.0/16".parse().unwrap()))
        .allow(Observable::Ipv4(Ipv4Addr::new(127, 7, 0, 7)))
        .block(Observable::Endpoint("127.0.0.8".parse().unwrap(), 4444));
    let mut running = sandbox.start(Mode::Enforce, rules);
    assert_eq!(connect("127.7.1.2:9"), Err(ErrorKind::PermissionDenied));
    let event = running.event();
    assert_eq!(running.observable(&event), Observable::Ipv4Prefix("127.7.0.0/16".parse().unwrap()));
    assert_eq!(connect("127.7.0.7:9"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(connect("127.0.0.8:4443"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(connect("127.0.0.8:4444"), Err(ErrorKind::PermissionDenied));
    assert_eq!(running.event().verdict, Verdict::Blocked);
}

#[test]
fn report_and_monitor_let_pass_and_tell() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().block_ip("127.0.0.9").add(
        Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 10)),
        Action::Report,
        None,
    );
    let mut running = sandbox.start(Mode::Enforce, rules);
    assert_eq!(connect("127.0.0.10:9"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(running.event().verdict, Verdict::Reported);
    running.configure(Mode::Monitor);
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(running.event().verdict, Verdict::WouldBlock);
    running.configure(Mode::Enforce);
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::PermissionDenied));
    assert_eq!(running.kernel.counters().unwrap().get(Counter::Reported), 2);
}

#[test]
fn the_kernel_holds_to_expiries_and_to_the_break_glass() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default());
    // Longer each time until this machine is quick enough to see both sides of the end.
    let expires = [2, 8, 32].into_iter().zip(2..).any(|(seconds, generation)| {
        let soon = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let address = Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 9));
        running.publish(generation, Rules::default().add(address, Action::Block, Some(soon)));
        let refused = connect("127.0.0.9:9");
        let in_time = Timestamp::now() < soon;
        assert!(!in_time || refused == Err(ErrorKind::PermissionDenied), "{refused:?}");
        // Expiries are whole seconds.
        std::thread::sleep(Duration::try_from(soon.duration_since(Timestamp::now())).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::ConnectionRefused));
        in_time
    });
    assert!(expires, "this machine takes 32 s for a connect");

    running.publish(9, Rules::default().block_ip("127.0.0.9"));
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::PermissionDenied));
    let mut switches = running.kernel.switches().unwrap();
    let off_for = |switches: &mut agent::kernel::Switches, ns: u64| {
        switches.off_until_boot_ns = agent::kernel::clock::boot_ns().unwrap() + ns;
        running.kernel.configure(switches).unwrap();
    };
    off_for(&mut switches, 3_600_000_000_000);
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::ConnectionRefused));
    off_for(&mut switches, 200_000_000);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::PermissionDenied));
}

#[test]
fn without_an_image_everything_passes_and_is_counted() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.load();
    running.configure(Mode::Enforce);
    running.attach();
    assert_eq!(connect("127.0.0.9:9"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NoImage), 1);
    assert!(running.kernel.mapped_image().is_err());
}
