//! A process in a real host's cgroup that tries to connect until the kernel refuses it.

use std::fs;
use std::io::{BufRead, ErrorKind, Write, stdin, stdout};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(1);
/// Which port does not matter: a connect of a datagram socket sends nothing.
const PORT: u16 = 9;

/// Moves this process into `cgroup`, reads an address a line, and prints when a connect to it was let pass first (`passed ADDRESS
/// NANOSECONDS`) and when it was refused (`refused ADDRESS NANOSECONDS`). Ends with its input, or with the process that started it.
pub fn run(cgroup: &Path) -> Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, process::id().to_string()).with_context(|| format!("cannot write {}", file.display()))?;
    // A socket belongs to the cgroup in which it was made.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot make a socket")?;
    for line in stdin().lock().lines() {
        let address: Ipv4Addr = line?.parse().context("the bench gave no address")?;
        try_until_refused(&socket, address)?;
    }
    Ok(())
}

fn try_until_refused(socket: &UdpSocket, address: Ipv4Addr) -> Result<()> {
    let mut has_passed = false;
    loop {
        match socket.connect((address, PORT)) {
            Ok(()) if has_passed => {}
            Ok(()) => {
                has_passed = true;
                say("passed", address)?;
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return say("refused", address),
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {address}")),
        }
        sleep(PAUSE);
    }
}

fn say(what: &str, address: Ipv4Addr) -> Result<()> {
    let mut output = stdout().lock();
    writeln!(output, "{what} {address} {}", Timestamp::now().as_nanosecond())?;
    Ok(output.flush()?)
}
