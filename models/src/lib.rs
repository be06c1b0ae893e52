//! The networks Vitrine serves.
