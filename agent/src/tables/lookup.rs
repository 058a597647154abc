//! What an image says of a value, by the code that the kernel runs.

use std::net::IpAddr;

use agent_common::canon;
use agent_common::image::{self, Blocks, Damaged, Hit, Labels};

use super::key::{Key, halves};
use crate::intel::Observable;

/// What a value comes to in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// It, or something that it lies in, has a live entry.
    Hit(Hit),
    /// Nothing is known of it.
    Unknown,
    /// No hook would see it: a URL, a file name, or a path that cannot be a key.
    Unseen,
}

/// Looks a value up at `now`, seconds since the epoch. A prefix is looked up by its first address.
pub fn look_up<B: Blocks + ?Sized>(image: &B, observable: &Observable, now: u32) -> Result<Bearing, Damaged> {
    let address = |address: IpAddr, port: u16| {
        let (high, low) = match address {
            IpAddr::V4(address) => (0, canon::mapped(address.into())),
            IpAddr::V6(address) => halves(address.into()),
        };
        image::destination(image, high, low, port, now)
    };
    let hit = match observable {
        // No connect goes to port 0, so only the address counts.
        Observable::Ipv4(ipv4) => address((*ipv4).into(), 0)?,
        Observable::Ipv4Prefix(prefix) => image::ipv4(image, prefix.network().into(), now)?,
        Observable::Ipv6(ipv6) => address((*ipv6).into(), 0)?,
        Observable::Ipv6Prefix(prefix) => {
            let (high, low) = halves(prefix.network().into());
            match canon::embedded_ipv4(high, low) {
                Some(ipv4) => image::ipv4(image, ipv4, now)?,
                None => image::ipv6(image, high, low, now)?,
            }
        }
        Observable::Endpoint(ip, port) => address(*ip, *port)?,
        Observable::Sha256(digest) => image::sha256(image, digest, now)?,
        Observable::Sha1(digest) => image::sha1(image, digest, now)?,
        Observable::Md5(digest) => image::md5(image, digest, now)?,
        Observable::Path(_) => match Key::of(observable) {
            Ok(key) => image::path(image, key.tag(image::seed(image)?), now)?,
            Err(_) => return Ok(Bearing::Unseen),
        },
        Observable::Domain(_) => match Key::of(observable) {
            Ok(Key::Domain(_, name)) => domain(image, &name, now)?,
            _ => return Ok(Bearing::Unseen),
        },
        Observable::Url(_) | Observable::FileName(_) | Observable::Process(_) => return Ok(Bearing::Unseen),
    };
    Ok(hit.map_or(Bearing::Unknown, Bearing::Hit))
}

fn domain<B: Blocks + ?Sized>(image: &B, name: &str, now: u32) -> Result<Option<Hit>, Damaged> {
    let octets = name.as_bytes();
    let Ok(labels) = Labels::of_text(octets, 0, octets.len() as u32) else { return Ok(None) };
    let found = image::find_name(image, octets, labels)?;
    image::resolve(image, found.map(|found| found.entry), now)
}
