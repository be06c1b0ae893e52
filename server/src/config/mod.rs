//! What an operator sets: commented defaults, then a file, then `VITRINE_*`, then flags.
//!
//! Each value is checked before anything is started, with a message that names it.

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use config::{Config as Layers, Environment, File, FileFormat};
use serde::{Deserialize, Deserializer};
use vitrine_models::DeviceSpec;
use vitrine_registry::{Location, lifecycle::Policy};

/// The defaults, as a commented file: what `vitrine-server --print-config` shows.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A value that is missing, malformed or out of range. The message names it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer cannot be read, or a value has the wrong type or an unknown name.
    #[error("configuration: {0}")]
    Malformed(#[from] config::ConfigError),
    /// A value is out of its range.
    #[error("configuration: `{key}` {problem}")]
    Invalid {
        /// The path of the value, as `limits.max_page_size`.
        key: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// Everything an operator can set. `defaults.toml` describes each value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    #[serde(deserialize_with = "parsed")]
    pub registry: Location,
    pub registry_cache: PathBuf,
    #[serde(deserialize_with = "duration")]
    pub registry_poll: Duration,
    #[serde(deserialize_with = "optional_address")]
    pub metrics_listen: Option<SocketAddr>,
    pub log: Log,
    pub limits: Limits,
    pub text_encoder: TextEncoder,
    pub image_encoder: ModelSection,
    pub sequence_model: ModelSection,
    pub ranker: ModelSection,
    pub image_generator: ModelSection,
    pub search: Search,
    pub recommend: Recommend,
    pub experiments: Experiments,
    pub tokens: Tokens,
    pub shutdown: Shutdown,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Limits {
    pub max_message_bytes: usize,
    pub max_page_size: usize,
    pub max_query_chars: usize,
    pub max_filter_chars: usize,
    pub max_events_per_call: usize,
    pub max_items_per_call: usize,
    #[serde(deserialize_with = "duration")]
    pub default_timeout: Duration,
    pub max_concurrent_queries: usize,
}

/// `[text_encoder]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct TextEncoder {
    pub model: String,
    pub label: String,
    #[serde(deserialize_with = "parsed")]
    pub policy: Policy,
    #[serde(deserialize_with = "duration")]
    pub keep_previous: Duration,
    pub memory_budget_bytes: u64,
    #[serde(deserialize_with = "parsed")]
    pub device: DeviceSpec,
    pub max_batch_tokens: usize,
    pub max_queue_rows: usize,
    pub query_cache_bytes: u64,
}

/// `[image_encoder]`, `[sequence_model]`, `[ranker]`, `[image_generator]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ModelSection {
    pub model: String,
    pub label: String,
    #[serde(deserialize_with = "parsed")]
    pub policy: Policy,
    #[serde(deserialize_with = "duration")]
    pub keep_previous: Duration,
    pub memory_budget_bytes: u64,
    #[serde(deserialize_with = "parsed")]
    pub device: DeviceSpec,
    pub max_batch_rows: usize,
    pub max_queue_rows: usize,
}

/// `[recommend]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Recommend {
    pub next: f32,
    pub follows: f32,
    pub together: f32,
    pub similar: f32,
    pub again: f32,
    pub popular: f32,
    pub ranked: usize,
}

/// `[search]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Search {
    pub lexical_candidates: usize,
    pub semantic_candidates: usize,
    pub min_similarity: f32,
    pub fusion: FusionMethod,
    pub reciprocal_rank_k: u32,
    pub lexical_weight: f64,
    pub semantic_weight: f64,
}

/// How rankings are fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FusionMethod {
    /// By ranks.
    ReciprocalRank,
    /// By scores scaled to 0…1.
    Linear,
    /// By scores scaled by mean and standard deviation.
    DistributionBased,
}

/// `[experiments]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Experiments {
    #[serde(deserialize_with = "duration")]
    pub keep_exposures: Duration,
}

/// `[tokens]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Tokens {
    #[serde(deserialize_with = "duration")]
    pub attribution_ttl: Duration,
}

/// `[shutdown]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Shutdown {
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

impl Config {
    /// Reads the layers: defaults, `file`, environment, and `flags` as (path, value).
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        let mut layers = Layers::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = file {
            layers = layers.add_source(File::from(file).format(FileFormat::Toml));
        }
        layers = layers.add_source(environment(env::vars_os()));
        for (key, value) in flags {
            layers = layers.set_override(*key, value.as_str())?;
        }
        let config: Self = layers.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        at_least("limits.max_message_bytes", limits.max_message_bytes, 65_536)?;
        at_least("limits.max_page_size", limits.max_page_size, 1)?;
        at_least("limits.max_query_chars", limits.max_query_chars, 1)?;
        at_least("limits.max_events_per_call", limits.max_events_per_call, 1)?;
        at_least("limits.max_items_per_call", limits.max_items_per_call, 1)?;
        at_least("limits.max_concurrent_queries", limits.max_concurrent_queries, 1)?;
        at_least("text_encoder.max_batch_tokens", self.text_encoder.max_batch_tokens, 512)?;
        at_least("text_encoder.max_queue_rows", self.text_encoder.max_queue_rows, 1)?;
        at_least("search.lexical_candidates", self.search.lexical_candidates, limits.max_page_size)?;
        at_least("search.semantic_candidates", self.search.semantic_candidates, 1)?;
        if limits.default_timeout.is_zero() {
            return invalid("limits.default_timeout", "must be longer than 0s".into());
        }
        if !(-1.0..=1.0).contains(&self.search.min_similarity) {
            return invalid("search.min_similarity", "must be a cosine, from -1 to 1".into());
        }
        for (key, section) in [
            ("image_encoder.max_batch_rows", &self.image_encoder),
            ("sequence_model.max_batch_rows", &self.sequence_model),
            ("ranker.max_batch_rows", &self.ranker),
            ("image_generator.max_batch_rows", &self.image_generator),
        ] {
            at_least(key, section.max_batch_rows, 1)?;
        }
        let (lexical, semantic) = (self.search.lexical_weight, self.search.semantic_weight);
        let Recommend { next, follows, together, similar, again, popular, ranked: _ } = self.recommend;
        let weights = [
            ("search.lexical_weight", lexical),
            ("search.semantic_weight", semantic),
            ("recommend.next", next.into()),
            ("recommend.follows", follows.into()),
            ("recommend.together", together.into()),
            ("recommend.similar", similar.into()),
            ("recommend.again", again.into()),
            ("recommend.popular", popular.into()),
        ];
        for (key, weight) in weights {
            if !weight.is_finite() || weight < 0.0 {
                return invalid(key, format!("is {weight}; it must be a finite number, 0 or more"));
            }
        }
        if lexical + semantic == 0.0 {
            return invalid("search.semantic_weight", "and `search.lexical_weight` must not both be 0".into());
        }
        Ok(())
    }
}

/// Variables of the commands `vitrine` and `vitrine-registry`, and those that networks read for themselves: set beside ours they
/// are no mistake.
const NOT_OURS: [&str; 5] =
    ["VITRINE_SERVER", "VITRINE_CATALOG", "VITRINE_CACHE", "VITRINE_CPU_ISA", "VITRINE_CUDA_PRECISION"];

fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Environment {
    let ours = |name: &String| !NOT_OURS.contains(&name.as_str());
    let variables = variables
        .filter_map(|(name, value)| Some((name.into_string().ok().filter(ours)?, value.into_string().ok()?)))
        .collect();
    let environment = Environment::with_prefix("VITRINE").prefix_separator("_").separator("__");
    environment.try_parsing(true).source(Some(variables))
}

fn at_least(key: &'static str, value: usize, least: usize) -> Result<(), ConfigError> {
    if value < least { invalid(key, format!("is {value}; it must be {least} or more")) } else { Ok(()) }
}

fn invalid(key: &'static str, problem: String) -> Result<(), ConfigError> {
    Err(ConfigError::Invalid { key, problem })
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok());
    if let Some(days) = days {
        return Ok(Duration::from_secs(days.saturating_mul(86_400)));
    }
    jiff::SignedDuration::from_str(&text)
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no duration; write it as \"10s\" or \"250ms\"")))
}

fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("`{text}` is no address; write it as \"127.0.0.1:9100\"")))
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Result<Config, ConfigError> {
        Config::load(None, &[(key, value.to_owned())])
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = Config::load(None, &[]).unwrap();
        assert_eq!(config.limits.max_page_size, 100);
        assert_eq!(config.tokens.attribution_ttl, Duration::from_secs(30 * 86_400));
        assert_eq!(config.metrics_listen, None);
    }

    #[test]
    fn the_documented_configuration_is_the_real_one() {
        assert!(include_str!("../../../docs/configuration.md").contains(DEFAULTS));
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (key, value) in [
            ("limits.max_page_size", "0"),
            ("limits.max_page_size", "many"),
            ("limits.default_timeout", "soon"),
            ("search.min_similarity", "7"),
            ("search.fusion", "magic"),
            ("text_encoder.device", "tpu"),
            ("text_encoder.policy", "newest"),
            ("listen", "nowhere"),
        ] {
            let message = with(key, value).unwrap_err().to_string();
            assert!(message.contains(key), "{key} = {value}: {message}");
        }
    }

    #[test]
    fn an_unknown_value_is_named() {
        let message = with("limits.max_pages", "3").unwrap_err().to_string();
        assert!(message.contains("max_pages"), "{message}");
    }

    #[test]
    fn the_environment_of_the_other_commands_and_of_the_networks_is_left_alone() {
        let read = |variables: &[(&str, &str)]| {
            let variables: Vec<_> = variables.iter().map(|&(name, value)| (name.into(), value.into())).collect();
            let layers = Layers::builder().add_source(environment(variables.into_iter()));
            layers.build().unwrap().try_deserialize::<serde_json::Value>().unwrap()
        };
        let read = read(&[
            ("VITRINE_SERVER", "http://127.0.0.1:1"),
            ("VITRINE_CPU_ISA", "avx2"),
            ("VITRINE_CUDA_PRECISION", "bf16"),
            ("VITRINE_LIMITS__MAX_PAGE_SIZE", "7"),
            ("VITRINE_TYPO", "x"),
            ("HOME", "/"),
        ]);
        assert_eq!(read, serde_json::json!({"limits": {"max_page_size": 7}, "typo": "x"}));
    }

    #[test]
    fn weights_must_not_both_be_zero() {
        let flags = [("search.lexical_weight", "0".to_owned()), ("search.semantic_weight", "0".to_owned())];
        assert!(Config::load(None, &flags).unwrap_err().to_string().contains("both"));
    }
}
