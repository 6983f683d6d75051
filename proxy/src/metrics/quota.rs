//! The families of quotas.

use prometheus::{IntCounterVec, Opts, Registry};

use super::exporter::put;
use crate::quota::Accounts;
use crate::quota::tally::Tally;

type Family = (&'static str, &'static str, fn(&Tally) -> u64);

const FAMILIES: [Family; 5] = [
    ("pgcordon_quota_refusals_total", "Reservations refused because the quota is exceeded", |tally| tally.refusals),
    ("pgcordon_quota_undecided_total", "Reservations that couldn't be decided", |tally| tally.undecided),
    ("pgcordon_quota_counts_total", "Counts of a workspace's rows", |tally| tally.counts),
    ("pgcordon_quota_count_failures_total", "Counts that failed", |tally| tally.failed_counts),
    ("pgcordon_quota_debt_rows_total", "Rows booked beyond a limit because nobody could stop them", |tally| {
        tally.debt_rows
    }),
];

/// Registers them, by resource.
pub(super) fn families(registry: &Registry, accounts: &Accounts) -> Result<(), prometheus::Error> {
    let tallies = accounts.tallies().all();
    for (name, help, value) in FAMILIES {
        let family = IntCounterVec::new(Opts::new(name, help), &["resource"])?;
        for (resource, tally) in &tallies {
            family.with_label_values(&[&*accounts.name(*resource)]).inc_by(value(tally));
        }
        put(registry, family)?;
    }
    Ok(())
}
