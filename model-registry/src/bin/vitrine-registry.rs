//! The command `vitrine-registry`.
fn main() {}
