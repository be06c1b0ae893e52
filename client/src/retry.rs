//! When a failed call may be sent again, and how long to wait before that.

use std::{error::Error as _, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::Backoff;

/// What happens when a call is sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The same as when it is sent once: it is retried.
    Safe,
    /// Perhaps something else: it is sent once.
    Unsafe,
}

/// How long to wait before the call that failed with `status` is sent again; `None`: another attempt would fail too,
/// or nobody knows.
///
/// `attempt` counts from 1; `random` draws from 0 to its argument.
pub(crate) fn wait_before_retry(
    status: &Status,
    attempt: u32,
    backoff: Backoff,
    random: impl FnOnce(Duration) -> Duration,
) -> Option<Duration> {
    let asked = status.get_details_retry_info().map(|info| info.retry_delay.unwrap_or_default());
    let passing = match status.code() {
        Code::Unavailable => true,
        // Without RetryInfo it is not a full queue but a limit: the same request meets it again.
        Code::ResourceExhausted => asked.is_some(),
        _ => connection_broke(status),
    };
    let bound = backoff.initial.saturating_mul(1 << (attempt - 1).min(16)).min(backoff.max);
    // What the server asks for is waited out in full; the jitter on top keeps clients from coming back together.
    passing.then(|| asked.unwrap_or_default() + random(bound))
}

/// Whether the status was made on this side because the connection went away in the middle of the call.
pub(crate) fn connection_broke(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled) && status.source().is_some()
}

/// A random time up to `bound`.
pub(crate) fn jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic_types::ErrorDetails;

    use super::*;

    const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(5) };

    fn busy(wait: Duration) -> Status {
        Status::with_error_details(Code::ResourceExhausted, "full", ErrorDetails::with_retry_info(Some(wait)))
    }

    #[test]
    fn a_full_queue_is_waited_out_for_as_long_as_it_asks() {
        let wait = wait_before_retry(&busy(Duration::from_secs(2)), 1, BACKOFF, |_| Duration::ZERO);
        assert_eq!(wait, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_limit_without_retry_info_is_final() {
        assert_eq!(wait_before_retry(&Status::resource_exhausted("disk full"), 1, BACKOFF, |b| b), None);
    }

    #[test]
    fn a_refusal_is_final() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::Internal, Code::DeadlineExceeded, Code::Aborted] {
            assert_eq!(wait_before_retry(&Status::new(code, ""), 1, BACKOFF, |b| b), None, "{code:?}");
        }
    }

    proptest! {
        #[test]
        fn the_bound_doubles_and_never_passes_the_maximum(attempt in 1_u32..100) {
            let wait = wait_before_retry(&Status::unavailable(""), attempt, BACKOFF, |bound| bound).unwrap();
            prop_assert!(wait >= BACKOFF.initial && wait <= BACKOFF.max);
            prop_assert!(attempt > 5 || wait == BACKOFF.initial * (1 << (attempt - 1)));
        }

        #[test]
        fn the_jitter_stays_within_its_bound(millis in 0_u64..10_000) {
            prop_assert!(jitter(Duration::from_millis(millis)) <= Duration::from_millis(millis));
        }
    }
}
