//! OpenTAXII 0.9.3, which needs a script to set it up.

use std::path::Path;
use std::process::Command;

use crate::python::{Server, environment};

/// A server with the empty collections `feed` and `sightings`; `None` where it cannot be installed.
pub fn opentaxii(test: &str) -> Option<Server> {
    let environment = environment(test, "opentaxii")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/taxii/python/serve_opentaxii.py");
    Some(Server::start(|directory, port| {
        let mut command = Command::new(environment.join("bin/python"));
        command.arg(&script).arg(directory).arg(port.to_string());
        command
    }))
}
