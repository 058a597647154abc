//! The second layer where LSM programs are called: what no cgroup hook is asked about.

use std::net::{SocketAddr, TcpListener, TcpStream};

use agent::event::{Action as Did, Behaviour, Hook, Verdict};
use agent::kernel::Bprm;
use agent::kernel::SocketRules;
use agent::kernel::probe::{plan, probe};
use agent_common::image::Action;
use agent_common::wire::Mode;

use crate::layers::{REFUSED, refusal};
use crate::sandbox::{Rules, Running, Sandbox, destination};
use crate::sockets::*;

/// Starts with the LSM layer, or says why the test cannot run.
fn start(sandbox: &Sandbox, name: &str, mode: Mode) -> Option<Running> {
    if plan(&probe()).bprm == Bprm::None {
        println!("NOT RUN {name}: this kernel calls no LSM program");
        return None;
    }
    let mut running = sandbox.load_with(|options| options.layers.lsm = true);
    running.configure(mode);
    running.publish(1, Rules::default().block_ip("127.0.0.9"));
    running.attach();
    for hook in [Hook::SocketConnect, Hook::SocketSendmsg, Hook::SocketCreate] {
        assert!(running.report.is_attached(hook), "{hook:?}: {:?}", running.report.state(hook));
    }
    Some(running)
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 9)
}

#[test]
fn a_socket_made_outside_of_the_cgroup_and_used_inside_is_judged() {
    let sandbox = Sandbox::new();
    let name = "a_socket_made_outside_of_the_cgroup_and_used_inside_is_judged";
    let Some(mut running) = start(&sandbox, name, Mode::Enforce) else { return };
    let (tcp, udp) =
        sandbox.outside(|| (socket(AF_INET, SOCK_STREAM, 0).unwrap(), socket(AF_INET, SOCK_DGRAM, 0).unwrap()));
    assert_eq!(refusal(connect(&tcp, at("127.0.0.9"))), REFUSED);
    let event = running.event();
    assert_eq!((event.hook, event.verdict), (Hook::SocketConnect, Verdict::Blocked));
    assert_eq!((destination(&event), event.task.key.pid), (("127.0.0.9".parse().unwrap(), 9), std::process::id()));
    assert_eq!(refusal(send(&udp, b"x", Some(at("127.0.0.9")), None)), REFUSED);
    assert_eq!(running.event().hook, Hook::SocketSendmsg);
    assert_eq!(running.counted(1), 2);
    assert_eq!(refusal(send(&udp, b"x", Some(at("127.0.0.8")), None)), None);
    // Outside nothing is judged.
    sandbox.outside(|| assert_eq!(refusal(send(&udp, b"x", Some(at("127.0.0.9")), None)), None));
    assert!(running.events().is_empty());
}

#[test]
fn what_cgroup_hooks_see_is_theirs_alone() {
    let sandbox = Sandbox::new();
    let Some(mut running) = start(&sandbox, "what_cgroup_hooks_see_is_theirs_alone", Mode::Monitor) else { return };
    let listener = TcpListener::bind("127.0.0.9:0").unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    assert_eq!((running.event().hook, running.counted(1)), (Hook::Connect4, 1));
    let udp = socket(AF_INET, SOCK_DGRAM, 0).unwrap();
    send(&udp, b"x", Some(at("127.0.0.9")), None).unwrap();
    assert_eq!((running.event().hook, running.counted(1)), (Hook::Sendmsg4, 2));
}

#[test]
fn raw_sends_are_told_by_the_call_and_not_by_the_packet_again() {
    let sandbox = Sandbox::new();
    let name = "raw_sends_are_told_by_the_call_and_not_by_the_packet_again";
    let Some(mut running) = start(&sandbox, name, Mode::Monitor) else { return };
    let icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP).unwrap();
    send(&icmp, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0], Some(at("127.0.0.9")), None).unwrap();
    assert_eq!((running.event().hook, running.counted(1)), (Hook::SocketSendmsg, 1));
    running.configure(Mode::Enforce);
    assert_eq!(refusal(connect(&icmp, at("127.0.0.9"))), REFUSED);
    assert_eq!((running.event().hook, running.counted(1)), (Hook::SocketConnect, 2));
}

#[test]
fn packet_sockets_are_refused_reported_or_let_pass_as_the_settings_say() {
    let sandbox = Sandbox::new();
    let name = "packet_sockets_are_refused_reported_or_let_pass_as_the_settings_say";
    let Some(mut running) = start(&sandbox, name, Mode::Enforce) else { return };
    for (rule, refused, verdict) in [
        (Action::Block, REFUSED, Some(Verdict::Blocked)),
        (Action::Report, None, Some(Verdict::Reported)),
        (Action::Allow, None, None),
    ] {
        running.configure_with(
            Mode::Enforce,
            SocketRules { source_routes: Action::Allow, raw_sockets: rule, ..SocketRules::default() },
        );
        const ETH_P_IP: u16 = 0x0800;
        let made = socket(AF_PACKET, SOCK_RAW, i32::from(ETH_P_IP.to_be()));
        assert_eq!(refusal(made), refused, "{rule:?}");
        let told: Vec<_> = running.events();
        assert_eq!(told.first().map(|event| event.verdict), verdict, "{rule:?}");
        if let Some(event) = told.first() {
            assert_eq!(
                (event.hook, event.matched.unwrap().behaviour()),
                (Hook::SocketCreate, Some(Behaviour::RawSocket))
            );
            assert_eq!(event.action, Did::Socket { family: 17, protocol: ETH_P_IP, socket_type: 3 });
        }
        running.kernel.take_folds().unwrap();
    }
}
