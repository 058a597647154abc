//! Packages from PyPI, and servers that run from them on loopback.

#[path = "python/venv.rs"]
pub mod venv;

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use url::Url;

/// The versions that `python/NAME.txt` pins, installed once; `None` where pip cannot, which is said.
pub fn environment(test: &str, name: &str) -> Option<PathBuf> {
    venv::install(name).map_err(|why| println!("NOT RUN {test}: {why}")).ok()
}

/// A server, stopped when dropped.
pub struct Server {
    child: Child,
    /// Its files.
    pub directory: TempDir,
    /// Its address.
    pub url: Url,
}

impl Server {
    /// Runs what `command` makes of a directory and a free port, and waits until it listens.
    pub fn start(command: impl Fn(&Path, u16) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = command(directory.path(), port);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}/taxii2/").parse().unwrap();
        let mut server = Self { child, directory, url };
        let end = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{ended:?}: {}", server.log());
            sleep(Duration::from_millis(100));
        }
        server
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A file with the password `pw` that only we can read.
    pub fn password(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join("password");
        fs::write(&path, "pw\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that was free a moment ago and is given once only by this process.
fn free_port() -> u16 {
    static GIVEN: OnceLock<std::sync::Mutex<Vec<u16>>> = OnceLock::new();
    let mut given = GIVEN.get_or_init(Default::default).lock().unwrap();
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}

/// medallion 3.0.0 with what `data` says below the API root `intel`; `None` where it cannot be installed.
pub fn medallion(test: &str, data: impl Fn(&Url) -> serde_json::Value) -> Option<Server> {
    let environment = environment(test, "medallion")?;
    Some(Server::start(|directory, port| {
        let root: Url = format!("http://127.0.0.1:{port}/intel/").parse().unwrap();
        let discovery = serde_json::json!({ "title": "a test", "default": root, "api_roots": [root] });
        let everything = serde_json::json!({ "/discovery": discovery, "intel": data(&root) });
        fs::write(directory.join("data.json"), everything.to_string()).unwrap();
        let config = serde_json::json!({
            "backend": { "module": "medallion.backends.memory_backend", "module_class": "MemoryBackend",
                         "filename": directory.join("data.json") },
            "users": { "agent": "pw" }, "taxii": { "max_page_size": 100 },
        });
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        let mut command = Command::new(environment.join("bin/medallion"));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]).arg(directory.join("config.json"));
        command
    }))
}

/// An API root of medallion with these collections.
pub fn root(collections: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "information": { "title": "intel", "description": "a test", "max_content_length": 9_765_625,
                         "versions": ["application/taxii+json;version=2.1"] },
        "status": [], "collections": collections,
    })
}

/// A collection of medallion whose objects were all added at one time.
pub fn collection(title: &str, can_write: bool, objects: &[serde_json::Value]) -> serde_json::Value {
    let manifest: Vec<_> = objects
        .iter()
        .map(|object| {
            let version = object.get("modified").or(object.get("created")).unwrap();
            serde_json::json!({ "id": object["id"], "date_added": "2026-05-01T00:00:00.000000Z", "version": version,
                                "media_type": "application/stix+json;version=2.1" })
        })
        .collect();
    serde_json::json!({
        "id": uuid::Uuid::new_v4().to_string(), "title": title, "description": "a test", "can_read": true, "can_write": can_write,
        "media_types": ["application/stix+json;version=2.1"], "objects": objects, "manifest": manifest,
    })
}
