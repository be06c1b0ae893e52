//! What can go wrong with a call, and what the caller can do about it.

use std::{collections::HashMap, fmt, time::Duration};

use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a call gave no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The address cannot be used: correct it.
    #[error("`{server}` is not a server address: {reason}")]
    Address {
        /// As given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answers there: start the server, or correct the address.
    #[error("no server answers at {server}: {reason}")]
    Unreachable {
        /// The address tried.
        server: String,
        /// The cause, as the operating system puts it.
        reason: String,
    },
    /// The server refused the call or could not complete it: see [`CallError::code`].
    #[error(transparent)]
    Call(#[from] Box<CallError>),
    /// The server broke the protocol: client and server are probably of different versions.
    #[error("{method}: the server's answer makes no sense: {detail}")]
    Protocol {
        /// The call.
        method: &'static str,
        /// What was wrong.
        detail: String,
    },
}

impl Error {
    pub(crate) fn from_status(method: &'static str, status: &Status, attempts: u32) -> Self {
        Self::Call(Box::new(CallError::new(method, status, attempts)))
    }

    /// The status code of the call. `UNAVAILABLE` when no server was reached.
    pub fn code(&self) -> Code {
        match self {
            Self::Address { .. } => Code::InvalidArgument,
            Self::Unreachable { .. } => Code::Unavailable,
            Self::Call(call) => call.code,
            Self::Protocol { .. } => Code::Internal,
        }
    }

    /// What a person can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address { .. } => "write it as http://HOST:PORT".to_owned(),
            Self::Unreachable { .. } => {
                "start vitrine-server, or name another one with --server or VITRINE_SERVER".to_owned()
            }
            Self::Protocol { .. } => "use a client and a server of the same version".to_owned(),
            Self::Call(call) => return call.hint(),
        };
        Some(hint)
    }
}

/// A call that the server answered with an error, or that did not reach it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallError {
    /// The call, as `Search`.
    pub method: &'static str,
    /// The status code.
    pub code: Code,
    /// The server's words.
    pub message: String,
    /// For programs, as `CATALOG_NOT_FOUND` (from `google.rpc.ErrorInfo`). Empty when the server gave none.
    pub reason: String,
    /// What the reason is about, as `catalog` → `grocery`.
    pub metadata: HashMap<String, String>,
    /// The fields of the request that are wrong.
    pub violations: Vec<Violation>,
    /// How long the server asks to wait before the call is sent again.
    pub retry_after: Option<Duration>,
    /// How often the call was sent.
    pub attempts: u32,
}

/// A field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, as `context.catalog`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl CallError {
    fn new(method: &'static str, status: &Status, attempts: u32) -> Self {
        let details = status.get_error_details();
        let (reason, metadata) =
            details.error_info().map(|info| (info.reason.clone(), info.metadata.clone())).unwrap_or_default();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            method,
            code: status.code(),
            message: status.message().to_owned(),
            reason,
            metadata,
            violations: violations
                .iter()
                .map(|v| Violation { field: v.field.clone(), description: v.description.clone() })
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            attempts,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self.code {
            Code::Unavailable => "check that the server runs and is ready: vitrine health --wait 60s",
            Code::DeadlineExceeded => "allow more time with --timeout, or ask for less at once",
            Code::ResourceExhausted if self.reason == "DISK_FULL" => {
                "free some space on the server's disk, then repeat"
            }
            Code::ResourceExhausted => match self.retry_after {
                Some(wait) => return Some(format!("the server is busy: try again in {wait:.1?}")),
                None => "the server has run out of room or the request is too large: send less, or free some space",
            },
            Code::NotFound if self.message.contains("catalog") => {
                "see which ones there are: vitrine catalogs list; make one: vitrine catalogs create NAME"
            }
            Code::Aborted => "somebody else changed it meanwhile: look at it again, then repeat",
            Code::Unimplemented => "this server does not have that call: use a client and a server of the same version",
            Code::OutOfRange if self.message.contains("too large") => "ask for a smaller page",
            Code::Internal | Code::Unknown | Code::DataLoss => "the server's log says more",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.method, code_name(self.code))?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for violation in &self.violations {
            // Servers often repeat the only violation as the message.
            if !self.message.contains(&violation.description) {
                write!(f, "; {}: {}", violation.field, violation.description)?;
            }
        }
        if self.attempts > 1 {
            write!(f, " (tried {} times)", self.attempts)?;
        }
        Ok(())
    }
}

impl std::error::Error for CallError {}

/// The code's name in the gRPC specification, as `NOT_FOUND`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    fn refused() -> Status {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("FIELD_INVALID", "vitrine", HashMap::from([("catalog".into(), "grocery".into())]))
            .set_bad_request(vec![FieldViolation::new("page_size", "must not be negative")]);
        Status::with_error_details(Code::InvalidArgument, "the request is malformed", details)
    }

    #[test]
    fn the_details_of_a_status_are_carried_over() {
        let error = CallError::new("Search", &refused(), 1);
        assert_eq!(error.reason, "FIELD_INVALID");
        assert_eq!(error.metadata["catalog"], "grocery");
        assert_eq!(error.violations[0].field, "page_size");
    }

    #[test]
    fn the_message_names_the_call_the_code_and_the_field() {
        let text = CallError::new("Search", &refused(), 1).to_string();
        assert_eq!(text, "Search: INVALID_ARGUMENT: the request is malformed; page_size: must not be negative");
    }

    #[test]
    fn a_busy_server_s_wait_is_in_the_hint() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let status = Status::with_error_details(Code::ResourceExhausted, "queue full", details);
        let error = Error::from_status("Search", &status, 2);
        assert_eq!(error.hint().unwrap(), "the server is busy: try again in 1.5s");
        assert!(error.to_string().ends_with("(tried 2 times)"));
    }
}
