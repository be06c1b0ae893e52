//! Vector retrieval.
