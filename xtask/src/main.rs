//! `cargo demo`, `cargo ci` and other chores.
fn main() {}
