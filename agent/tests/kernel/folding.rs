//! Nothing is lost and nothing is told twice.

use std::net::UdpSocket;

use agent_common::wire::Mode;

use crate::sandbox::{Rules, Sandbox};

#[test]
fn records_and_folds_are_the_count() {
    const THREADS: usize = 4;
    const TRIES: usize = 20_000;
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9").block_ip("127.0.0.10"));
    let (mut records, mut folded) = (0, 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    for index in 0..TRIES {
                        let to = if index % 3 == 0 { "127.0.0.9:53" } else { "127.0.0.10:53" };
                        assert!(socket.connect(to).is_err());
                    }
                })
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            records += running.events().len();
            folded += running.kernel.take_folds().unwrap().iter().map(|(_, fold)| fold.repeats).sum::<u64>();
        }
    });
    records += running.events().len();
    folded += running.kernel.take_folds().unwrap().iter().map(|(_, fold)| fold.repeats).sum::<u64>();
    let tried = (THREADS * TRIES) as u64;
    assert_eq!(running.counted(1), tried);
    assert_eq!(records as u64 + folded, tried);
    assert!((records as u64) < tried / 10, "{records} of {tried} were told one by one");
}

#[test]
fn what_a_dead_daemon_had_not_taken_the_next_one_takes() {
    const TRIES: u64 = 100;
    let sandbox = Sandbox::new();
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let try_often = || (0..TRIES).for_each(|_| assert!(socket.connect("127.0.0.9:53").is_err()));
    try_often();
    drop(running);
    try_often();
    let mut next = sandbox.load();
    next.attach();
    let folded = next.kernel.take_folds().unwrap();
    assert_eq!(folded.iter().map(|(_, fold)| fold.repeats).sum::<u64>(), 2 * TRIES - 1);
    assert_eq!(next.kernel.take_folds().unwrap(), []);
}
