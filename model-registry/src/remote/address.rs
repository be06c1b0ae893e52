//! Where a registry is, and how its store is reached: `s3://bucket/prefix`, and the settings that every S3 tool reads.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr, sync::Arc};

use object_store::{
    BackoffConfig, ClientConfigKey, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};

use super::{
    error::StoreError,
    store::{self, Store},
    trouble,
};

/// How the addresses of stores begin.
const SCHEME: &str = "s3://";
/// The longest wait for a connection. Some networks do not refuse, they just never answer.
const CONNECT_TIMEOUT: &str = "3 seconds";
/// Requests as a whole take as long as the file is large; silence is what ends them.
const REQUEST_TIMEOUT: &str = "1 day";

/// The address of a registry on S3, or on a store that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreUrl {
    bucket: String,
    prefix: Path,
}

/// Where a registry is.
///
/// ```
/// use vitrine_registry::remote::Location;
///
/// assert!(matches!("s3://models/prod".parse(), Ok(Location::Store(_))));
/// assert!(matches!("/var/lib/registry".parse(), Ok(Location::Folder(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder here.
    Folder(PathBuf),
    /// A store.
    Store(StoreUrl),
}

impl StoreUrl {
    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Gets ready to speak to the store; nothing is sent yet.
    ///
    /// Settings are those of the environment's `AWS_…` variables; others are ignored, and so are empty ones.
    pub(super) fn connect(&self, settings: impl IntoIterator<Item = (String, String)>) -> Result<Store, StoreError> {
        let unfit = |reason: String| StoreError::Settings { store: self.to_string(), reason };
        let mut builder = AmazonS3Builder::new();
        for (name, value) in settings {
            if name.starts_with("AWS_")
                && !value.is_empty()
                && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
            {
                builder = builder.with_config(key, value);
            }
        }
        let set = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
        let is_on =
            |key| set(key).is_some_and(|on| ["1", "on", "true", "y", "yes"].contains(&on.to_lowercase().as_str()));
        let plain_allowed = is_on(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        if !plain_allowed && endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")) {
            return Err(unfit("its endpoint has no TLS: use https, or set AWS_ALLOW_HTTP=true".to_owned()));
        }
        let has_credentials = is_on(AmazonS3ConfigKey::SkipSignature) || set(AmazonS3ConfigKey::AccessKeyId).is_some();
        let client = |key| AmazonS3ConfigKey::Client(key);
        // Fails only if another was chosen before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let objects = builder
            .with_bucket_name(&self.bucket)
            .with_config(client(ClientConfigKey::ConnectTimeout), CONNECT_TIMEOUT)
            .with_config(client(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
            .with_retry(retry())
            .build()
            .map_err(|error| unfit(trouble::innermost(&error)))?;
        Store::new(self, endpoint, has_credentials, Arc::new(objects))
    }
}

/// A short hiccup is passed over; a store that is away is told within seconds.
fn retry() -> RetryConfig {
    let (init_backoff, max_backoff) = (store::SILENCE / 50, store::SILENCE / 10);
    let backoff = BackoffConfig { init_backoff, max_backoff, base: 2. };
    RetryConfig { backoff, max_retries: 2, retry_timeout: store::SILENCE / 2 }
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let refused = || StoreError::Url(text.to_owned());
        let address = text.strip_prefix(SCHEME).ok_or_else(refused)?;
        let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if bucket.is_empty() || !bucket.bytes().all(allowed) || prefix.starts_with('/') {
            return Err(refused());
        }
        let prefix = Path::parse(prefix).map_err(|_| refused())?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl FromStr for Location {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.starts_with(SCHEME) {
            return text.parse().map(Self::Store);
        }
        let Ok(folder): Result<_, Infallible> = text.parse();
        Ok(Self::Folder(folder))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        if self.prefix.is_root() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Store(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_alike() {
        for (text, written) in [
            ("s3://models", "s3://models"),
            ("s3://models/", "s3://models"),
            ("s3://my.models/a b/prod/", "s3://my.models/a b/prod"),
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_rule() {
        for text in ["s3://", "s3:///prod", "s3://a b", "s3://models//prod", "s3://models/../x", "s3://user@models"] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_must_be_allowed() {
        let url: StoreUrl = "s3://models".parse().unwrap();
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let endpoint = setting("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
        let error = url.connect([endpoint.clone()]).unwrap_err().to_string();
        assert!(error.contains("AWS_ALLOW_HTTP=true"), "{error}");
        assert!(url.connect([endpoint, setting("AWS_ALLOW_HTTP", "true")]).is_ok());
    }
}
