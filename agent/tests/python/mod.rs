//! Packages from PyPI in virtual environments below `target/`, for the tests that ask others what they think.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The versions that `tests/FOLDER/python/NAME.txt` pins, installed once; `None` where pip cannot, which is said.
pub fn environment(test: &str, folder: &str, name: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder).join("python");
    let pins = here.join(name).with_extension("txt");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("venvs").join(name);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    // Other test processes may want it, too.
    let lock = File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let done = place.join("installed.txt");
    if fs::read(&done).ok() != Some(fs::read(&pins).unwrap()) {
        fs::remove_dir_all(&place).ok();
        let installed = run(Command::new("python3").args(["-m", "venv"]).arg(&place)).and_then(|_| {
            run(Command::new(place.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&pins))
        });
        if let Err(why) = installed {
            println!("NOT RUN {test}: the packages of {} cannot be installed: {why}", pins.display());
            return None;
        }
        fs::copy(&pins, &done).unwrap();
    }
    Some(place)
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
