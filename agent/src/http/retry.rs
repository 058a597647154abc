//! Asking again: after which failures, how often, and how long to wait.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use ureq::http::StatusCode;

use super::Error;

/// Attempts at one request.
const ATTEMPTS: u32 = 3;
/// Longest pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Tells those who wait or read that the agent stops; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// From now on.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for at most `pause`; whether it was told to stop.
    #[must_use]
    pub fn sleep(&self, pause: Duration) -> bool {
        let stopped = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(stopped, pause, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Counts the attempts at one request.
#[derive(Debug, Default)]
pub struct Again(u32);

impl Again {
    /// How long to wait before the next attempt; `None` where another would not help.
    #[must_use]
    pub fn pause_after(&mut self, error: &Error) -> Option<Duration> {
        self.0 += 1;
        let wanted = match error {
            Error::Unreachable { .. } => Duration::ZERO,
            Error::Status {
                status:
                    StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT,
                retry_after,
                ..
            } => retry_after.unwrap_or_default(),
            _ => return None,
        };
        if self.0 >= ATTEMPTS {
            return None;
        }
        let backoff = FIRST_PAUSE * 2_u32.pow(self.0 - 1);
        Some(wanted + backoff.mul_f64(chance()))
    }
}

/// From 0 to below 1, another each time: so that a fleet does not ask in step.
#[must_use]
pub fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
pub(super) fn after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::parse(text.trim()).ok()?.timestamp();
    let left = date.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
    Duration::try_from(left).ok()
}
