//! Flows that are open before their other end becomes an indicator. All of them stay idle unless a test says otherwise: a packet
//! would be the egress hook's to judge.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use agent::kernel::sock_diag;
use serde_json::Value;

use crate::network::settings;
use crate::sandbox::{Sandbox, cgroup2};
use crate::sockets::{AF_INET, SOCK_DGRAM, SOCK_STREAM, bind, connect, socket};

/// Long enough for a search that a new generation started, and for the records of what it did.
const SEARCHED: Duration = Duration::from_secs(3);

/// Both ends of a connection.
struct Connection {
    here: TcpStream,
    there: TcpStream,
    /// The other end's.
    port: u16,
}

impl Connection {
    fn new(here: TcpStream, there: TcpStream) -> Self {
        for end in [&here, &there] {
            end.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        }
        let port = here.peer_addr().unwrap().port();
        Self { here, there, port }
    }

    /// To a listener at `address`, which is closed again.
    fn to(address: &str) -> Self {
        Self::spelt(address, address)
    }

    /// The same, by another spelling of the address.
    fn spelt(address: &str, spelling: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let here = TcpStream::connect((spelling, listener.local_addr().unwrap().port())).unwrap();
        let (there, _) = listener.accept().unwrap();
        Self::new(here, there)
    }

    /// What `here` reads next when it was closed from outside.
    fn assert_closed(&mut self) {
        let read = self.here.read(&mut [0; 1]);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }

    /// Sends a byte each way.
    fn assert_open(&self) {
        for (mut from, mut to) in [(&self.here, &self.there), (&self.there, &self.here)] {
            from.write_all(b"x").unwrap();
            to.read_exact(&mut [0; 1]).unwrap();
        }
    }
}

/// Whether this kernel lists flows, without which there is nothing to test.
fn lists(test: &str) -> bool {
    let lists = |transport| sock_diag::SockDiag::open()?.flows(transport, |_| {});
    let listed = sock_diag::Transport::ALL.into_iter().try_for_each(lists);
    if let Err(error) = &listed {
        println!("NOT RUN {test}: {error}");
    }
    listed.is_ok()
}

/// Whether this kernel closes flows; where it does not, only what is said of them is tested.
fn closes(test: &str) -> bool {
    let closes = sock_diag::probe();
    if let Err(error) = &closes {
        println!("NOT RUN {test}: that flows are closed: this kernel closes none ({error}); they are to be reported");
    }
    closes.is_ok()
}

fn is_to(record: &Value, port: u16) -> bool {
    record["destination"]["port"] == port
}

fn count_to(sandbox: &Sandbox, port: u16) -> usize {
    sandbox.log(&[]).iter().filter(|record| is_to(record, port)).count()
}

/// Waits until a generation that changes nothing about any flow has been live for a while.
fn renew(sandbox: &mut Sandbox, name: &str) {
    let generation = |sandbox: &Sandbox| sandbox.json(&["status", "--json"])["generation"].as_u64().unwrap();
    let before = generation(sandbox);
    sandbox.intel(name, "192.0.2.77\n");
    sandbox.wait_for("another generation", |sandbox| (generation(sandbox) > before).then_some(()));
    sleep(SEARCHED);
}

#[test]
fn an_idle_connection_to_a_new_indicator_is_closed_and_the_record_says_whose_it_was() {
    if !lists("an_idle_connection_to_a_new_indicator_is_closed_and_the_record_says_whose_it_was") {
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let mut listed = Connection::to("127.7.7.7");
    let mut mapped = Connection::spelt("127.7.7.7", "::ffff:127.7.7.7");
    let control = Connection::to("127.7.7.8");
    sandbox.start();
    assert_eq!(sandbox.log(&[]).len(), 0, "nothing is listed yet");
    sandbox.intel("late.txt", "127.7.7.7\n");

    let expected = if closes("an_idle_connection_to_a_new_indicator_is_closed") {
        listed.assert_closed();
        mapped.assert_closed();
        // The reset goes to a listed address, and no packet does.
        listed.there.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert_eq!(listed.there.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        "blocked"
    } else {
        "reported"
    };
    for port in [listed.port, mapped.port] {
        let record = sandbox.record("the flow", |record| is_to(record, port));
        assert_eq!(record["kind"], "connect");
        assert_eq!(record["verdict"], expected);
        assert_eq!(record["enforced_by"], "live_flow");
        assert_eq!(record["destination"]["protocol"], "tcp");
        assert_eq!(record["indicator"]["value"], "127.7.7.7");
        assert_eq!(record["indicator"]["source"], "lab");
        assert_eq!(record["policy"]["rule"], "feeds.lab");
        assert_eq!(record["process"]["pid"], std::process::id());
        assert_eq!(record["process"]["exe"], std::env::current_exe().unwrap().to_str().unwrap());
        assert_eq!(record["process"]["args"][0], std::env::args().next().unwrap());
        assert_eq!(record["count"], 1);
    }
    sleep(SEARCHED);
    assert_eq!(sandbox.log(&[]).len(), 2, "one record a flow, none of its reset, none of the control");
    control.assert_open();
}

#[test]
fn a_flow_that_was_open_before_the_agent_is_closed_at_its_start() {
    if !lists("a_flow_that_was_open_before_the_agent_is_closed_at_its_start") {
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let mut listed = Connection::to("127.7.7.7");
    sandbox.intel("bundle.json", &crate::intelligence::attributed_bundle("[ipv4-addr:value = '127.7.7.7']"));
    sandbox.start();
    if closes("a_flow_that_was_open_before_the_agent_is_closed_at_its_start") {
        listed.assert_closed();
    }
    let record = sandbox.record("the flow", |record| record["enforced_by"] == "live_flow");
    assert_eq!(record["attribution"]["actors"][0], "Paper Heron");
}

#[test]
fn a_local_rule_closes_a_connected_udp_socket_and_an_endpoint_only_its_port() {
    if !lists("a_local_rule_closes_a_connected_udp_socket_and_an_endpoint_only_its_port") {
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let [peer, other] = [(); 2].map(|()| UdpSocket::bind("127.7.7.7:0").unwrap());
    let connected = |to: &UdpSocket| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(to.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket
    };
    let (listed, control) = (connected(&peer), connected(&other));
    sandbox.start();
    let endpoint = peer.local_addr().unwrap();
    sandbox.json(&["block", &endpoint.to_string(), "--reason", "test", "--json"]);
    let expected = if closes("a_local_rule_closes_a_connected_udp_socket") {
        assert_eq!(listed.recv(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        "blocked"
    } else {
        "reported"
    };
    let record = sandbox.record("the flow", |record| is_to(record, endpoint.port()));
    assert_eq!((&record["enforced_by"], &record["verdict"]), (&"live_flow".into(), &expected.into()));
    assert_eq!(record["destination"]["protocol"], "udp");
    assert_eq!(record["indicator"]["type"], "endpoint");
    assert_eq!(record["indicator"]["source"], "local");
    assert_eq!(record["process"]["pid"], std::process::id());
    sleep(SEARCHED);
    assert_eq!(sandbox.log(&[]).len(), 1);
    control.send(b"x").unwrap();
    assert_eq!(other.recv(&mut [0; 1]).unwrap(), 1);
}

/// Two UDP sockets with the same addresses, the later one outside of the cgroup: asked to close the earlier, the kernel finds
/// the later.
#[test]
fn what_the_kernel_does_not_close_is_reported_with_a_fault_that_says_so() {
    if !lists("what_the_kernel_does_not_close_is_reported_with_a_fault_that_says_so") {
        return;
    }
    const TEST: &str = "what_the_kernel_does_not_close_is_reported_with_a_fault_that_says_so";
    const SCRIPT: &str = "
import os, socket, sys
with open(sys.argv[1], 'w') as procs:
    procs.write(str(os.getpid()))
twin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
twin.bind(('127.0.0.1', int(sys.argv[2])))
twin.connect(('127.7.7.7', int(sys.argv[3])))
print('connected', flush=True)
twin.recv(1)
";
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let peer = UdpSocket::bind("127.7.7.7:0").unwrap();
    let earlier = socket(AF_INET, SOCK_DGRAM, 0).unwrap();
    rustix::net::sockopt::set_socket_reuseport(&earlier, true).unwrap();
    bind(&earlier, "127.0.0.1:0".parse().unwrap()).unwrap();
    let earlier = UdpSocket::from(earlier);
    earlier.connect(peer.local_addr().unwrap()).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).arg(cgroup2().join("cgroup.procs"));
    command.args([&earlier, &peer].map(|socket| socket.local_addr().unwrap().port().to_string()));
    let Ok(child) = command.stdout(Stdio::piped()).spawn() else {
        println!("NOT RUN {TEST}: python3 is needed");
        return;
    };
    let mut later = ChildGuard(child);
    assert_eq!(BufReader::new(later.0.stdout.take().unwrap()).lines().next().unwrap().unwrap(), "connected");
    sandbox.start();
    sandbox.intel("late.txt", "127.7.7.7\n");
    let record = sandbox.record("the flow", |record| record["enforced_by"] == "live_flow");
    assert_eq!(record["process"]["pid"], std::process::id());
    let faults = |sandbox: &Sandbox| sandbox.json(&["status", "--json"])["faults"].to_string();
    if earlier.peer_addr().is_err() {
        println!("NOT RUN {TEST}: this kernel finds the earlier of two UDP sockets");
        assert_eq!((&record["verdict"], faults(&sandbox).contains("C034")), (&"blocked".into(), false));
        return;
    }
    assert_eq!(record["verdict"], "reported");
    sandbox.wait_for("the fault", |sandbox| {
        let faults = faults(sandbox);
        (faults.contains("C034") && faults.contains("is not closed")).then_some(())
    });
    assert!(crate::sandbox::is_blocked(&earlier.send(b"x")), "the egress hook stops what it sends");
    sandbox.record("the datagram", |record| record["enforced_by"] == "cgroup_egress" && record["verdict"] == "blocked");
    assert!(later.0.try_wait().unwrap().is_none());
}

#[test]
fn what_is_only_reported_stays_open_and_is_told_once_however_many_generations_come() {
    if !lists("what_is_only_reported_stays_open_and_is_told_once_however_many_generations_come") {
        return;
    }
    for (mode, action, verdict) in [("enforce", "report", "reported"), ("monitor", "block", "would_block")] {
        let mut sandbox = Sandbox::new(&settings(mode, action));
        let old = Connection::to("127.7.7.7");
        sandbox.start();
        sandbox.intel("late.txt", "127.7.7.7\n");
        let record = sandbox.record("the flow", |record| is_to(record, old.port));
        assert_eq!((&record["enforced_by"], &record["verdict"]), (&"live_flow".into(), &verdict.into()));
        // The egress hook knows that this was told.
        old.assert_open();
        // The connect hook tells of this one, and the search knows that.
        let new = Connection::to("127.7.7.7");
        sandbox.record("the connect", |record| is_to(record, new.port));
        for round in 0..2 {
            renew(&mut sandbox, &format!("other-{round}.txt"));
            old.assert_open();
            new.assert_open();
        }
        sleep(SEARCHED);
        assert_eq!((count_to(&sandbox, old.port), count_to(&sandbox, new.port)), (1, 1), "{:?}", sandbox.log(&[]));
    }
}

#[test]
fn a_flow_that_no_process_holds_any_more_is_told_once_and_of_nobody() {
    if !lists("a_flow_that_no_process_holds_any_more_is_told_once_and_of_nobody") {
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "report"));
    let Connection { mut here, there, port } = Connection::to("127.7.7.7");
    here.set_nonblocking(true).unwrap();
    while here.write(&[0; 4096]).is_ok() {}
    // What the other end does not read keeps the connection: the kernel is to send it still.
    drop(here);
    sandbox.start();
    sandbox.intel("late.txt", "127.7.7.7\n");
    let is_found = |record: &Value| record["enforced_by"] == "live_flow" && is_to(record, port);
    let record = sandbox.record("the flow", is_found);
    assert_eq!((&record["process"], &record["verdict"]), (&Value::Null, &"reported".into()));
    for round in 0..2 {
        renew(&mut sandbox, &format!("other-{round}.txt"));
    }
    assert_eq!(sandbox.log(&[]).iter().filter(|record| is_found(record)).count(), 1);
    drop(there);
}

#[test]
fn a_change_to_enforce_closes_what_was_let_pass() {
    if !lists("a_change_to_enforce_closes_what_was_let_pass") {
        return;
    }
    let mut sandbox = Sandbox::new(&settings("monitor", "block"));
    let mut listed = Connection::to("127.7.7.7");
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    sandbox.record("the flow", |record| record["verdict"] == "would_block");
    fs::write(sandbox.root.path().join("etc/cordon/cordon.toml"), settings("enforce", "block")).unwrap();
    assert!(sandbox.cordon(&["reload"]).status.success());
    if closes("a_change_to_enforce_closes_what_was_let_pass") {
        listed.assert_closed();
        sandbox.record("the closing", |record| record["verdict"] == "blocked" && is_to(record, listed.port));
    }
}

#[test]
fn nothing_is_closed_while_the_agent_is_switched_off() {
    if !lists("nothing_is_closed_while_the_agent_is_switched_off") {
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let mut listed = Connection::to("127.7.7.7");
    sandbox.start();
    sandbox.json(&["off", "--for", "10m", "--reason", "test", "--json"]);
    sandbox.intel("late.txt", "127.7.7.7\n");
    sleep(SEARCHED);
    listed.assert_open();
    sandbox.json(&["on", "--json"]);
    if closes("nothing_is_closed_while_the_agent_is_switched_off") {
        listed.assert_closed();
    }
}

#[test]
fn what_is_allowed_or_outside_of_the_cgroup_is_left_alone() {
    const NAME: &str = "what_is_allowed_or_outside_of_the_cgroup_is_left_alone";
    if !lists(NAME) {
        return;
    }
    if Command::new("bash").arg("--version").output().is_err() {
        println!("NOT RUN {NAME}: bash is needed");
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let allowed = Connection::to("127.7.7.7");
    let listener = TcpListener::bind("127.8.8.8:0").unwrap();
    let script = format!(
        "echo $$ >{}/cgroup.procs; exec 3<>/dev/tcp/127.8.8.8/{}; read -u 3",
        cgroup2().display(),
        listener.local_addr().unwrap().port()
    );
    let mut outside = ChildGuard(Command::new("bash").args(["-c", &script]).spawn().unwrap());
    let (mut stranger, _) = listener.accept().unwrap();
    drop(listener);
    let mut listed = Connection::to("127.8.8.8");
    sandbox.start();
    sandbox.json(&["allow", "127.7.7.7", "--json"]);
    sandbox.intel("late.txt", "127.7.0.0/16\n127.7.7.7\n127.8.8.8\n");
    sandbox.record("the flow inside", |record| is_to(record, listed.port));
    if closes("what_is_allowed_or_outside_of_the_cgroup_is_left_alone") {
        listed.assert_closed();
    }
    sleep(SEARCHED);
    assert_eq!(sandbox.log(&[]).len(), 1, "{:?}", sandbox.log(&[]));
    allowed.assert_open();
    assert!(outside.0.try_wait().unwrap().is_none(), "its connection was closed");
    stranger.write_all(b"over\n").unwrap();
    assert!(outside.0.wait().unwrap().success(), "it read what was sent to it");
}

#[test]
fn a_connection_that_the_other_end_began_is_judged_by_inbound() {
    if !lists("a_connection_that_the_other_end_began_is_judged_by_inbound") {
        return;
    }
    for (inbound, expected) in [("report", Some("reported")), ("ignore", None), ("block", Some("blocked"))] {
        let mut sandbox = Sandbox::new(&(settings("enforce", "block") + &format!("inbound = \"{inbound}\"\n")));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = socket(AF_INET, SOCK_STREAM, 0).unwrap();
        bind(&client, "127.7.7.7:0".parse().unwrap()).unwrap();
        connect(&client, listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut connection = Connection::new(accepted, client.into());
        sandbox.start();
        sandbox.intel("late.txt", "127.7.7.7\n");
        let closes = closes("a_connection_that_the_other_end_began_is_judged_by_inbound");
        if let Some(expected) = expected {
            let expected = if closes { expected } else { "reported" };
            let record = sandbox.record("the flow", |record| record["enforced_by"] == "live_flow");
            assert_eq!((&record["kind"], &record["verdict"]), (&"accept".into(), &expected.into()), "{inbound}");
            assert!(record["local_port"] == port && is_to(&record, connection.port), "{inbound}: {record}");
        }
        if inbound == "block" {
            if closes {
                connection.assert_closed();
            }
        } else {
            renew(&mut sandbox, "other.txt");
            // The egress hook knows that the other end began.
            connection.assert_open();
        }
        sleep(SEARCHED);
        assert_eq!(sandbox.log(&[]).len(), usize::from(expected.is_some()), "{inbound}: {:?}", sandbox.log(&[]));
    }
}

#[test]
fn flows_in_other_network_namespaces_are_found_ipv6_as_well() {
    if !lists("flows_in_other_network_namespaces_are_found_ipv6_as_well") {
        return;
    }
    const TEST: &str = "flows_in_other_network_namespaces_are_found_ipv6_as_well";
    const SCRIPT: &str = "
import fcntl, socket, struct
lo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(lo, 0x8914, struct.pack('16sh22x', b'lo', 1))  # SIOCSIFFLAGS, IFF_UP
listener = socket.socket(socket.AF_INET6)
listener.bind(('::1', 0))
listener.listen()
here = socket.create_connection(listener.getsockname()[:2], timeout=60)
there, _ = listener.accept()
listener.close()
print(here.getpeername()[1], flush=True)
try:
    here.recv(1)
except OSError as error:
    print(type(error).__name__, flush=True)
";
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "python3", "-c", script]).stdin(Stdio::null());
        command
    };
    if !unshared("import socket").status().is_ok_and(|status| status.success()) {
        println!("NOT RUN {TEST}: unshare and python3 are needed");
        return;
    }
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    let mut child = ChildGuard(unshared(SCRIPT).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let port: u16 = said.next().unwrap().unwrap().parse().unwrap();
    sandbox.start();
    sandbox.intel("late.txt", "::1\n");
    let record = sandbox.record("the flow", |record| is_to(record, port));
    assert_eq!((&record["enforced_by"], &record["indicator"]["value"]), (&"live_flow".into(), &"::1".into()));
    assert_eq!(record["process"]["pid"], child.0.id());
    if closes(TEST) {
        assert_eq!(record["verdict"], "blocked");
        assert_eq!(said.next().unwrap().unwrap(), "ConnectionAbortedError");
    }
}

/// A process that ends with the test.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
