//! What a process under enforcement does in the demonstration, and what it connects to.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Exit status of an act that the kernel forbade.
pub const FORBIDDEN: i32 = 77;

/// One act.
#[derive(clap::Args)]
pub struct Arguments {
    /// Address and port to connect to
    #[arg(long)]
    connect: SocketAddr,
}

/// Connects; EPERM is told by the exit status, any other failure is an error.
pub fn run(arguments: &Arguments) -> Result<()> {
    match TcpStream::connect_timeout(&arguments.connect, Duration::from_secs(3)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => process::exit(FORBIDDEN),
        Err(error) => bail!("connecting to {}: {error}", arguments.connect),
    }
}

/// Where to listen.
#[derive(clap::Args)]
pub struct ListenArguments {
    #[arg(long)]
    port: u16,
}

/// Accepts connections and closes them, until it is ended.
pub fn listen(arguments: &ListenArguments) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, arguments.port)).context("cannot listen")?;
    for connection in listener.incoming() {
        connection.context("cannot accept")?;
    }
    Ok(())
}
