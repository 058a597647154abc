//! What a process under enforcement does in the demonstration.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process;
use std::time::Duration;

use anyhow::{Result, bail};

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
