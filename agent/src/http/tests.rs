use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::*;

/// A request as a [`Canned`] server got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// As sent.
    pub(crate) body: String,
}

impl Got {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A server on loopback that answers what its closure says; it ends when dropped.
pub(crate) struct Canned {
    address: SocketAddr,
    scheme: &'static str,
    got: Arc<Mutex<Vec<Got>>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// `status` with `headers` (each with its line end) and `body`.
pub(crate) fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Canned {
    /// Over plain HTTP.
    pub(crate) fn new(answer: impl Fn(&Got) -> Vec<u8> + Send + 'static) -> Self {
        Self::start("http", answer, |stream, answer| {
            let mut stream = stream;
            converse(&mut stream, answer);
        })
    }

    fn tls(config: Arc<ServerConfig>, answer: impl Fn(&Got) -> Vec<u8> + Send + 'static) -> Self {
        Self::start("https", answer, move |stream, answer| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            converse(&mut stream, answer);
            stream.conn.send_close_notify();
            stream.flush().ok();
        })
    }

    fn start(
        scheme: &'static str,
        answer: impl Fn(&Got) -> Vec<u8> + Send + 'static,
        serve: impl Fn(TcpStream, &mut dyn FnMut(Got) -> Vec<u8>) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let stop = Stop::default();
        let (kept, stopped) = (Arc::clone(&got), stop.clone());
        let thread = spawn(move || {
            for stream in listener.incoming() {
                if stopped.is_stopped() {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                serve(stream, &mut |request| {
                    kept.lock().unwrap().push(request.clone());
                    answer(&request)
                });
            }
        });
        Self { address, scheme, got, stop, thread: Some(thread) }
    }

    /// Its URL with that path.
    pub(crate) fn url(&self, path: &str) -> Url {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port()).parse().unwrap()
    }

    /// What it was asked so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.stop.stop();
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn converse(stream: &mut (impl Read + Write), answer: &mut dyn FnMut(Got) -> Vec<u8>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut piece) {
            Ok(length) if length > 0 => bytes.extend_from_slice(&piece[..length]),
            _ => return,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    while bytes.len() < head + 4 + length {
        match stream.read(&mut piece) {
            Ok(length) if length > 0 => bytes.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
    let body = String::from_utf8_lossy(&bytes[head + 4..]).into_owned();
    stream.write_all(&answer(Got { line, headers, body })).ok();
    stream.flush().ok();
}

pub(crate) const LIMITS: Limits = Limits { bytes: 1 << 20, time: Duration::from_secs(20) };

fn client(access: &Access, url: &Url) -> Client {
    Client::new(access, url, LIMITS, Stop::default()).unwrap()
}

fn get(client: &Client, url: &Url) -> Result<Vec<u8>, Error> {
    client.ask(url, &Ask { accept: "*/*", ..Ask::default() }, Answer::bytes)
}

#[test]
fn what_may_pass_is_asked_again_and_what_will_not_is_not() {
    for (status, expected) in [("503 x", 3), ("429 x", 3), ("502 x", 3), ("404 x", 1), ("401 x", 1), ("500 x", 1)] {
        let server = Canned::new(move |_| reply(status, "Retry-After: 0\r\n", ""));
        let url = server.url("/");
        let error = get(&client(&Access::default(), &url), &url).unwrap_err();
        assert!(error.to_string().contains(&status[..3]), "{error}");
        assert_eq!(server.got().len(), expected, "{status}");
    }
}

#[test]
fn a_retry_after_beyond_the_time_limit_is_not_waited_for_but_told() {
    let server = Canned::new(|_| reply("429 x", "Retry-After: 3600\r\n", "{\"title\": \"slow down\"}"));
    let url = server.url("/");
    let error = get(&client(&Access::default(), &url), &url).unwrap_err();
    assert!(error.to_string().ends_with("429 Too Many Requests: slow down"), "{error}");
    let Error::Status { retry_after, .. } = error else { panic!("{error}") };
    assert_eq!(retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(server.got().len(), 1);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    assert_eq!(retry::after("7"), Some(Duration::from_secs(7)));
    assert_eq!(retry::after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    assert!(retry::after("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(1 << 30));
    assert_eq!(retry::after("soon"), None);
}

#[test]
fn a_body_larger_than_the_limit_is_cut_off_also_when_it_is_small_before_decompression() {
    // gzip(1) of 64 MiB of zeros is some 64 KiB.
    let mut gzip = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let writer = spawn(move || input.write_all(&vec![0; 64 << 20]).unwrap());
    let bomb = gzip.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    assert!(bomb.len() < 1 << 17);
    let server = Canned::new(move |got| match got.line.as_str() {
        "GET /bomb" => reply("200 OK", "Content-Encoding: gzip\r\n", &bomb),
        _ => reply("200 OK", "", vec![0; 1 << 20]),
    });
    let url = server.url("/bomb");
    let error = get(&client(&Access::default(), &url), &url).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1_048_576, .. }), "{error}");
    let client = client(&Access::default(), &url);
    assert_eq!(get(&client, &server.url("/exact")).unwrap().len(), 1 << 20);
    let error = get(&client, &server.url("/exact")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "the limit holds for all of a conversation: {error}");
}

#[test]
fn a_server_that_drips_is_given_up_at_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let stop = Stop::default();
    let stopped = stop.clone();
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").unwrap();
        while !stopped.sleep(Duration::from_millis(50)) && stream.write_all(b"x").is_ok() {}
    });
    let limits = Limits { time: Duration::from_secs(1), ..LIMITS };
    let client = Client::new(&Access::default(), &url, limits, Stop::default()).unwrap();
    let error = get(&client, &url).unwrap_err();
    assert!(matches!(error, Error::TooSlow { .. }), "{error}");
    stop.stop();
    server.join().unwrap();
}

#[test]
fn whoever_waits_or_reads_is_stopped_at_once() {
    let server = Canned::new(|_| reply("503 x", "Retry-After: 15\r\n", ""));
    let url = server.url("/");
    let stop = Stop::default();
    let client = Client::new(&Access::default(), &url, LIMITS, stop.clone()).unwrap();
    let waiting = spawn({
        let url = url.clone();
        move || get(&client, &url)
    });
    while server.got().is_empty() {
        std::thread::yield_now();
    }
    stop.stop();
    assert!(matches!(waiting.join().unwrap().unwrap_err(), Error::Stopped));
}

#[test]
fn conditions_are_sent_and_an_unchanged_answer_is_no_error() {
    let server = Canned::new(|got| match (got.header("if-none-match"), got.header("if-modified-since")) {
        (Some("\"a\""), Some("Wed, 21 Oct 2015 07:28:00 GMT")) => reply("304 Not Modified", "ETag: \"a\"\r\n", ""),
        _ => reply("200 OK", "", "all"),
    });
    let url = server.url("/");
    let ask = Ask {
        accept: "text/plain",
        if_none_match: Some("\"a\""),
        if_modified_since: Some("Wed, 21 Oct 2015 07:28:00 GMT"),
        body: None,
    };
    let client = client(&Access::default(), &url);
    assert!(client.ask(&url, &ask, |answer| Ok(answer.is_unchanged())).unwrap());
    assert_eq!(server.got()[0].header("accept"), Some("text/plain"));
    assert!(server.got()[0].header("user-agent").unwrap().starts_with("cordon/"));
}

fn secret(directory: &TempDir, name: &str, text: &str, mode: u32) -> Credential {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    Credential::new(path.to_str().unwrap())
}

#[test]
fn credentials_go_to_the_origin_in_the_settings_and_nowhere_else() {
    let other = Canned::new(|_| reply("200 OK", "", "from the other"));
    let to = other.url("/x").to_string();
    let server = Canned::new(move |got| match got.line.as_str() {
        "GET /away" => reply("302 Found", &format!("Location: {to}\r\n"), ""),
        "GET /near" => reply("301 Moved", "Location: here\r\n", ""),
        "GET /secure" => reply("302 Found", "Location: https://localhost/\r\n", ""),
        "GET /loop" => reply("302 Found", "Location: /loop\r\n", ""),
        "POST /away" => reply("307 x", &format!("Location: {to}\r\n"), ""),
        "POST /near" => reply("308 x", "Location: here\r\n", ""),
        "POST /get" => reply("303 x", "Location: here\r\n", ""),
        _ => reply("200 OK", "", "here"),
    });
    let directory = tempfile::tempdir().unwrap();
    let access = Access {
        username: Some("agent".to_owned()),
        password: Some(secret(&directory, "password", "pw\n", 0o600)),
        ..Access::default()
    };
    let client = client(&access, &server.url("/"));
    assert_eq!(get(&client, &server.url("/near")).unwrap(), b"here");
    assert!(server.got().iter().all(|got| got.header("authorization") == Some("Basic YWdlbnQ6cHc=")));
    assert_eq!(get(&client, &server.url("/away")).unwrap(), b"from the other");
    assert_eq!(other.got()[0].header("authorization"), None);
    for (path, why) in [("/secure", "between http and https"), ("/loop", "too many")] {
        let error = get(&client, &server.url(path)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let post = Ask { accept: "*/*", body: Some((b"{}", "application/json")), ..Ask::default() };
    client.ask(&server.url("/near"), &post, Answer::bytes).unwrap();
    let last = server.got().pop().unwrap();
    assert_eq!((last.line.as_str(), last.body.as_str()), ("POST /here", "{}"));
    for path in ["/away", "/get"] {
        let error = client.ask(&server.url(path), &post, Answer::bytes).unwrap_err().to_string();
        assert!(error.contains("goes to the server in the settings only"), "{error}");
    }
    assert_eq!(other.got().len(), 1);
}

#[test]
fn a_token_is_a_bearer_or_goes_into_a_header_of_its_own() {
    let server = Canned::new(|_| reply("200 OK", "", ""));
    let url = server.url("/");
    let directory = tempfile::tempdir().unwrap();
    let token = Some(secret(&directory, "token", "abc", 0o400));
    let bearer = Access { token, ..Access::default() };
    get(&client(&bearer, &url), &url).unwrap();
    assert_eq!(server.got()[0].header("authorization"), Some("Bearer abc"));
    get(&client(&Access { header: Some("Auth-Key".to_owned()), ..bearer }, &url), &url).unwrap();
    assert_eq!(server.got()[1].header("auth-key"), Some("abc"));
    assert_eq!(server.got()[1].header("authorization"), None);
}

#[test]
fn a_credential_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let url: Url = "https://taxii.example/".parse().unwrap();
    let refused = |credential: Credential| {
        let access = Access { token: Some(credential), ..Access::default() };
        Client::new(&access, &url, LIMITS, Stop::default()).err().map(|error| error.to_string()).unwrap()
    };
    for mode in [0o644, 0o640, 0o604] {
        let error = refused(secret(&directory, "token", "abc", mode));
        assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
    }
    assert!(refused(secret(&directory, "token", "\n", 0o600)).contains("it is empty"));
    assert!(refused(secret(&directory, "token", "a\u{1}b", 0o600)).contains("control character"));
    assert!(refused(Credential::new("/nonexistent/token")).contains("No such file"));
    assert!(refused(Credential::new("not-passed")).contains("LoadCredential"));
}

#[test]
fn access_that_makes_no_sense_is_refused_in_words() {
    let credential = || Some(Credential::new("x"));
    let basic = || Access { username: Some("u".to_owned()), password: credential(), ..Access::default() };
    let cases = [
        ("https://u:p@feed.example/", Access::default(), "no credentials"),
        ("https://feed.example/", Access { username: Some("u".to_owned()), ..Access::default() }, "go together"),
        ("https://feed.example/", Access { token: credential(), ..basic() }, "either"),
        ("https://feed.example/", Access { header: Some("X".to_owned()), ..Access::default() }, "there is none"),
        (
            "https://feed.example/",
            Access { header: Some("a b".to_owned()), token: credential(), ..Access::default() },
            "no name",
        ),
        ("https://feed.example/", Access { key: credential(), ..Access::default() }, "go together"),
        ("http://feed.example/", Access::default(), "plain_http"),
        ("http://feed.example/", Access { plain_http: true, ..basic() }, "over https:// only"),
        ("ftp://feed.example/", Access::default(), "not known"),
    ];
    for (url, access, why) in cases {
        let error = access.check(&url.parse().unwrap()).unwrap_err();
        assert!(error.contains(why), "{url}: {error}");
    }
    Access { plain_http: true, ..Access::default() }.check(&"http://feed.example/".parse().unwrap()).unwrap();
    for url in ["http://localhost/", "http://127.0.0.1:5000/", "http://[::1]/", "https://feed.example/"] {
        basic().check(&url.parse().unwrap()).unwrap();
    }
}

/// An authority, a server that wants certificates from it, and one such certificate.
struct Pki {
    directory: TempDir,
    server: Arc<ServerConfig>,
}

fn pki(wants_certificate: bool) -> Pki {
    let directory = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    let issue = |usage| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = issue(ExtendedKeyUsagePurpose::ClientAuth);
    secret(&directory, "client.pem", &certificate, 0o600);
    secret(&directory, "client.key", &key, 0o600);
    secret(&directory, "other.key", &KeyPair::generate().unwrap().serialize_pem(), 0o600);
    let (certificate, key) = issue(ExtendedKeyUsagePurpose::ServerAuth);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.unwrap();
    let builder = if wants_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let server = builder
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    Pki { directory, server: Arc::new(server) }
}

impl Pki {
    fn access(&self, key: Option<&str>) -> Access {
        let credential = |name: &str| Credential::new(self.directory.path().join(name).to_str().unwrap());
        Access {
            ca: Some(self.directory.path().join("ca.pem")),
            certificate: key.map(|_| credential("client.pem")),
            key: key.map(credential),
            ..Access::default()
        }
    }
}

#[test]
fn a_server_is_believed_by_its_own_authority_only() {
    let (known, stranger) = (pki(false), pki(false));
    let server = Canned::tls(Arc::clone(&known.server), |_| reply("200 OK", "", "secret"));
    let url = server.url("/");
    assert_eq!(get(&client(&known.access(None), &url), &url).unwrap(), b"secret");
    let error = get(&client(&stranger.access(None), &url), &url).unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert_eq!(server.got().len(), 1);
    let missing = Access { ca: Some("/nonexistent.pem".into()), ..Access::default() };
    let error = Client::new(&missing, &url, LIMITS, Stop::default()).err().unwrap();
    assert!(error.to_string().contains("/nonexistent.pem: No such file"), "{error}");
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours_and_one_we_are_redirected_to_does_not() {
    let pki = pki(true);
    let other = Canned::tls(Arc::clone(&pki.server), |_| reply("200 OK", "", "from the other"));
    let to = other.url("/").to_string();
    let server = Canned::tls(Arc::clone(&pki.server), move |got| match got.line.as_str() {
        "GET /away" => reply("302 Found", &format!("Location: {to}\r\n"), ""),
        _ => reply("200 OK", "", "members only"),
    });
    let url = server.url("/");
    let member = client(&pki.access(Some("client.key")), &url);
    assert_eq!(get(&member, &url).unwrap(), b"members only");
    assert!(get(&client(&pki.access(None), &url), &url).is_err());
    assert!(get(&member, &server.url("/away")).is_err());
    assert!(other.got().is_empty());
    let error = Client::new(&pki.access(Some("other.key")), &url, LIMITS, Stop::default()).err().unwrap();
    assert!(error.to_string().contains("does not fit the certificate"), "{error}");
}

#[test]
fn nobody_listening_is_an_error_that_names_the_url() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url: Url = format!("http://127.0.0.1:{port}/feed").parse().unwrap();
    let error = get(&client(&Access::default(), &url), &url).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with(url.as_str()), "{error}");
}
