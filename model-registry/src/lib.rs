//! The registry directory of model versions.
