//! `pgcordon audit verify`: holds the database's records and the spool's against their chain and against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::super::Failure;
use super::super::connect::{Configured, control, run as block_on, store as failed};
use super::super::serve;
use crate::audit::export::{self, Verdict};
use crate::audit::segments;
use crate::audit::verify::{Copies, Finding, Walk, What};
use crate::audit::{Head, Row};
use crate::config::Settings;
use crate::control::StoreError;
use crate::control::audit_read::{Filter, Reading};
use crate::control::audit_sink::CONTROL_STREAM;

/// More findings than this aren't printed.
const SHOWN_MAX: usize = 100;

/// Options of `audit verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory of `pgcordon dev --data-dir`, in place of a configuration
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    data_dir: Option<PathBuf>,
    /// A file that `audit export` wrote, in place of the trail itself
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Only what is on this machine's disk; Postgres isn't asked
    #[arg(long, conflicts_with = "export")]
    spool_only: bool,
    /// A head that an earlier verification printed, as STREAM:NUMBER:HASH: the record must still be the same
    #[arg(long = "head", value_name = "HEAD", value_parser = witness)]
    heads: Vec<(Arc<str>, Head)>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

fn witness(text: &str) -> Result<(Arc<str>, Head), String> {
    let read = text.split_once(':').and_then(|(stream, rest)| {
        let (seq, hash) = rest.split_once(':')?;
        Some((stream.into(), Head { seq: seq.parse().ok()?, hash: hash.parse().ok()? }))
    });
    read.ok_or_else(|| "expected STREAM:NUMBER:HASH, as `audit verify` prints it".to_owned())
}

pub(super) fn run(configured: &Configured, args: &Args) -> Result<(), Failure> {
    let mut witnesses = Witnesses::of(&args.heads);
    let verdict = if let Some(file) = &args.export {
        of_export(file, &mut witnesses)?
    } else {
        let settings = match &args.data_dir {
            Some(directory) => serve::load(Some(&directory.join("pgcordon.toml")))?,
            None => configured.settings()?,
        };
        if args.spool_only {
            of_spool(&settings, &mut witnesses)?
        } else {
            block_on(of_trail(&settings, &mut witnesses))?
        }
    };
    report(verdict, witnesses, args.json)
}

fn of_export(file: &Path, witnesses: &mut Witnesses) -> Result<Verdict, Failure> {
    let named = |error: std::io::Error| Failure::usage(format!("--export {}: {error}", file.display()));
    let reader = BufReader::new(File::open(file).map_err(named)?);
    export::verify(reader, |row| witnesses.see(&row.stream, Head { seq: row.seq, hash: row.hash }))
        .map_err(named)?
        .ok_or_else(|| {
            Failure::usage(format!("--export {}: this is no export of pgcordon", file.display()))
                .hint("`pgcordon audit export --format jsonl` writes one; csv can't be verified")
        })
}

/// What the spool has: streams may begin anywhere, for the database has the rest.
fn of_spool(settings: &Settings, witnesses: &mut Witnesses) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    let mut copies = copies(settings)?;
    verdict.findings.append(&mut copies.findings);
    for stream in copies.streams() {
        let mut walk = Walk::from_anywhere(stream.clone());
        copies.rest(&stream, &mut walk, |head| {
            verdict.records += 1;
            witnesses.see(&stream, head);
        });
        verdict.heads.insert(stream, walk.head());
    }
    Ok(verdict)
}

fn copies(settings: &Settings) -> Result<Copies, Failure> {
    let mut copies = Copies::default();
    let spool = settings.audit_directory();
    let named = |error: std::io::Error| Failure::outside(format!("the audit spool {}: {error}", spool.display()));
    if !spool.exists() {
        return Ok(copies);
    }
    for stream in segments::streams(&spool).map_err(named)? {
        let mut broken = None;
        let segments = segments::segments(&spool.join(&stream)).map_err(named)?;
        let read = segments.iter().filter_map(|segment| match segments::rows(&segment.path) {
            Ok(rows) => Some(rows),
            // The database has it since: it was given back while we looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                broken = Some(error);
                None
            }
        });
        copies.take(&stream.into(), read);
        if let Some(error) = broken {
            return Err(named(error));
        }
    }
    Ok(copies)
}

async fn of_trail(settings: &Settings, witnesses: &mut Witnesses) -> Result<Verdict, Failure> {
    // The spool first: what the proxy gives back meanwhile is in the database when that is read.
    let mut copies = copies(settings)?;
    let mut client = control(settings).await.map_err(|failure| {
        failure.hint("without Postgres, `audit verify --spool-only` checks what is on this machine's disk")
    })?;
    let reading = Reading::begin(&mut client).await.map_err(failed)?;
    let heads: BTreeMap<Arc<str>, Head> = reading.heads().await.map_err(failed)?.into_iter().collect();
    let registered = reading.registered().await.map_err(failed)?;
    let mut streams: BTreeSet<Arc<str>> = reading.streams().await.map_err(failed)?;
    let stored = streams.clone();
    streams.extend(heads.keys().cloned());
    streams.extend(registered.iter().cloned());
    streams.extend(copies.streams());
    let mut verdict = Verdict::default();
    verdict.findings.append(&mut copies.findings);
    for stream in streams {
        let mut walk = Walk::from_the_first(stream.clone());
        let each = |row: Row| {
            verdict.count(&row);
            witnesses.see(&row.stream, Head { seq: row.seq, hash: row.hash });
            walk.row(&row);
            copies.compare(&row, &mut walk);
            Ok::<_, StoreError>(())
        };
        reading.rows(&stream, &Filter::default(), each).await.map_err(failed)?;
        let in_database = stored.contains(&stream) || heads.contains_key(&stream);
        match heads.get(&stream) {
            Some(head) => walk.end(*head),
            None if stored.contains(&stream) => walk.found(walk.head().seq, What::Head),
            None if registered.contains(&stream) => walk.found(0, What::StreamRemoved),
            None => {}
        }
        if in_database && &*stream != CONTROL_STREAM && !registered.contains(&stream) {
            walk.found(0, What::StreamInserted);
        }
        copies.rest(&stream, &mut walk, |head| {
            verdict.records += 1;
            witnesses.see(&stream, head);
        });
        verdict.findings.append(&mut walk.findings);
        verdict.heads.insert(stream, walk.head());
    }
    Ok(verdict)
}

/// Heads that somebody kept: each must be met on the way.
struct Witnesses {
    unmet: BTreeMap<(Arc<str>, u64), Head>,
    findings: Vec<Finding>,
}

impl Witnesses {
    fn of(heads: &[(Arc<str>, Head)]) -> Self {
        let unmet = heads.iter().map(|(stream, head)| ((stream.clone(), head.seq), *head)).collect();
        Self { unmet, findings: Vec::new() }
    }

    fn see(&mut self, stream: &Arc<str>, seen: Head) {
        if self.unmet.is_empty() {
            return;
        }
        if let Some(kept) = self.unmet.remove(&(stream.clone(), seen.seq))
            && kept.hash != seen.hash
        {
            self.findings.push(Finding { stream: stream.clone(), seq: seen.seq, what: What::Differs });
        }
    }
}

fn report(mut verdict: Verdict, witnesses: Witnesses, as_json: bool) -> Result<(), Failure> {
    verdict.findings.extend(witnesses.findings);
    let unmet = witnesses.unmet.into_keys();
    verdict.findings.extend(unmet.map(|(stream, seq)| Finding { stream, seq: 0, what: What::RemovedAtEnd(seq, seq) }));
    // What is wrong in the spool alone is met twice.
    let mut met = BTreeSet::new();
    verdict.findings.retain(|finding| met.insert(finding.to_string()));
    let Verdict { findings, records, losses, heads } = &verdict;
    let count = findings.len();
    if as_json {
        let findings: Vec<_> = findings
            .iter()
            .map(|each| json!({"stream": each.stream, "seq": each.seq, "what": each.to_string()}))
            .collect();
        say!(
            "{}",
            json!({"whole": count == 0, "records": records, "losses": losses, "findings": findings, "heads": heads})
        );
    } else {
        findings.iter().take(SHOWN_MAX).for_each(|finding| say!("{finding}"));
        if *losses > 0 {
            say!("the trail itself tells of losses: see `pgcordon audit tail --type AUDIT_EVENTS_LOST`");
        }
        if count == 0 {
            say!("whole: {records} records in {} streams", heads.len());
            heads.iter().for_each(|(stream, Head { seq, hash })| say!("{stream}:{seq}:{hash}"));
        }
    }
    if count == 0 {
        return Ok(());
    }
    Err(Failure::not_so(format!("the audit trail isn't whole: {count} findings in {records} records")))
}
