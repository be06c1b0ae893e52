//! What can go wrong between a registry and its store, each with what to do about it.

use std::path::PathBuf;

use thiserror::Error;

use crate::name::ModelName;

/// What went wrong. `store` is the store's address, as `s3://models/prod`.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The text names no store.
    #[error("\"{0}\" names no store: use s3://BUCKET or s3://BUCKET/PREFIX")]
    Url(String),
    /// The settings do not fit together.
    #[error("{store} cannot be used: {reason}")]
    Settings {
        /// The store.
        store: String,
        /// Which, and what to do about it.
        reason: String,
    },
    /// Nobody answers.
    #[error("{store} cannot be reached ({reason}): check AWS_ENDPOINT_URL and the network")]
    Unreachable {
        /// The store.
        store: String,
        /// Why, down to the cause.
        reason: String,
    },
    /// There is no such bucket.
    #[error("{store}: there is no bucket \"{bucket}\": check its name and AWS_ENDPOINT_URL, or make it")]
    NoBucket {
        /// The store.
        store: String,
        /// The bucket.
        bucket: String,
    },
    /// No credentials are set, and the machine has none of its own.
    #[error("{store}: there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({reason})")]
    NoCredentials {
        /// The store.
        store: String,
        /// Why the machine has none.
        reason: String,
    },
    /// The store knows us not, or forbids what was asked.
    #[error(
        "{store} refuses ({reason}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do in the bucket"
    )]
    Refused {
        /// The store.
        store: String,
        /// What it says.
        reason: String,
    },
    /// The store answered with another error.
    #[error("{action} \"{key}\" in {store}: {reason}")]
    Failed {
        /// The store.
        store: String,
        /// What was being done.
        action: &'static str,
        /// To which object.
        key: String,
        /// Why it failed.
        reason: String,
    },
    /// All of it is gone at once, which is more often a slip than meant.
    #[error(
        "{store} has no versions at all, and {cache} mirrors some: nothing was removed. Check the prefix; if the store is \
         meant to be empty, delete that folder"
    )]
    Emptied {
        /// The store.
        store: String,
        /// The mirror's folder.
        cache: PathBuf,
    },
    /// The folder cannot be a mirror of this store.
    #[error("{cache} cannot mirror {store}: it {reason}. Give an empty folder")]
    Cache {
        /// The store.
        store: String,
        /// The folder.
        cache: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// Others kept changing the labels. Nothing was changed.
    #[error("the labels of model \"{model}\" in {store} change all the time; nothing was changed. Try again")]
    Busy {
        /// The store.
        store: String,
        /// The model.
        model: ModelName,
    },
    /// The synchronisation was told to end. The next one goes on.
    #[error("the synchronisation with {store} was told to end")]
    Stopped {
        /// The store.
        store: String,
    },
}
