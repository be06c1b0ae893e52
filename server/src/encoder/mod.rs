//! The loaded versions of text encoders.
