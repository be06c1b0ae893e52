//! Compiles `proto/` with protox, a Rust compiler for protocol buffers: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 8] = [
    "vitrine/v1/common.proto",
    "vitrine/v1/storefront.proto",
    "vitrine/v1/catalog.proto",
    "vitrine/v1/control.proto",
    "vitrine/v1/experiment.proto",
    "vitrine/v1/model.proto",
    "vitrine/v1/privacy.proto",
    "inference/open_inference.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    // Maps are ordered, so that equal messages have equal bytes: page tokens are bound to them.
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
