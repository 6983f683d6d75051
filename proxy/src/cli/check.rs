//! `pgcordon check`: reports every hole in the isolation.

use super::Failure;
use super::connect::{Configured, administrator, run as block_on, schema};
use crate::control::schema::check::{self, Finding, Severity};

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    configured: Configured,
    /// Prints the findings as JSON
    #[arg(long)]
    json: bool,
}

const SEVERITIES: [(Severity, &str); 5] = [
    (Severity::Critical, "critical"),
    (Severity::High, "high"),
    (Severity::Medium, "medium"),
    (Severity::Low, "low"),
    (Severity::Info, "info"),
];

/// Checks.
///
/// # Errors
/// Postgres unreachable; or something above `info` is open (exit code 1).
#[allow(clippy::print_stdout, reason = "a command of the CLI")]
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let client = administrator(&settings).await?;
        let roles = &settings.upstream.roles;
        let findings = check::check(&client, roles, &settings.context_names()).await.map_err(schema)?;
        if args.json {
            println!("{}", as_json(&findings));
        } else {
            findings.iter().for_each(|finding| println!("{}", as_text(finding)));
        }
        let open = findings.iter().filter(|finding| finding.severity != Severity::Info).count();
        if open == 0 {
            if !args.json {
                println!("no holes found");
            }
            return Ok(());
        }
        Err(Failure::not_so(format!("{open} holes are open")).hint("each finding names what closes it"))
    })
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    let summary: serde_json::Map<_, _> =
        SEVERITIES.iter().map(|(severity, name)| ((*name).to_owned(), count(findings, *severity).into())).collect();
    serde_json::json!({ "findings": findings, "summary": summary })
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn as_text(finding: &Finding) -> String {
    let severity = SEVERITIES.iter().find(|(severity, _)| *severity == finding.severity).map_or("", |(_, name)| name);
    format!(
        "{severity:<8} {} [{}]\n         {}\n         fix: {}",
        finding.object, finding.id, finding.what, finding.fix
    )
}
