//! The name of a catalog.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The last part of `catalogs/{catalog}`: 1 to 63 characters of `a-z`, `0-9` and `-`, starting with a letter. So it is
/// a good file name everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogId(Arc<str>);

/// Not a [`CatalogId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a catalog's id is 1 to 63 characters of a-z, 0-9 and -, starting with a letter")]
pub struct CatalogIdError;

impl CatalogId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CatalogId {
    type Err = CatalogIdError;

    fn from_str(text: &str) -> Result<Self, CatalogIdError> {
        let good = text.len() <= 63
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        good.then(|| Self(text.into())).ok_or(CatalogIdError)
    }
}

impl fmt::Display for CatalogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_plain_and_starts_with_a_letter() {
        for good in ["a", "grocery", "shop-2", &"a".repeat(63)] {
            assert_eq!(good.parse::<CatalogId>().unwrap().to_string(), good);
        }
        for bad in ["", "2a", "-a", "A", "a_b", "a/b", "..", "é", &"a".repeat(64)] {
            assert_eq!(bad.parse::<CatalogId>(), Err(CatalogIdError), "{bad}");
        }
    }
}
