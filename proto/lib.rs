//! The public gRPC API of Vitrine: the code generated from `proto/`.
//!
//! Services in other languages generate their clients from the same files. [`DESCRIPTORS`] is what gRPC
//! reflection serves, and what turns messages into JSON and back.

/// Package `vitrine.v1`.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1 {
    tonic::include_proto!("vitrine.v1");
}

/// Package `inference`: the Open Inference Protocol.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The compiled `.proto` files (a serialized `google.protobuf.FileDescriptorSet`), comments included.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptor");
