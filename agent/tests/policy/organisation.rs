//! An organisation with its keys and a repository, by the command line alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub struct Organisation {
    pub dir: TempDir,
    tenant: &'static str,
}

impl Organisation {
    /// Has keys and no policy yet.
    pub fn new(tenant: &'static str) -> Self {
        Self::with_keys(tenant, &[])
    }

    pub fn with_keys(tenant: &'static str, arguments: &[&str]) -> Self {
        let organisation = Self { dir: tempfile::tempdir().unwrap(), tenant };
        let keys = organisation.keys();
        organisation.done(&[&["policy", "keygen", "-o", text(&keys)], arguments].concat());
        organisation
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn keys(&self) -> PathBuf {
        self.path("keys")
    }

    pub fn root(&self) -> PathBuf {
        self.path("keys/1.root.json")
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// `cordon`, whatever comes of it.
    pub fn cordon(&self, arguments: &[&str]) -> Output {
        // No settings of this machine are to be looked at.
        Command::new(env!("CARGO_BIN_EXE_cordon")).arg("--root").arg(self.dir.path()).args(arguments).output().unwrap()
    }

    /// `cordon` that must succeed, with `--json`.
    pub fn done(&self, arguments: &[&str]) -> Value {
        let output = self.cordon(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "cordon {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.starts_with(b"{\"schema\":1,"), "{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Writes the policy of group `web` and what comes with it.
    pub fn write(&self, serial: u64, rest: &str) -> PathBuf {
        let path = self.path("web.toml");
        let tenant = self.tenant;
        fs::write(&path, format!("schema = 1\ntenant = \"{tenant}\"\ngroup = \"web\"\nserial = {serial}\n{rest}"))
            .unwrap();
        path
    }

    /// Signs the policy of group `web`.
    pub fn sign(&self, serial: u64, rest: &str, more: &[&str]) -> Value {
        let file = self.write(serial, rest);
        let (keys, repository) = (self.keys(), self.repository());
        self.done(&[&["policy", "sign", text(&file), "--keys", text(&keys), "-o", text(&repository)], more].concat())
    }

    /// Says again that the policy is the latest.
    pub fn refresh(&self, latest_for: &str) -> Value {
        let (keys, repository) = (self.keys(), self.repository());
        self.done(&[
            "policy",
            "sign",
            "--refresh",
            "--keys",
            text(&keys),
            "-o",
            text(&repository),
            "--latest-for",
            latest_for,
        ])
    }

    /// What a host of group `web` says of a repository: the exit code, and the document.
    pub fn verify(&self, from: &str, more: &[&str]) -> (i32, Value) {
        let root = self.root();
        let asked =
            ["policy", "verify", from, "--json", "--pin", text(&root), "--tenant", self.tenant, "--group", "web"];
        let output = self.cordon(&[&asked, more].concat());
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), document)
    }

    /// Asserts that a host refuses a repository for this reason, and says so on standard error too.
    pub fn refuses(&self, from: &Path, more: &[&str], reason: &str) -> Value {
        let (code, document) = self.verify(text(from), more);
        assert_eq!(
            (code, &document["valid"], document["reason"].as_str()),
            (3, &Value::from(false), Some(reason)),
            "{document}"
        );
        document
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The only file of a directory whose name ends so.
pub fn only(directory: &Path, end: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| text(path).ends_with(end))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
