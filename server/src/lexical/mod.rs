//! Full-text retrieval.
