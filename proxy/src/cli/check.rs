//! `pgcordon check`: reports every hole in the isolation.

use std::fmt::Write as _;

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
pub fn run(args: Args) -> Result<(), Failure> {
    let settings = args.configured.settings()?;
    block_on(async {
        let client = administrator(&settings).await?;
        let roles = &settings.upstream.roles;
        let findings = check::check(&client, roles, &settings.context_names()).await.map_err(schema)?;
        if args.json {
            say!("{}", as_json(&findings));
        } else {
            say!("{}", as_text(&findings));
        }
        let open = findings.iter().filter(|finding| finding.severity != Severity::Info).count();
        if open == 0 {
            if !args.json {
                say!("no holes found");
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

/// The worst first; what is said of many objects is said once.
fn as_text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for (severity, name) in SEVERITIES {
        let mut alike: Vec<(&Finding, Vec<&str>)> = Vec::new();
        for finding in findings.iter().filter(|finding| finding.severity == severity) {
            match alike
                .iter_mut()
                .find(|(first, _)| (&first.id, &first.what, &first.fix) == (&finding.id, &finding.what, &finding.fix))
            {
                Some((_, objects)) => objects.push(&finding.object),
                None => alike.push((finding, vec![&finding.object])),
            }
        }
        for (finding, objects) in alike {
            let objects = objects.join(", ");
            let Finding { id, what, fix, .. } = finding;
            let _ = write!(out, "{name:<8} {objects} [{id}]\n         {what}\n         fix: {fix}\n");
        }
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, object: &str, fix: &str) -> Finding {
        let fix = fix.to_owned();
        Finding { id: "rule", severity, object: object.to_owned(), what: "is open".to_owned(), fix }
    }

    #[test]
    fn what_is_said_of_many_objects_is_said_once_and_the_worst_first() {
        let findings = [
            finding(Severity::Info, "a", "close it"),
            finding(Severity::Critical, "b", "close it"),
            finding(Severity::Info, "c", "close it"),
            finding(Severity::Info, "d", "close d"),
        ];
        let lines: Vec<String> = as_text(&findings).lines().map(|line| line.trim().to_owned()).collect();
        let expected = [
            "critical b [rule]",
            "is open",
            "fix: close it",
            "info     a, c [rule]",
            "is open",
            "fix: close it",
            "info     d [rule]",
            "is open",
            "fix: close d",
        ];
        assert_eq!(lines, expected);
        assert_eq!(as_json(&findings)["summary"]["info"], 3);
    }
}
