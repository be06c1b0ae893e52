//! From this crate's errors to gRPC statuses.
