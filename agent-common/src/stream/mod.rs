//! What a stream's first octets or a DNS response name, read step by step from a packet as [`crate::image::MessageWalk`] does.

mod hello;
mod request;
pub mod response;

pub use hello::HelloWalk;
pub use request::RequestWalk;
pub use response::ResponseWalk;

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
