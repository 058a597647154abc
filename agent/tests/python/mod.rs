//! Packages from PyPI in virtual environments below `target/`, for the tests that ask others what they think.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The versions that `tests/FOLDER/python/NAME.txt` pins, installed once; `None` where pip cannot, which is said.
pub fn environment(test: &str, folder: &str, name: &str) -> Option<PathBuf> {
    install(folder, name).map_err(|why| println!("NOT RUN {test}: {why}")).ok()
}

fn install(folder: &str, name: &str) -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let pins = tests.join(folder).join("python").join(name).with_extension("txt");
    let venvs = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venvs");
    let place = venvs.join(name);
    let failed = |error: std::io::Error| format!("{}: {error}", place.display());
    fs::create_dir_all(&venvs).map_err(failed)?;
    // Other test processes may want it, too.
    let lock = File::create(place.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let done = place.join("installed.txt");
    let wanted = fs::read(&pins).map_err(|error| format!("{}: {error}", pins.display()))?;
    if fs::read(&done).ok() != Some(wanted) {
        fs::remove_dir_all(&place).ok();
        run(Command::new("python3").args(["-m", "venv"]).arg(&place))
            .and_then(|_| {
                run(Command::new(place.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&pins))
            })
            .map_err(|why| format!("the packages of {} cannot be installed: {why}", pins.display()))?;
        fs::copy(&pins, &done).map_err(failed)?;
    }
    Ok(place)
}

/// What the command printed, or why it failed.
pub fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{command:?}: {}: {said}", output.status))
}
