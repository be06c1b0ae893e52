//! From this crate's errors to gRPC statuses: one place that decides code, reason and details.
//!
//! Every status carries `google.rpc.ErrorInfo` with domain `vitrine` and a reason in capitals; `docs/api.md` has the
//! table of reasons.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "vitrine";

/// Fields that are wrong, collected so that one answer names them all.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Adds a field by its path, as `items[3].id`, and what is wrong with it.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.into(),
            description: description.into(),
            ..FieldViolation::default()
        });
    }

    /// How many fields are wrong so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields as they go into an answer.
    pub fn into_messages(self) -> Vec<vitrine::v1::FieldViolation> {
        self.0
            .into_iter()
            .map(|violation| vitrine::v1::FieldViolation { field: violation.field, description: violation.description })
            .collect()
    }

    /// `INVALID_ARGUMENT` naming all of them, if there are any.
    pub fn into_result(self) -> Result<(), Status> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_status()) }
    }

    /// `INVALID_ARGUMENT` naming all of them.
    pub fn into_status(self) -> Status {
        let message = self
            .0
            .iter()
            .map(|violation| format!("`{}` {}", violation.field, violation.description))
            .collect::<Vec<_>>()
            .join("; ");
        let mut details = info("INVALID_FIELD", []);
        details.set_bad_request(self.0);
        Status::with_error_details(Code::InvalidArgument, message, details)
    }
}

/// `INVALID_ARGUMENT` for one field.
pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Status {
    let mut violations = Violations::default();
    violations.add(field, description);
    violations.into_status()
}

/// `NOT_FOUND` for a resource, with a hint what to do.
pub fn not_found(resource_type: &str, name: &str, hint: &str) -> Status {
    let mut details = info("RESOURCE_NOT_FOUND", [("resource", name)]);
    details.set_resource_info(resource_type, name, "", hint);
    Status::with_error_details(Code::NotFound, format!("there is no {resource_type} `{name}`: {hint}"), details)
}

/// `NOT_FOUND` because no model does what was asked.
pub fn no_model(task: &str, detail: &str) -> Status {
    let details = info("NO_MODEL_FOR_TASK", [("task", task)]);
    Status::with_error_details(Code::NotFound, format!("no model serves the task `{task}`: {detail}"), details)
}

/// `RESOURCE_EXHAUSTED`, to be tried again after a while.
pub fn exhausted(reason: &str, message: impl Into<String>, retry_after: Duration) -> Status {
    let mut details = info(reason, []);
    details.set_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// `DEADLINE_EXCEEDED`.
pub fn out_of_time() -> Status {
    let details = info("DEADLINE_EXCEEDED", []);
    Status::with_error_details(Code::DeadlineExceeded, "the call's time was over before its answer was ready", details)
}

/// `UNAVAILABLE`, to be tried again.
pub fn unavailable(reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(Code::Unavailable, message, info(reason, []))
}

/// Any other status with its reason.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, info(reason, []))
}

/// `INTERNAL`: a fault of ours. What went wrong is logged, and not told to the client.
pub fn internal(error: impl std::fmt::Display) -> Status {
    tracing::error!(%error, "internal error");
    status(Code::Internal, "INTERNAL", "internal error; the server's log tells more")
}

fn info<const N: usize>(reason: &str, metadata: [(&str, &str); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
