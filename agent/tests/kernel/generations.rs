//! A switch of generations under load.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agent_common::wire::Mode;

use crate::sandbox::{Rules, Sandbox, StopOnDrop};

#[test]
fn no_connect_is_misjudged_while_generations_change() {
    const SWAPS: u32 = 60;
    let sandbox = Sandbox::new();
    let both = || Rules::default().block_ip("127.0.0.9");
    let mut running = sandbox.start(Mode::Enforce, both().block_ip("127.0.1.1"));
    let (stop, judged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let blocked = socket.connect("127.0.0.9:53").map_err(|error| error.kind());
                    assert_eq!(blocked, Err(ErrorKind::PermissionDenied), "listed in both generations");
                    assert!(socket.connect("127.0.0.8:53").is_ok(), "listed in neither");
                    judged.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        for generation in 2..2 + SWAPS {
            let mut rules = both();
            for last in 1..=(generation % 200) {
                rules = rules.block_ip(&format!("127.{}.2.{last}", generation % 3));
            }
            running.publish(generation, rules);
        }
    });
    let judged = judged.into_inner();
    assert!(judged > u64::from(SWAPS) * 10, "too few connects to mean anything");
    println!("MEASURED {SWAPS} switches, {judged} connects, 0 misjudged");
    let image = running.kernel.mapped_image().unwrap();
    assert_eq!(image.generation(), Ok(1 + SWAPS));
    assert_eq!(&**image, running.tables.as_ref().unwrap().image.as_slice());
    assert!(running.kernel.forget_hits_before(1 + SWAPS).unwrap() >= 1);
    assert_eq!(running.counted(1), 0);
}
