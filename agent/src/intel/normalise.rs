//! The canonical form of a value (pure): what two publishers write differently must become the same [`Observable`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use agent_common::canon::embedded_ipv4;
use ipnet::{Ipv4Net, Ipv6Net};

use super::Observable;

/// Why a text is no value of the type asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not an address in dotted or colon form; an octet with a leading zero is none either (RFC 6943 §3.1.1).
    #[error("not an IP address")]
    Address,
    /// The number after the slash.
    #[error("the prefix length is not a number from 0 to {0}")]
    PrefixLength(u8),
    /// A port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A name with one label.
    #[error("a domain name needs at least two labels")]
    OneLabel,
    /// A wildcard.
    #[error("a wildcard is no domain name; a name already covers every name below it")]
    Wildcard,
    /// A name that breaks RFC 1035 §2.3.4 or UTS 46.
    #[error("not a domain name: {0}")]
    Domain(&'static str),
    /// A digest.
    #[error("a {algorithm} has {expected} hexadecimal digits")]
    Digest {
        /// Its name.
        algorithm: &'static str,
        /// Its length in digits.
        expected: usize,
    },
    /// A URL.
    #[error("not a URL: {0}")]
    Url(&'static str),
    /// A path.
    #[error("not an absolute path")]
    Path,
    /// A file name.
    #[error("not a file name")]
    FileName,
}

/// Undoes what publishers do so that nobody clicks: `[.]`, `(.)`, `{.}`, `[dot]`, `(dot)`, `[:]`, `[://]`, `[/]`, `[@]`, `[at]` and `hxxp`.
#[must_use]
pub fn refang(text: &str) -> Cow<'_, str> {
    const SPELLINGS: [(&str, &str); 11] = [
        ("[.]", "."),
        ("(.)", "."),
        ("{.}", "."),
        ("[dot]", "."),
        ("(dot)", "."),
        ("[://]", "://"),
        ("[:]", ":"),
        ("[/]", "/"),
        ("[@]", "@"),
        ("[at]", "@"),
        ("(at)", "@"),
    ];
    let scheme = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("hxxp"));
    if !scheme && !text.bytes().any(|byte| matches!(byte, b'[' | b'(' | b'{')) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    if scheme {
        plain.push_str("http");
        rest = rest.get(4..).unwrap_or_default();
    }
    while let Some(position) = rest.find(['[', '(', '{']) {
        let (before, bracketed) = rest.split_at(position);
        plain.push_str(before);
        let spelling = SPELLINGS.iter().find(|(defanged, _)| {
            bracketed.get(..defanged.len()).is_some_and(|start| start.eq_ignore_ascii_case(defanged))
        });
        let (taken, replacement) = spelling.map_or((1, &bracketed[..1]), |(defanged, plain)| (defanged.len(), *plain));
        plain.push_str(replacement);
        rest = &bracketed[taken..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// An IPv6 address, or the IPv4 address it embeds, as the kernel looks both up.
#[must_use]
pub fn ip(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            match embedded_ipv4((bits >> 64) as u64, bits as u64) {
                Some(embedded) => IpAddr::V4(Ipv4Addr::from_bits(embedded)),
                None => IpAddr::V6(address),
            }
        }
    }
}

fn plain_address(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map(ip).map_err(|_| Invalid::Address)
}

fn from_ip(address: IpAddr) -> Observable {
    match address {
        IpAddr::V4(address) => Observable::Ipv4(address),
        IpAddr::V6(address) => Observable::Ipv6(address),
    }
}

/// The IPv4 prefix that an IPv6 prefix stands for: mapped and NAT64 from /96, 6to4 from /16 to /48.
fn embedded_prefix(prefix: Ipv6Net) -> Option<Ipv4Net> {
    let bits = prefix.network().to_bits();
    let length = prefix.prefix_len();
    let (address, length) = if bits >> 112 == 0x2002 && length >= 16 {
        ((bits >> 80) as u32, (length - 16).min(32))
    } else if length >= 96 && (bits >> 32 == 0xffff || bits >> 32 == 0x0064_ff9b_u128 << 64) {
        (bits as u32, length - 96)
    } else {
        return None;
    };
    Ipv4Net::new(Ipv4Addr::from_bits(address), length).ok().map(|prefix| prefix.trunc())
}

/// An address or a prefix, defanged or not. Host bits are masked; a prefix of full length is the address.
///
/// # Errors
/// No address, or no prefix length.
pub fn address(text: &str) -> Result<Observable, Invalid> {
    let text = refang(text.trim());
    let Some((address, length)) = text.split_once('/') else {
        return plain_address(&text).map(from_ip);
    };
    let address: IpAddr = address.parse().map_err(|_| Invalid::Address)?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 =
        length.parse().ok().filter(|length| digits && *length <= full).ok_or(Invalid::PrefixLength(full))?;
    Ok(match address {
        IpAddr::V4(address) if length == 32 => Observable::Ipv4(address),
        IpAddr::V4(address) => {
            Observable::Ipv4Prefix(Ipv4Net::new(address, length).map_err(|_| Invalid::PrefixLength(32))?.trunc())
        }
        IpAddr::V6(_) if length == 128 => from_ip(ip(address)),
        IpAddr::V6(address) => {
            let prefix = Ipv6Net::new(address, length).map_err(|_| Invalid::PrefixLength(128))?.trunc();
            match embedded_prefix(prefix) {
                Some(prefix) if prefix.prefix_len() == 32 => Observable::Ipv4(prefix.addr()),
                Some(prefix) => Observable::Ipv4Prefix(prefix),
                None => Observable::Ipv6Prefix(prefix),
            }
        }
    })
}

/// A port, 1 to 65535.
///
/// # Errors
/// Anything else.
pub fn port(text: &str) -> Result<u16, Invalid> {
    let digits = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(Invalid::Port)
}

/// `address:port`, or `[address]:port` for IPv6.
///
/// # Errors
/// No address in front of the last colon, or no port after it.
pub fn endpoint(text: &str) -> Result<Observable, Invalid> {
    let text = refang(text.trim());
    let (address, number) = text.rsplit_once(':').ok_or(Invalid::Address)?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Invalid::Address)?,
        None => IpAddr::V4(address.parse().map_err(|_| Invalid::Address)?),
    };
    Ok(Observable::Endpoint(ip(address), port(number)?))
}

/// A domain name in lower-case A-labels (UTS 46, non-transitional), without a trailing dot. A text that is an address is an
/// address, as some publishers write them into domain fields.
///
/// # Errors
/// A wildcard, one label, or no name by RFC 1035 and UTS 46. Underscores are allowed (RFC 8552).
pub fn domain(text: &str) -> Result<Observable, Invalid> {
    let text = refang(text.trim());
    if let Ok(address) = plain_address(&text) {
        return Ok(from_ip(address));
    }
    domain_name(&text).map(Observable::Domain)
}

fn domain_name(text: &str) -> Result<Arc<str>, Invalid> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.contains('*') {
        return Err(Invalid::Wildcard);
    }
    let simple = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if text.bytes().all(simple) && !text.contains("xn--") {
        check_labels(text)?;
        return Ok(Arc::from(text));
    }
    check_before_mapping(text)?;
    let ascii = idna::domain_to_ascii(text).map_err(|_| Invalid::Domain("UTS 46 refuses it"))?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    check_labels(ascii)?;
    Ok(Arc::from(ascii))
}

/// What UTS 46 makes no name of, whatever it maps: Punycode takes time that grows with the square of a label.
fn check_before_mapping(name: &str) -> Result<(), Invalid> {
    // 253 code points of four bytes; nobody writes more that mapping drops, such as soft hyphens.
    const MOST: usize = 253 * 4;
    if name.len() > MOST {
        return Err(Invalid::Domain("longer than 253 octets"));
    }
    // Mapping neither adds to nor takes from ASCII.
    if name.split('.').any(|label| label.len() > 63 && label.is_ascii()) {
        return Err(Invalid::Domain("a label longer than 63 octets"));
    }
    Ok(())
}

fn check_labels(name: &str) -> Result<(), Invalid> {
    if name.len() > 253 {
        return Err(Invalid::Domain("longer than 253 octets"));
    }
    let mut labels = 0;
    let mut last = "";
    for label in name.split('.') {
        if label.is_empty() {
            return Err(Invalid::Domain("an empty label"));
        }
        if label.len() > 63 {
            return Err(Invalid::Domain("a label longer than 63 octets"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(Invalid::Domain("a label that starts or ends with a hyphen"));
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err(Invalid::Domain("a character that no name has"));
        }
        labels += 1;
        last = label;
    }
    if labels < 2 {
        return Err(Invalid::OneLabel);
    }
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Invalid::Domain("the last label is a number"));
    }
    Ok(())
}

struct UrlParts<'a> {
    scheme: &'a str,
    user: &'a str,
    host: &'a str,
    port: &'a str,
    rest: &'a str,
}

fn split_url(text: &str) -> UrlParts<'_> {
    let (scheme, after) = text.split_once("://").unwrap_or(("", text));
    let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    let (user, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let bracket = host_port.rfind(']').unwrap_or(0);
    let (host, port) = match host_port[bracket..].rfind(':') {
        Some(colon) => host_port.split_at(bracket + colon),
        None => (host_port, ""),
    };
    UrlParts { scheme, user, host, port: port.trim_start_matches(':'), rest }
}

fn host(text: &str) -> Result<Observable, Invalid> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address
            .parse::<Ipv6Addr>()
            .map(|address| from_ip(ip(IpAddr::V6(address))))
            .map_err(|_| Invalid::Url("its host is no IPv6 address")),
        None => domain(text),
    }
}

/// A URL: scheme and host lower case, host canonical, the rest as given. Without a scheme it is a host, with or without port and
/// path, as publishers write it into URL fields. A host behind a scheme that is neither name nor address (`<random>.example`)
/// stays as given.
///
/// # Errors
/// White space, a scheme that is none (RFC 3986 §3.1), no host, a host with a delimiter in it (§3.2.2), a port that is none.
pub fn url(text: &str) -> Result<Observable, Invalid> {
    let text = refang(text.trim());
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(Invalid::Url("it contains white space"));
    }
    let parts = split_url(&text);
    let has_scheme = text.contains("://");
    let scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let starts_well = parts.scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    if has_scheme && !(starts_well && parts.scheme.bytes().all(scheme_byte)) {
        return Err(Invalid::Url("its scheme is none"));
    }
    if parts.host.is_empty() {
        return Err(Invalid::Url("it has no host"));
    }
    if !parts.port.is_empty() {
        port(parts.port)?;
    }
    let host = match host(parts.host) {
        Ok(Observable::Ipv6(address)) => format!("[{address}]"),
        Ok(host) => host.to_string(),
        Err(_) if has_scheme && !parts.host.contains([':', '[', ']']) => parts.host.to_ascii_lowercase(),
        Err(error) => return Err(error),
    };
    let mut canonical = String::with_capacity(text.len());
    if has_scheme {
        canonical.push_str(&parts.scheme.to_ascii_lowercase());
        canonical.push_str("://");
    }
    for piece in [parts.user, if parts.user.is_empty() { "" } else { "@" }, &host] {
        canonical.push_str(piece);
    }
    for piece in [if parts.port.is_empty() { "" } else { ":" }, parts.port, parts.rest] {
        canonical.push_str(piece);
    }
    Ok(Observable::Url(Arc::from(canonical)))
}

/// The host of a canonical URL: a name or an address.
#[must_use]
pub fn url_host(url: &str) -> Option<Observable> {
    host(split_url(url).host).ok()
}

/// The bytes of a hexadecimal text of exactly `2 * N` digits.
fn digest<const N: usize>(text: &str, algorithm: &'static str) -> Result<[u8; N], Invalid> {
    let invalid = Invalid::Digest { algorithm, expected: 2 * N };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(invalid);
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = match pair {
            [high, low] => nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low).ok_or(invalid.clone())?,
            _ => return Err(invalid),
        };
    }
    Ok(bytes)
}

/// A SHA-256.
///
/// # Errors
/// Not 64 hexadecimal digits.
pub fn sha256(text: &str) -> Result<Observable, Invalid> {
    digest(text.trim(), "SHA-256").map(Observable::Sha256)
}

/// A SHA-1.
///
/// # Errors
/// Not 40 hexadecimal digits.
pub fn sha1(text: &str) -> Result<Observable, Invalid> {
    digest(text.trim(), "SHA-1").map(Observable::Sha1)
}

/// An MD5.
///
/// # Errors
/// Not 32 hexadecimal digits.
pub fn md5(text: &str) -> Result<Observable, Invalid> {
    digest(text.trim(), "MD5").map(Observable::Md5)
}

/// An absolute path of this system, without repeated or trailing slashes and without `.` components.
///
/// # Errors
/// A relative path, one with `..` or a NUL, or another system's.
pub fn path(text: &str) -> Result<Observable, Invalid> {
    if !text.starts_with('/') || text.contains('\0') {
        return Err(Invalid::Path);
    }
    let mut canonical = String::with_capacity(text.len());
    for component in text.split('/').filter(|component| !component.is_empty() && *component != ".") {
        if component == ".." {
            return Err(Invalid::Path);
        }
        canonical.push('/');
        canonical.push_str(component);
    }
    if canonical.is_empty() { Err(Invalid::Path) } else { Ok(Observable::Path(Arc::from(canonical))) }
}

/// The name of a file, without a slash.
///
/// # Errors
/// Empty, `.`, `..`, or with a slash or a NUL.
pub fn file_name(text: &str) -> Result<Observable, Invalid> {
    if matches!(text, "" | "." | "..") || text.contains(['/', '\0']) {
        return Err(Invalid::FileName);
    }
    Ok(Observable::FileName(Arc::from(text)))
}

/// The value that somebody writes without saying of what type it is.
#[must_use]
pub fn any(text: &str) -> Option<Observable> {
    let text = text.trim();
    address(text)
        .or_else(|_| endpoint(text))
        .or_else(|_| sha256(text))
        .or_else(|_| sha1(text))
        .or_else(|_| md5(text))
        .or_else(|_| path(text))
        .or_else(|_| if text.contains("://") { url(text) } else { domain(text) })
        .ok()
}

#[cfg(test)]
mod tests;
