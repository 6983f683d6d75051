//! Keeps one source from filling the trail. Events that nobody waits for (refused logins above all, which need no key) are
//! kept up to a rate for each kind and source; beyond it they are counted, and the count becomes one record.
//!
//! It decides by what it is told and by `now`. The source is the workspace, or the address of a client that has proven nothing;
//! those share a further rate, for who attacks from many addresses.

use core::net::IpAddr;
use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::event::{Event, EventType};
use crate::domain::clock::Instant;

/// This many of one kind from one source are kept at once.
pub const BURST: u32 = 200;
/// And this many a second from then on.
pub const PER_SECOND: u32 = 20;
/// The same for all clients together that have proven nothing.
pub const UNPROVEN_BURST: u32 = 2000;
/// And a second.
pub const UNPROVEN_PER_SECOND: u32 = 200;
/// What was counted becomes a record after this time.
pub const SUMMARY: Duration = Duration::from_secs(5);
/// How many sources are told apart; the rest share one account.
pub const SOURCES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Workspace(crate::domain::WorkspaceId),
    /// An IPv4 address, or the network of an IPv6 one: whoever has one address of it has them all.
    Address(u64),
    Rest,
    /// All of them together.
    Everybody,
}

impl Source {
    const fn rate(self) -> (f64, f64) {
        match self {
            Self::Everybody => (UNPROVEN_BURST as f64, UNPROVEN_PER_SECOND as f64),
            _ => (BURST as f64, PER_SECOND as f64),
        }
    }
}

struct Account {
    tokens: f64,
    at: Instant,
    counted: Option<Counted>,
}

struct Counted {
    /// The first of them, as the record for all.
    first: Event,
    count: u64,
    since: Instant,
}

/// The accounts of all sources.
#[derive(Default)]
pub struct Flood {
    accounts: HashMap<(EventType, Source), Account, ahash::RandomState>,
}

impl Flood {
    /// The event if it is to be kept, or none if it was counted.
    pub fn admit(&mut self, event: Event, now: Instant) -> Option<Event> {
        let kind = event.kind;
        let event = self.take(event, now, None)?;
        if is_unproven(kind) { self.take(event, now, Some(Source::Everybody)) } else { Some(event) }
    }

    fn take(&mut self, event: Event, now: Instant, source: Option<Source>) -> Option<Event> {
        let mut key = (event.kind, source.unwrap_or_else(|| source_of(&event)));
        if self.accounts.len() >= SOURCES_MAX && !self.accounts.contains_key(&key) {
            self.accounts.retain(|(_, source), account| {
                account.counted.is_some() || account.refilled(now, source.rate()) < source.rate().0
            });
            if self.accounts.len() >= SOURCES_MAX {
                key.1 = Source::Rest;
            }
        }
        let rate = key.1.rate();
        let account = self.accounts.entry(key).or_insert(Account { tokens: rate.0, at: now, counted: None });
        (account.tokens, account.at) = (account.refilled(now, rate), now);
        if account.tokens >= 1.0 {
            account.tokens -= 1.0;
            return Some(event);
        }
        match &mut account.counted {
            Some(counted) => counted.count += 1,
            None => account.counted = Some(Counted { first: event, count: 1, since: now }),
        }
        None
    }

    /// The records for what was counted long enough, or for all that was.
    pub fn summaries(&mut self, now: Instant, all: bool) -> Vec<Event> {
        let due = |counted: &mut Counted| all || now.duration_since(counted.since) >= SUMMARY;
        let counted = self.accounts.values_mut().filter_map(|account| account.counted.take_if(due));
        counted.map(|counted| summary(counted.first, counted.count)).collect()
    }

    /// Whether anything is counted that has no record yet.
    pub fn is_counting(&self) -> bool {
        self.accounts.values().any(|account| account.counted.is_some())
    }
}

impl Account {
    fn refilled(&self, now: Instant, (burst, per_second): (f64, f64)) -> f64 {
        let fresh = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        (self.tokens + fresh).min(burst)
    }
}

/// Whoever is refused at the door has proven nothing: a key id isn't secret.
const fn is_unproven(kind: EventType) -> bool {
    matches!(kind, EventType::ApiKeyAccessFailed | EventType::UserLoginFailed)
}

fn source_of(event: &Event) -> Source {
    match (event.workspace, event.client.addr) {
        (Some(workspace), _) if !is_unproven(event.kind) => Source::Workspace(workspace),
        (_, Some(IpAddr::V4(addr))) => Source::Address(u64::from(addr.to_bits())),
        (_, Some(IpAddr::V6(addr))) => match addr.to_ipv4_mapped() {
            Some(addr) => Source::Address(u64::from(addr.to_bits())),
            None => Source::Address(u64::try_from(addr.to_bits() >> 64).unwrap_or_default() | 1 << 63),
        },
        (_, None) => Source::Rest,
    }
}

fn summary(mut event: Event, count: u64) -> Event {
    let mut detail = match event.detail.take() {
        Some(Value::Object(detail)) => detail,
        _ => serde_json::Map::new(),
    };
    detail.insert("alike".to_owned(), json!(count));
    event.detail = Some(Value::Object(detail));
    event
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::Client;
    use crate::domain::clock;

    fn failed(addr: &str) -> Event {
        let client = Client { addr: addr.parse().ok(), ..Client::default() };
        Event::new(EventType::ApiKeyAccessFailed, Arc::new(client))
    }

    #[test]
    fn a_flood_becomes_one_record_with_its_count_and_hides_nobody_else() {
        let (mut flood, now) = (Flood::default(), clock::now());
        let kept = (0..1000).filter(|_| flood.admit(failed("192.0.2.1"), now).is_some()).count();
        assert_eq!(kept, BURST as usize);
        assert!(flood.admit(failed("192.0.2.2"), now).is_some(), "another source");
        let other_kind = Event { kind: EventType::ApiKeyAccess, ..failed("192.0.2.1") };
        assert!(flood.admit(other_kind, now).is_some(), "another kind");
        assert!(flood.summaries(now, false).is_empty(), "too early");
        let summaries = flood.summaries(now + SUMMARY, false);
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].detail, Some(json!({"alike": 800})));
        assert!(!flood.is_counting());
        let later = (0..1000).filter(|_| flood.admit(failed("192.0.2.1"), now + Duration::from_secs(1)).is_some());
        assert_eq!(later.count(), PER_SECOND as usize);
    }

    #[test]
    fn one_network_is_one_source_and_memory_is_bounded() {
        let (mut flood, now) = (Flood::default(), clock::now());
        let kept = (0..1000).filter(|n| flood.admit(failed(&format!("2001:db8::{n:x}")), now).is_some());
        assert_eq!(kept.count(), BURST as usize);
        for n in 0..3 * SOURCES_MAX {
            flood.admit(failed(&format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)), now);
        }
        assert!(flood.accounts.len() <= SOURCES_MAX + 2, "{}", flood.accounts.len());
        flood.admit(failed("192.0.2.9"), now + Duration::from_secs(3600));
        assert!(flood.accounts.len() < 10, "what has been quiet is forgotten: {}", flood.accounts.len());
    }

    #[test]
    fn many_addresses_together_are_bounded_too_and_a_victims_key_id_is_no_cover() {
        let (mut flood, now) = (Flood::default(), clock::now());
        let workspace = "00000000-0000-0000-0000-00000000000a".parse().ok();
        let from = |n: u32| Event { workspace, ..failed(&format!("10.0.{}.{}", n >> 8, n & 255)) };
        let kept = (0..3000).filter(|n| flood.admit(from(*n), now).is_some()).count();
        assert_eq!(kept, UNPROVEN_BURST as usize);
        let counted: u64 =
            flood.summaries(now, true).iter().filter_map(|event| event.detail.as_ref()?.get("alike")?.as_u64()).sum();
        assert_eq!(counted, 1000);
    }
}
