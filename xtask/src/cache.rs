//! The folder in which downloads are kept.

use std::{env, path::PathBuf};

/// By the same rule as `vitrine-registry pull --cache`.
pub fn folder() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("VITRINE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("vitrine")))
        .unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache/vitrine"))
}
