//! kernel (to be written).

pub mod clock;
pub mod stat;
