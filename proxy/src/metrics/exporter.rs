//! The text that Prometheus scrapes, made anew for each scrape.

use std::sync::Arc;

use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use super::counters::{CoreCounters, DoorCounters, Totals};
use crate::audit::{Recorder, Report};
use crate::limits::Tally;
use crate::pool::PoolsShared;
use crate::quota::Accounts;
use crate::sql::PinReason;

/// Everything that is exported.
pub struct Exporter {
    cores: Vec<Arc<CoreCounters>>,
    door: Arc<DoorCounters>,
    pools: Arc<PoolsShared>,
    recorder: Recorder,
    accounts: Arc<Accounts>,
    limits: Arc<Tally>,
}

impl Exporter {
    /// An exporter of these cores, their door and pools, of the audit trail, of quotas and of limits.
    pub const fn new(
        cores: Vec<Arc<CoreCounters>>,
        door: Arc<DoorCounters>,
        pools: Arc<PoolsShared>,
        recorder: Recorder,
        accounts: Arc<Accounts>,
        limits: Arc<Tally>,
    ) -> Self {
        Self { cores, door, pools, recorder, accounts, limits }
    }

    /// The exposition, in Prometheus' text format.
    ///
    /// # Errors
    /// A family that the library refuses, which would be a bug of ours.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let registry = Registry::new();
        self.clients(&registry)?;
        self.pools(&registry)?;
        if let Some(report) = self.recorder.report() {
            audit(&registry, &report)?;
        }
        super::quota::families(&registry, &self.accounts)?;
        limits(&registry, &self.limits)?;
        let mut out = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    fn clients(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let totals = Totals::of(&self.cores);
        let clients = IntGauge::new("pgcordon_client_connections", "Client sessions that are open")?;
        clients.set(totals.clients);
        put(registry, clients)?;
        let pinned = IntGaugeVec::new(
            Opts::new("pgcordon_clients_pinned", "Clients that keep their server connection, by the reason"),
            &["reason"],
        )?;
        for (reason, clients) in PinReason::ALL.into_iter().zip(totals.pinned) {
            pinned.with_label_values(&[reason.as_str()]).set(clients);
        }
        put(registry, pinned)?;
        let refused = IntCounter::new(
            "pgcordon_client_connections_refused_total",
            "Connections for which there was no room: server.connections_max",
        )?;
        refused.inc_by(self.door.total_refused());
        put(registry, refused)?;
        let transactions =
            IntCounterVec::new(Opts::new("pgcordon_transactions_total", "Transactions that were served"), &[])?;
        transactions.with_label_values::<&str>(&[]).inc_by(totals.transactions);
        put(registry, transactions)?;
        let logins = IntCounterVec::new(Opts::new("pgcordon_logins_total", "Logins by outcome"), &["outcome"])?;
        logins.with_label_values(&["ok"]).inc_by(totals.logins_ok);
        logins.with_label_values(&["refused"]).inc_by(totals.logins_refused);
        put(registry, logins)
    }

    fn pools(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let labels = ["database", "role"];
        let connections = IntGaugeVec::new(
            Opts::new("pgcordon_server_connections", "Server connections by state"),
            &["database", "role", "state"],
        )?;
        let waiting = IntGaugeVec::new(
            Opts::new("pgcordon_clients_waiting", "Clients that wait for a server connection"),
            &labels,
        )?;
        let clears =
            IntCounterVec::new(Opts::new("pgcordon_server_clears_total", "DISCARD ALLs between workspaces"), &labels)?;
        let moves = IntCounterVec::new(
            Opts::new("pgcordon_server_moves_total", "Server connections that changed cores"),
            &labels,
        )?;
        for pool in self.pools.report() {
            let (database, role) = (pool.database.as_str(), &*pool.role);
            let gauge = |state: &str, value: usize| {
                connections.with_label_values(&[database, role, state]).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            gauge("idle", pool.counts.idle);
            gauge("used", pool.counts.open - pool.counts.idle - pool.counts.ending);
            gauge("ending", pool.counts.ending);
            gauge("opening", pool.counts.opening);
            waiting.with_label_values(&[database, role]).set(i64::try_from(pool.counts.waiting).unwrap_or(i64::MAX));
            clears.with_label_values(&[database, role]).inc_by(pool.clears);
            moves.with_label_values(&[database, role]).inc_by(pool.moves);
        }
        put(registry, connections)?;
        put(registry, waiting)?;
        put(registry, clears)?;
        put(registry, moves)
    }
}

fn limits(registry: &Registry, tally: &Tally) -> Result<(), prometheus::Error> {
    let reached = IntCounterVec::new(
        Opts::new(
            "pgcordon_limits_reached_total",
            "Times a limit of one workspace was reached, by the name of its setting",
        ),
        &["limit"],
    )?;
    for (limit, times) in tally.report() {
        reached.with_label_values(&[limit]).inc_by(times);
    }
    put(registry, reached)
}

fn audit(registry: &Registry, report: &Report) -> Result<(), prometheus::Error> {
    let counters = [
        ("pgcordon_audit_events_total", "Events that were taken into the audit trail", report.recorded),
        (
            "pgcordon_audit_events_lost_total",
            "Events that couldn't be kept: queue, disk or spool were full",
            report.lost,
        ),
        (
            "pgcordon_audit_events_alike_total",
            "Events that were only counted: too many alike from one source",
            report.alike,
        ),
        ("pgcordon_audit_syncs_total", "Times the disk was asked to make sure", report.syncs),
        ("pgcordon_audit_write_failures_total", "Times the disk refused", report.failures),
        ("pgcordon_audit_shipped_total", "Records that the database took", report.shipped),
        ("pgcordon_audit_ship_failures_total", "Times the database didn't take any", report.ship_failures),
    ];
    for (name, help, value) in counters {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        put(registry, counter)?;
    }
    let gauges = [
        ("pgcordon_audit_failing", "1 while the audit trail can't be written", u64::from(report.failing)),
        ("pgcordon_audit_spool_bytes", "Bytes in the spool", report.spool_bytes),
        (
            "pgcordon_audit_unshipped_records",
            "Records of this run that the database doesn't have yet",
            report.unshipped,
        ),
    ];
    for (name, help, value) in gauges {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        put(registry, gauge)?;
    }
    Ok(())
}

pub(super) fn put(registry: &Registry, family: impl Collector + 'static) -> Result<(), prometheus::Error> {
    registry.register(Box::new(family))
}
