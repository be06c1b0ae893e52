//! The ordered, durable log of a catalog's changes.
