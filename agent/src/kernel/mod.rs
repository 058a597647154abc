//! kernel (to be written).

pub mod clock;
pub mod fanotify;
pub mod stat;
