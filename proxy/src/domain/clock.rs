//! The only file that asks the time. Deciding code takes `now` as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use std::time::Instant;

/// A point of the monotonic clock, for timeouts and durations.
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch by this machine's clock; 0 for a clock before 1970.
pub fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().try_into().unwrap_or(i64::MAX)
}

/// Microseconds since the Unix epoch by this machine's clock, which may be set back; 0 for a clock before 1970.
pub fn unix_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros().try_into().unwrap_or(i64::MAX)
}
