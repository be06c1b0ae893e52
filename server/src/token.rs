//! Page tokens and attribution tokens.
