//! Typed client for Vitrine.
