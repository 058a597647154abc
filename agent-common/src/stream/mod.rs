//! Which host the first octets of a stream name, read step by step from a packet as [`crate::image::MessageWalk`] does.

mod hello;
mod request;

pub use hello::HelloWalk;
pub use request::RequestWalk;

/// What was found in the first octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A name as text.
    Text {
        /// Offset of its first octet.
        at: u32,
        /// Octets, at least 1.
        length: u32,
    },
    /// There is none.
    Nothing,
    /// The octets end before it is clear.
    Unread,
}
