//! The pipelines behind Recommend.
