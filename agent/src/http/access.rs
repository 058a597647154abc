//! How a server is reached: who we say we are, and whom we believe.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderName, HeaderValue};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use url::{Host, Url};

use super::Error;

/// Bytes of a credential or certificate file; a CA bundle is some 200 KiB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file with a secret: an absolute path, or the name of a systemd credential (`LoadCredential=`, systemd.exec(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(String);

impl Credential {
    /// The credential that settings name so.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The secret, without the line end that editors leave.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or it is no text.
    pub fn text(&self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        let text = String::from_utf8(bytes).map_err(|_| self.refused("it is not UTF-8 text".to_owned()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(self.refused("it is empty".to_owned()));
        }
        Ok(text.to_owned())
    }

    /// The same with an absolute path as `move_to` says.
    #[must_use]
    pub fn relocated(self, move_to: impl Fn(PathBuf) -> PathBuf) -> Self {
        match Path::new(&self.0).is_absolute() {
            true => Self(move_to(PathBuf::from(&self.0)).to_string_lossy().into_owned()),
            false => self,
        }
    }

    /// Reads the file if nobody else may.
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let given = Path::new(&self.0);
        // systemd may grant access by an ACL, whose mask shows as the group's bits (acl(5)); its directory is private anyway.
        let (path, others) = match std::env::var_os("CREDENTIALS_DIRECTORY") {
            _ if given.is_absolute() => (given.to_owned(), 0o077),
            Some(directory) => (PathBuf::from(directory).join(given), 0o007),
            None => {
                let why = "no credential of that name was passed to the agent; give an absolute path, or add LoadCredential= to the unit";
                return Err(self.refused(why.to_owned()));
            }
        };
        let failed = |error: io::Error| self.refused(format!("{}: {error}", path.display()));
        // Asked of the open file, so that it cannot be another one.
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & others != 0 {
            let mode = metadata.mode() & 0o7777;
            let shown = path.display();
            return Err(self.refused(format!("mode {mode:04o} lets others read it; run: chmod 600 {shown}")));
        }
        read_capped(file).map_err(failed)
    }

    fn refused(&self, why: String) -> Error {
        Error::Credential { name: self.0.clone(), why }
    }
}

fn read_capped(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// A chain, and a private key in PEM.
type OwnCertificate = (Vec<CertificateDer<'static>>, Vec<u8>);

/// How a server is reached. All keys are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// HTTP basic authentication (RFC 7617), with `password`.
    pub username: Option<String>,
    /// Its file.
    pub password: Option<Credential>,
    /// A bearer token (RFC 6750), or an API key when `header` is set.
    pub token: Option<Credential>,
    /// The header that carries the token as it is, for servers that want no `Authorization: Bearer`.
    pub header: Option<String>,
    /// Client certificate, PEM, with what leads to its issuer.
    pub certificate: Option<Credential>,
    /// Its private key, PEM.
    pub key: Option<Credential>,
    /// The only authorities believed, PEM; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// Allow `http://` to another machine, where anyone on the way can change what is read.
    pub plain_http: bool,
}

impl Access {
    /// Whether it makes sense for a server at `url`.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL holds no credentials; put them into `access`".to_owned());
        }
        self.check_pairs()?;
        if self.header.is_some() && self.token.is_none() {
            return Err("`header` carries a `token`, and there is none".to_owned());
        }
        if let Some(header) = &self.header
            && HeaderName::from_bytes(header.as_bytes()).is_err()
        {
            return Err(format!("`{header}` is no name of a header"));
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if is_loopback(url) => Ok(()),
            "http" if self.username.is_some() || self.token.is_some() => {
                Err("credentials are sent over https:// only".to_owned())
            }
            "http" if self.plain_http => Ok(()),
            "http" => {
                Err("over http:// anyone on the way can change what is read; use https://, or set `plain_http = true`"
                    .to_owned())
            }
            other => Err(format!("`{other}://` is not known; use https://")),
        }
    }

    /// Whether keys that need each other are there together.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_pairs(&self) -> Result<(), String> {
        if self.username.is_some() != self.password.is_some() {
            return Err("`username` and `password` go together".to_owned());
        }
        if self.username.is_some() && self.token.is_some() {
            return Err("it is either `username` and `password` or `token`".to_owned());
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err("`certificate` and `key` go together".to_owned());
        }
        Ok(())
    }

    /// The same with every path as `move_to` says.
    #[must_use]
    pub fn relocated(mut self, move_to: impl Fn(PathBuf) -> PathBuf) -> Self {
        for credential in [&mut self.password, &mut self.token, &mut self.certificate, &mut self.key] {
            *credential = credential.take().map(|credential| credential.relocated(&move_to));
        }
        self.ca = self.ca.map(move_to);
        self
    }

    /// The header that says who we are.
    pub(super) fn authorization(&self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        let (name, value, credential) = match (&self.username, &self.password, &self.token) {
            (Some(username), Some(password), _) => {
                let pair = format!("{username}:{}", password.text()?);
                (HeaderName::from_static("authorization"), format!("Basic {}", STANDARD.encode(pair)), password)
            }
            (_, _, Some(token)) => {
                let text = token.text()?;
                match &self.header {
                    Some(header) => {
                        (HeaderName::from_bytes(header.as_bytes()).map_err(ureq::http::Error::from)?, text, token)
                    }
                    None => (HeaderName::from_static("authorization"), format!("Bearer {text}"), token),
                }
            }
            _ => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| credential.refused("it holds what no header can: a control character".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }

    /// Whom we believe, and with `with_certificate` the certificate that says who we are.
    pub(super) fn tls(&self, provider: &Arc<CryptoProvider>, with_certificate: bool) -> Result<TlsConfig, Error> {
        let of_ureq = |der: &CertificateDer<'_>| Certificate::from_der(der).to_owned();
        let certificate = match self.own_certificate(provider)?.filter(|_| with_certificate) {
            Some((chain, key)) => {
                let chain: Vec<_> = chain.iter().map(of_ureq).collect();
                let key = PrivateKey::from_pem(&key).map_err(|error| self.refused_key(error.to_string()))?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
            None => None,
        };
        let authorities: Vec<_> = self.authorities()?.iter().map(of_ureq).collect();
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::clone(provider))
            .root_certs(RootCerts::new_with_certs(&authorities))
            .client_cert(certificate)
            .build())
    }

    /// Whom we believe and who we are, for what speaks TLS by itself.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = super::provider();
        let mut roots = RootCertStore::empty();
        // Of the system's some may be of a kind that is not known here; of a file all are wanted.
        let (_known, unknown) = roots.add_parsable_certificates(self.authorities()?);
        if let Some(path) = self.ca.as_ref().filter(|_| unknown > 0) {
            let why = format!("{unknown} of its certificates cannot be used");
            return Err(Error::Certificate { path: path.display().to_string(), why });
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.refused_key(error.to_string()))?
            .with_root_certificates(roots);
        let Some((chain, key)) = self.own_certificate(&provider)? else { return Ok(builder.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| self.refused_key(error.to_string()))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| self.refused_key(error.to_string()))
    }

    /// The certificate that says who we are with what leads to its issuer, and its key in PEM, if they belong together.
    fn own_certificate(&self, provider: &CryptoProvider) -> Result<Option<OwnCertificate>, Error> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else { return Ok(None) };
        let (chain_pem, key_pem) = (certificate.bytes()?, key.bytes()?);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|error| certificate.refused(format!("not PEM: {error}")))?;
        let private =
            PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| key.refused(format!("not PEM: {error}")))?;
        // Asked here, because ureq panics when they do not.
        CertifiedKey::from_der(chain.clone(), private, provider)
            .map_err(|error| key.refused(format!("it does not fit the certificate: {error}")))?;
        Ok(Some((chain, key_pem)))
    }

    fn refused_key(&self, why: String) -> Error {
        let name = self.key.as_ref().map(|key| key.0.clone()).unwrap_or_default();
        Error::Credential { name, why }
    }

    fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let Some(path) = &self.ca else {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let why = found.errors.first().map_or_else(|| "there is none".to_owned(), ToString::to_string);
                let why = format!("{why}; install the package ca-certificates, or set `ca`");
                return Err(Error::Certificate { path: "the system's certificate authorities".to_owned(), why });
            }
            return Ok(found.certs);
        };
        let refused = |why: String| Error::Certificate { path: path.display().to_string(), why };
        let pem = File::open(path).and_then(read_capped).map_err(|error| refused(error.to_string()))?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| refused(format!("not PEM: {error}")))?;
        if found.is_empty() {
            return Err(refused("no certificate in it".to_owned()));
        }
        Ok(found)
    }
}

/// Whether the URL names this machine, where nobody is on the way.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
