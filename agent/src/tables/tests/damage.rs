//! Whatever the blocks hold, a lookup ends and does not panic.

use agent_common::image::{self, Block, Seed};
use proptest::prelude::*;

use super::{ruled, tables, value};
use crate::intel::Observable;
use crate::policy::Action;
use crate::policy::Ruling;
use crate::tables::{Compilation, Error, look_up};

const VALUES: [&str; 9] = [
    "198.51.100.7",
    "198.51.100.200",
    "10.9.8.7",
    "0.0.0.1",
    "2001:db8::1",
    "2001:db8:1::",
    "203.0.113.9:443",
    "/usr/bin/evil",
    "a.evil.example",
];

fn image() -> Vec<Block> {
    let values = ["198.51.100.7", "198.51.100.128/25", "10.0.0.0/8", "10.9.8.7", "2001:db8::1", "2001:db8:1::/48"];
    let values = values.into_iter().chain(["203.0.113.9:443", "/usr/bin/evil", "evil.example"]);
    let rules = values.zip(1..).map(|(text, expires)| ruled(value(text), "talos", Action::Block, expires * 10));
    tables(rules.collect(), Vec::new()).image
}

fn look_everything_up(image: &[Block], now: u32) {
    for text in VALUES {
        let _ = look_up(image, &value(text), now);
    }
    let _ = look_up(image, &Observable::Sha256([1; 32]), now);
    let _ = image::sha1(image, &[1; 20], now);
    let _ = image::md5(image, &[1; 16], now);
    let _ = image::resolve(image, Some(now), now);
}

proptest! {
    #[test]
    fn a_cut_image_is_an_error_or_a_miss(length in 0_usize..8_400, now in 0_u32..200) {
        let mut image = image();
        image.truncate(length);
        look_everything_up(&image, now);
        if length == 0 {
            prop_assert_eq!(image::ipv4(image.as_slice(), 1, now), Err(image::Damaged));
        }
    }

    #[test]
    fn an_image_with_wrong_words_does_not_panic(
        wrong in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, any::<u64>()), 1..30),
        near in prop::collection::vec((0_usize..4, 0_usize..8, any::<u64>()), 0..6),
        now in 0_u32..200,
    ) {
        let mut image = image();
        for (block, word, value) in wrong {
            let length = image.len();
            image[block.index(length)][word] = value;
        }
        for (block, word, value) in near {
            image[block][word] ^= value;
        }
        look_everything_up(&image, now);
    }

    #[test]
    fn random_blocks_do_not_panic(blocks in prop::collection::vec(any::<[u64; 8]>(), 0..64), now: u32) {
        look_everything_up(&blocks, now);
    }
}

#[test]
fn an_image_of_another_version_is_refused() {
    let mut image = image();
    assert_eq!(image::generation(image.as_slice()), Ok(7));
    image[0][0] ^= 1 << 32;
    assert_eq!(image::generation(image.as_slice()), Err(image::Damaged));
}

#[test]
fn a_map_that_is_too_small_is_an_error() {
    let ruling =
        Ruling { ruled: vec![ruled(value("10.0.0.0/8"), "talos", Action::Block, 0)].into(), ..Ruling::default() };
    let compilation = Compilation::new(ruling, 1, Seed(1, 2)).unwrap();
    let needed = compilation.blocks();
    let given = needed - 1;
    assert_eq!(compilation.write(&mut vec![[0; 8]; given]).unwrap_err(), Error::TooSmall { needed, given });
}
