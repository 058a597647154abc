//! host (to be written).
