//! The time a call has: `grpc-timeout` as the client sent it, or the server's default.
//!
//! tonic enforces the header by itself, but does not hand it to the code that wants to refuse work in time.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

/// The instant by which the caller wants its answer.
pub fn deadline(metadata: &MetadataMap, default: Duration) -> Instant {
    let timeout = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse).unwrap_or(default);
    Instant::now() + timeout.min(MAXIMUM)
}

/// Longer timeouts count as this, so that no arithmetic on instants overflows.
const MAXIMUM: Duration = Duration::from_hours(24);

/// Parses `TimeoutValue TimeoutUnit` of the gRPC protocol: up to eight digits and one of `HMSmun`.
fn parse(value: &str) -> Option<Duration> {
    let unit = value.chars().last()?;
    let amount = value.strip_suffix(unit)?;
    if amount.len() > 8 || !amount.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = amount.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_the_protocol_is_understood() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7_200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("7n", Duration::from_nanos(7)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn rubbish_counts_as_absent() {
        for text in ["", "S", "5", "-5S", "5 S", "123456789S", "5x", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_huge_timeout_does_not_overflow() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "99999999H".parse().unwrap());
        assert!(deadline(&metadata, Duration::from_secs(1)) > Instant::now());
    }
}
