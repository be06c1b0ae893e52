//! Which versions of a model a server has, beside those that labels name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
    str::FromStr,
};

use crate::name::Version;

/// Which versions of a model a server has. Those that labels name are always among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Policy {
    /// Those that labels name: `labels`.
    #[default]
    Labels,
    /// The newest so many: `latest = 2`.
    Latest(NonZeroU32),
    /// All that are there: `all`.
    All,
    /// Just these: `versions = [1, 3]`.
    Versions(BTreeSet<Version>),
}

/// Not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no policy: use \"labels\", \"latest = 2\", \"all\" or \"versions = [1, 3]\"")]
pub struct PolicyError(String);

impl Policy {
    /// The versions it chooses of those that are there: never one that was rejected.
    pub fn choose(&self, there: &BTreeSet<Version>, rejected: &BTreeMap<Version, String>) -> BTreeSet<Version> {
        let good = there.iter().filter(|version| !rejected.contains_key(version)).copied();
        match self {
            Self::Labels => BTreeSet::new(),
            Self::Latest(number) => good.rev().take(number.get() as usize).collect(),
            Self::All => good.collect(),
            Self::Versions(versions) => good.filter(|version| versions.contains(version)).collect(),
        }
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let refused = || PolicyError(text.to_owned());
        let (word, value) = match text.split_once('=') {
            Some((word, value)) => (word.trim(), Some(value.trim())),
            None => (text.trim(), None),
        };
        match (word, value) {
            ("labels", None) => Ok(Self::Labels),
            ("all", None) => Ok(Self::All),
            ("latest", Some(number)) => number.parse().map(Self::Latest).map_err(|_| refused()),
            ("versions", Some(list)) => {
                let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).ok_or_else(refused)?;
                let versions = list.split(',').map(|version| version.trim().parse());
                versions.collect::<Result<_, _>>().map(Self::Versions).map_err(|_| refused())
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels => f.write_str("labels"),
            Self::Latest(number) => write!(f, "latest = {number}"),
            Self::All => f.write_str("all"),
            Self::Versions(versions) => {
                let versions: Vec<String> = versions.iter().map(Version::to_string).collect();
                write!(f, "versions = [{}]", versions.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(numbers: &[u32]) -> BTreeSet<Version> {
        numbers.iter().filter_map(|&number| Version::new(number)).collect()
    }

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        for text in ["labels", "all", "latest = 2", "versions = [1, 3]"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        assert_eq!("latest=2".parse(), Ok(Policy::Latest(NonZeroU32::MIN.saturating_add(1))));
    }

    #[test]
    fn what_is_none_is_refused_with_what_there_is() {
        for text in ["", "newest", "latest", "latest = 0", "latest = -1", "versions = 1", "versions = []", "all = 1"] {
            let message = text.parse::<Policy>().unwrap_err().to_string();
            assert!(message.contains("latest = 2"), "{message}");
        }
    }

    #[test]
    fn a_policy_chooses_among_what_is_there() {
        let there = versions(&[1, 9, 10]);
        let mut rejected = BTreeMap::new();
        let chosen = |text: &str, rejected: &_| text.parse::<Policy>().unwrap().choose(&there, rejected);
        assert_eq!(chosen("labels", &rejected), versions(&[]));
        assert_eq!(chosen("latest = 2", &rejected), versions(&[9, 10]));
        assert_eq!(chosen("all", &rejected), there);
        assert_eq!(chosen("versions = [1, 7]", &rejected), versions(&[1]));
        rejected.extend(versions(&[9]).into_iter().map(|version| (version, "fewer clicks".to_owned())));
        assert_eq!(chosen("latest = 2", &rejected), versions(&[1, 10]));
        assert_eq!(chosen("all", &rejected), versions(&[1, 10]));
        assert_eq!(chosen("versions = [1, 9]", &rejected), versions(&[1]));
    }
}
