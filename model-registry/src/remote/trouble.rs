//! Turns what a request's failure says into what to do about it.

use std::{error::Error as _, time::Duration};

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};

use super::{error::StoreError, store::Store};

/// Why a request brought nothing.
pub(super) enum Trouble {
    Silence(Duration),
    Store(Error),
}

impl Trouble {
    /// Whether a write may have been done all the same, and it takes one question to know.
    pub fn may_have_worked(&self) -> bool {
        match self {
            Self::Silence(_) => false,
            Self::Store(Error::Precondition { .. } | Error::AlreadyExists { .. }) => true,
            Self::Store(error) => http_kind(error).is_some_and(|kind| kind != HttpErrorKind::Connect),
        }
    }
}

impl Store {
    pub(super) fn odd(&self, action: &'static str, key: &str, reason: String) -> StoreError {
        StoreError::Failed { store: self.name.clone(), action, key: key.to_owned(), reason }
    }

    pub(super) fn failed(&self, action: &'static str, key: &str, trouble: Trouble) -> StoreError {
        let store = self.name.clone();
        let error = match trouble {
            Trouble::Silence(silence) => {
                let reason = format!("no answer within {} s", silence.as_secs());
                return StoreError::Unreachable { store, reason };
            }
            Trouble::Store(error) => error,
        };
        let (text, reason) = (error.to_string(), innermost(&error));
        // Without keys the machine's role is asked for some, at addresses that the message names.
        let asked_the_machine = ["/latest/", "credential"].iter().any(|sign| text.contains(sign));
        if names_no_bucket(&text) {
            StoreError::NoBucket { store, bucket: self.bucket.clone() }
        } else if !self.has_credentials && asked_the_machine {
            StoreError::NoCredentials { store, reason }
        } else if matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) {
            StoreError::Refused { store, reason }
        } else if http_kind(&error).is_some() {
            StoreError::Unreachable { store, reason }
        } else if text.contains("incorrectly configured region") {
            StoreError::Settings { store, reason: "its bucket is in another region: set AWS_REGION".to_owned() }
        } else {
            self.odd(action, key, reason)
        }
    }
}

pub(super) fn names_no_bucket(text: &str) -> bool {
    text.contains("NoSuchBucket")
}

/// Where the exchange with the server broke; none if it answered.
fn http_kind(error: &Error) -> Option<HttpErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        cause = error.source();
    }
    None
}

/// The cause at the bottom, in one line: above it, each layer says it again.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
