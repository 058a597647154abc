//! `cargo xtask`: everything that is done to the project, one file per verb.

fn main() {}
