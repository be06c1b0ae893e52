//! The command `vitrine-trainer`.
fn main() {}
