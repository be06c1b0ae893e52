//! One shop: its items, its events, and the indexes made from them.
