//! An agent of its own for each test: temporary root, own cgroup, own pins; all gone when it is dropped, whatever happened.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The whole test process moves into the sandbox's cgroup, so there is one sandbox at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub const CORDON: &str = env!("CARGO_BIN_EXE_cordon");

pub struct Sandbox {
    pub root: TempDir,
    pub cgroup: PathBuf,
    agent: Option<Child>,
    /// Where this process came from, and that no other test is in a sandbox; `None` for a second agent.
    home: Option<(PathBuf, MutexGuard<'static, ()>)>,
}

/// The mount point of the cgroup2 hierarchy.
pub fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    PathBuf::from(line.expect("these tests need a cgroup2 mount").split(' ').nth(1).unwrap())
}

impl Sandbox {
    /// A root with `settings` in its `cordon.toml`, and this process inside the sandbox's cgroup.
    pub fn new(settings: &str) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sandbox = Self::without_us(settings, "");
        let mount = cgroup2();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        fs::write(sandbox.cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        sandbox.home = Some((mount.join(own), turn));
        sandbox
    }

    /// A second agent beside one of [`Sandbox::new`]; this process is not in its cgroup, see [`Sandbox::is_blocked_inside`].
    pub fn second(settings: &str) -> Self {
        Self::without_us(settings, "-second")
    }

    fn without_us(settings: &str, suffix: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/cordon/intel.d")).unwrap();
        fs::write(root.path().join("etc/cordon/cordon.toml"), settings).unwrap();
        let cgroup = cgroup2().join(format!("cordon-test-{}{suffix}", std::process::id()));
        fs::create_dir_all(&cgroup).expect("these tests need root: run them with `cargo xtask test`");
        Self { root, cgroup, agent: None, home: None }
    }

    /// Whether a program in the sandbox's cgroup fails to connect with `EPERM`; nobody listens there.
    pub fn is_blocked_inside(&self, address: &str, port: u16) -> bool {
        let script = format!("echo $$ >{}/cgroup.procs; exec 3<>/dev/tcp/{address}/{port}", self.cgroup.display());
        let output = Command::new("bash").args(["-c", &script]).env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Operation not permitted") || said.contains("Connection refused"), "{said}");
        said.contains("Operation not permitted")
    }

    /// Adds intelligence to the watched directory.
    pub fn intel(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root.path().join("etc/cordon/intel.d").join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts the agent and waits until it is ready.
    pub fn start(&mut self) {
        self.start_program(Path::new(CORDON));
    }

    /// The same from another file than the one that was built.
    pub fn start_program(&mut self, program: &Path) {
        let log = fs::File::create(self.root.path().join("agent.log")).unwrap();
        let agent = Command::new(program)
            .args(["run", "--root"])
            .arg(self.root.path())
            .arg("--cgroup")
            .arg(&self.cgroup)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(agent);
        self.wait_for("the agent to be ready", |sandbox| {
            if let Some(status) = sandbox.agent.as_mut().unwrap().try_wait().unwrap() {
                panic!("the agent ended with {status}:\n{}", sandbox.agent_log());
            }
            let status = sandbox.cordon(&["status", "--json"]);
            status.status.success().then_some(())
        });
    }

    /// What the agent said on standard error.
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.root.path().join("agent.log")).unwrap_or_default()
    }

    /// The agent's process id.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Kills the agent as `kill -9` does.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Stops the agent as systemd does, and gives its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().unwrap();
        signal(agent.id(), "TERM");
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = agent.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                agent.kill().unwrap();
                agent.wait().unwrap();
                panic!("the agent did not stop within 20 s:\n{}", self.agent_log());
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Runs a verb against this sandbox.
    pub fn cordon(&self, arguments: &[&str]) -> Output {
        Command::new(CORDON).arg("--root").arg(self.root.path()).args(arguments).output().unwrap()
    }

    /// Runs a verb that must succeed and print one JSON document.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cordon(arguments);
        assert!(
            output.status.success(),
            "cordon {arguments:?}: {}\n{}\nagent:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.agent_log()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// All records, oldest first.
    pub fn log(&self, filters: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["log", "-o", "json", "--limit", "100000"];
        arguments.extend(filters);
        let output = self.cordon(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the first record that `wanted` accepts.
    pub fn record(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(what, |sandbox| sandbox.log(&[]).into_iter().find(|record| wanted(record)))
    }

    /// Polls for at most three minutes: under emulation an agent alone takes many seconds to start.
    pub fn wait_for<T>(&mut self, what: &str, mut poll: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(180);
        loop {
            if let Some(value) = poll(self) {
                return value;
            }
            assert!(Instant::now() < end, "waited 180 s for {what}; the agent said:\n{}", self.agent_log());
            sleep(Duration::from_millis(50));
        }
    }

    /// How execs are judged, as `cordon status` says.
    pub fn exec_path(&self) -> String {
        self.json(&["status", "--json"])["exec"].as_str().unwrap().to_owned()
    }

    /// A copy of `/bin/true`, see [`Self::copy_of`].
    pub fn program(&self, name: &str) -> (PathBuf, String) {
        self.copy_of("/bin/true", name)
    }

    /// A copy of a program that no other file has the contents of, and its SHA-256.
    pub fn copy_of(&self, program: &str, name: &str) -> (PathBuf, String) {
        let path = self.root.path().join(name);
        let mut bytes = fs::read(program).unwrap();
        bytes.extend_from_slice(format!("{name} {}", self.root.path().display()).as_bytes());
        fs::write(&path, bytes).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&path, permissions).unwrap();
        let digest = sha256(&path);
        (path, digest)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
        // Without an agent this removes the pins; a test may have removed them already.
        self.cordon(&["off", "--reason", "the test is over"]);
        if let Some((home, _)) = &self.home {
            fs::write(home.join("cgroup.procs"), std::process::id().to_string()).ok();
        }
        // Killed children leave the cgroup a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// Polls for at most a minute.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "waited 60 s for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success());
}

/// SHA-256 of a file as `sha256sum` prints it.
pub fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// A listener on `address` and a connect to it: what the program that connects sees.
pub fn connect(address: &str) -> io::Result<()> {
    let address: SocketAddr = address.parse().unwrap();
    let listener = TcpListener::bind(address)?;
    let mut stream = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5))?;
    drop(listener.accept()?);
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Whether the operation failed with `EPERM`, as a block does.
pub fn is_blocked<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(1))
}

/// Tells the threads of a scope to stop, even when what they watch panics: the scope waits for them.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
