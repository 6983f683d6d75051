//! `pgcordon audit`: shows, exports and verifies the audit trail.

mod verify;

use std::io::{BufWriter, Write};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use tokio_postgres::Client;

use super::Failure;
use super::connect::{Configured, control, run as block_on, store as failed};
use crate::audit::export::{self, Header, Trailer};
use crate::audit::{EventType, Row};
use crate::control::audit_read::{self, Filter, Reading};
use crate::control::{StoreError, store};

/// How often `tail -f` looks for more.
const FOLLOW: Duration = Duration::from_millis(500);

/// Options of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows the newest events
    Tail {
        #[command(flatten)]
        which: Which,
        /// Goes on with what comes
        #[arg(short, long)]
        follow: bool,
        /// How many of those that are there
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
        lines: i64,
        /// Prints JSON, a line for each event
        #[arg(long)]
        json: bool,
    },
    /// Writes all events to stdout
    Export {
        #[command(flatten)]
        which: Which,
        /// jsonl can be verified again; csv is for spreadsheets
        #[arg(long, value_enum, default_value = "jsonl")]
        format: Format,
    },
    /// Says whether the trail is whole, or where it was changed; exit code 1 if it was
    Verify(verify::Args),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Only those of this workspace, by name or id
    #[arg(long, value_name = "W")]
    workspace: Option<String>,
    /// Only those of this type, such as QUOTA_EXCEEDED
    #[arg(long = "type", value_name = "T", value_parser = event_type)]
    event_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

/// Does what is asked.
///
/// # Errors
/// Postgres unreachable, no such workspace; or the trail isn't whole (exit code 1).
pub fn run(args: Args) -> Result<(), Failure> {
    let configured = args.configured;
    match args.action {
        Action::Verify(args) => verify::run(&configured, &args),
        Action::Tail { which, follow, lines, json } => block_on(async {
            let client = control(&configured.settings()?).await?;
            let filter = which.filter(&client).await?;
            tail(&client, &filter, lines, follow, json).await
        }),
        Action::Export { which, format } => block_on(async {
            let mut client = control(&configured.settings()?).await?;
            let filter = which.filter(&client).await?;
            export(&mut client, &filter, format).await
        }),
    }
}

impl Which {
    async fn filter(&self, client: &Client) -> Result<Filter, Failure> {
        let workspace = match &self.workspace {
            // One that was deleted still has its events: its id is enough.
            Some(id) if uuid::Uuid::parse_str(id).is_ok() => uuid::Uuid::parse_str(id).ok(),
            Some(name) => Some(store::find_workspace(client, name).await.map_err(failed)?.id.uuid()),
            None => None,
        };
        Ok(Filter { workspace, event_type: self.event_type.clone() })
    }
}

fn event_type(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    if EventType::ALL.iter().any(|known| known.as_str() == name) {
        return Ok(name);
    }
    let known: Vec<&str> = EventType::ALL.iter().map(|known| known.as_str()).collect();
    Err(format!("there is no such type; there are {}", known.join(", ")))
}

async fn tail(client: &Client, filter: &Filter, lines: i64, follow: bool, json: bool) -> Result<(), Failure> {
    let mut seen = audit_read::seen(client).await.map_err(failed)?;
    show(&audit_read::last(client, filter, lines).await.map_err(failed)?, json)?;
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW).await;
        show(&audit_read::since(client, filter, &mut seen).await.map_err(failed)?, json)?;
    }
}

fn show(rows: &[Row], json: bool) -> Result<(), Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        if json {
            row.write(&mut line);
        } else {
            line.extend_from_slice(export::line(row).as_bytes());
            line.push(b'\n');
        }
        out.write_all(&line).map_err(|error| gone(&error))?;
    }
    out.flush().map_err(|error| gone(&error))
}

/// Whoever reads our output has gone, or its disk is full.
fn gone(error: &std::io::Error) -> Failure {
    Failure::outside(format!("the output can't be written: {error}"))
}

/// What stops an export.
enum Stopped {
    Store(StoreError),
    Output(std::io::Error),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn export(client: &mut Client, filter: &Filter, format: Format) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    write_export(client, filter, format, &mut out).await.map_err(|stopped| match stopped {
        Stopped::Store(error) => failed(error),
        Stopped::Output(error) => gone(&error),
    })
}

async fn write_export(
    client: &mut Client,
    filter: &Filter,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Stopped> {
    let complete = filter.workspace.is_none() && filter.event_type.is_none();
    let reading = Reading::begin(client).await?;
    let heads = reading.heads().await?;
    match format {
        Format::Csv => writeln!(out, "{}", export::CSV_HEADER).map_err(Stopped::Output)?,
        Format::Jsonl => {
            let header = Header { pgcordon_audit_export: 1, complete };
            writeln!(out, "{}", json!(header)).map_err(Stopped::Output)?;
        }
    }
    let mut line = Vec::new();
    for stream in reading.streams().await? {
        let each = |row: Row| {
            line.clear();
            match format {
                Format::Jsonl => row.write(&mut line),
                Format::Csv => line.extend_from_slice(format!("{}\r\n", export::csv(&row)).as_bytes()),
            }
            out.write_all(&line).map_err(Stopped::Output)
        };
        reading.rows(&stream, filter, each).await?;
    }
    if format == Format::Jsonl {
        let trailer = Trailer { heads: heads.into_iter().collect() };
        writeln!(out, "{}", json!(trailer)).map_err(Stopped::Output)?;
    }
    out.flush().map_err(Stopped::Output)
}
