//! Names of models, numbers of versions, and labels. Each is checked where it enters and trusted afterwards.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest model name or label in characters.
pub const MAX_NAME: usize = 63;

/// What `labels.json` calls the labels' former values: no label can be called so.
const PREVIOUS: &str = "previous";
/// That of rejected versions.
const REJECTED: &str = "rejected";

/// Why a name was refused. The message names the offending text and the rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a model name.
    #[error(
        "\"{0}\" is no model name: use 1 to 63 characters of a-z, 0-9, \"-\", \"_\" and \".\", starting with a letter or digit"
    )]
    Model(String),
    /// Not a label.
    #[error(
        "\"{0}\" is no label: use 1 to 63 characters of a-z, 0-9 and \"-\", starting with a letter, not \"previous\""
    )]
    Label(String),
    /// Not a version number.
    #[error("\"{0}\" is no version: use a whole number from 1 without leading zeros")]
    Version(String),
}

/// A model: a name with versions, as `minilm`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

/// A movable name for a version, as `stable`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// The number of a version under its model, from 1. Ordered as numbers: 10 comes after 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub NonZeroU32);

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Label {
    /// `stable`: what answers, unless a configuration says otherwise.
    pub fn stable() -> Self {
        Self("stable".to_owned())
    }

    /// `canary`: what is tried.
    pub fn canary() -> Self {
        Self("canary".to_owned())
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Version {
    /// The first version of a model.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The version with this number; `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The version after this one; `None` after the last possible.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if first && rest && text.len() <= MAX_NAME {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Model(text.to_owned()))
        }
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if first && rest && text.len() <= MAX_NAME && ![PREVIOUS, REJECTED].contains(&text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Label(text.to_owned()))
        }
    }
}

impl FromStr for Version {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        let number = if digits { text.parse().ok() } else { None };
        number.map(Self).ok_or_else(|| NameError::Version(text.to_owned()))
    }
}

impl TryFrom<String> for ModelName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for Label {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_order_as_numbers() {
        let (nine, ten): (Version, Version) = ("9".parse().unwrap(), "10".parse().unwrap());
        assert!(nine < ten);
    }

    #[test]
    fn odd_version_folders_are_no_versions() {
        for text in ["", "0", "01", "1.0", "-1", "+1", "v1", "1 ", "4294967296", "٣", ".staging-1"] {
            assert_eq!(text.parse::<Version>(), Err(NameError::Version(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn names_that_could_leave_the_registry_are_refused() {
        for text in ["", ".", "..", "../x", "a/b", "A", ".hidden", "naïve", &"a".repeat(64)] {
            assert!(text.parse::<ModelName>().is_err(), "{text:?}");
        }
        for text in ["", "1", "previous", "rejected", "Stable", "a b", "-a", "a_b", &"a".repeat(64)] {
            assert!(text.parse::<Label>().is_err(), "{text:?}");
        }
        assert!("all-minilm-l6-v2".parse::<ModelName>().is_ok());
        assert!("canary-2".parse::<Label>().is_ok());
    }

    proptest! {
        #[test]
        fn every_version_is_read_back_from_its_own_text(number in 1u32..) {
            let version = Version::new(number).unwrap();
            prop_assert_eq!(version.to_string().parse::<Version>(), Ok(version));
        }

        #[test]
        fn parsing_a_name_never_panics_and_never_changes_it(text in ".{0,80}") {
            if let Ok(name) = text.parse::<ModelName>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!text.starts_with('.') && !text.contains('/'));
            }
        }
    }
}
