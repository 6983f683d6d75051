//! Records as people, spreadsheets and other programs read them, and an export as it is verified again.
//!
//! An export is a line that says what it is, the records stream by stream, and a last line with the heads. Texts in it are the
//! tenants' own: for a terminal every control character is written out, for a spreadsheet no text begins a formula.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufRead};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chain::{self, Head};
use super::event::EventType;
use super::row::Row;
use super::timestamp;
use super::verify::{Finding, Walk, What};

/// The columns of a CSV export.
pub const CSV_HEADER: &str = "stream,seq,at,workspace_id,key_id,event_type,severity,relation,resource,statement,rows,outcome,sqlstate,duration_us,client_addr,client_user,application_name,detail,prev_hash,hash";

/// The first line of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of this format.
    pub pgcordon_audit_export: u32,
    /// No record was left out.
    pub complete: bool,
}

/// The last line of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// Where each stream ends.
    pub heads: BTreeMap<Arc<str>, Head>,
}

/// One record for a person: one line, whatever is in it.
pub fn line(row: &Row) -> String {
    let mut out = format!("{} {:<8} {} {}", timestamp::write(row.at_us), row.severity, row.event_type, row.outcome);
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(out, " {name}={}", printable(&value));
        }
    };
    let text = |text: &Option<Arc<str>>| text.as_ref().map(ToString::to_string);
    say("workspace", row.workspace_id.map(|id| id.to_string()));
    say("key", text(&row.key_id));
    say("relation", text(&row.relation));
    say("resource", text(&row.resource));
    say("rows", row.rows.map(|rows| rows.to_string()));
    say("sqlstate", text(&row.sqlstate));
    say("from", row.client_addr.map(|addr| addr.to_string()));
    say("user", text(&row.client_user).filter(|user| row.key_id.as_deref() != Some(user)));
    say("application", text(&row.application_name));
    say("statement", text(&row.statement));
    say("detail", row.detail.as_ref().map(ToString::to_string));
    out
}

/// A text in which nothing moves a terminal's cursor, ends the line or turns it around; quoted when it has spaces.
fn printable(text: &str) -> String {
    let is_format = |each: char| matches!(each, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut out = String::with_capacity(text.len());
    for each in text.chars() {
        if each.is_control() || is_format(each) {
            out.extend(each.escape_default());
        } else {
            out.push(each);
        }
    }
    if out.is_empty() || out.contains([' ', '=']) {
        format!("{out:?}").replace("\\\\", "\\").replace("\\\"", "\"")
    } else {
        out
    }
}

/// One record as a line of CSV (RFC 4180).
pub fn csv(row: &Row) -> String {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    let shown = |value: Option<String>| value.unwrap_or_default();
    let cells = [
        row.stream.to_string(),
        row.seq.to_string(),
        timestamp::write(row.at_us),
        shown(row.workspace_id.map(|id| id.to_string())),
        text(&row.key_id),
        row.event_type.to_string(),
        row.severity.to_string(),
        text(&row.relation),
        text(&row.resource),
        text(&row.statement),
        shown(row.rows.map(|rows| rows.to_string())),
        row.outcome.to_string(),
        text(&row.sqlstate),
        shown(row.duration_us.map(|micros| micros.to_string())),
        shown(row.client_addr.map(|addr| addr.to_string())),
        text(&row.client_user),
        text(&row.application_name),
        shown(row.detail.as_ref().map(ToString::to_string)),
        row.prev_hash.to_string(),
        row.hash.to_string(),
    ];
    cells.map(|cell| quoted(&cell)).join(",")
}

fn quoted(cell: &str) -> String {
    // A spreadsheet takes these for the beginning of a formula, in quotes too.
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// What became of a verification.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong. Nothing: the trail is whole.
    pub findings: Vec<Finding>,
    /// Records that were looked at.
    pub records: u64,
    /// Records by which the trail itself tells of losses.
    pub losses: u64,
    /// Where each stream ends.
    pub heads: BTreeMap<Arc<str>, Head>,
}

impl Verdict {
    /// Counts a record.
    pub fn count(&mut self, row: &Row) {
        self.records += 1;
        self.losses += u64::from(row.event_type == EventType::AuditEventsLost.as_str());
    }
}

/// Verifies an export, line by line, and shows each record. `None` when it isn't one.
///
/// # Errors
/// The file can't be read.
pub fn verify(mut file: impl BufRead, mut each: impl FnMut(&Row)) -> io::Result<Option<Verdict>> {
    let mut line = Vec::new();
    file.read_until(b'\n', &mut line)?;
    let Some(header) = serde_json::from_slice::<Header>(&line).ok().filter(|header| header.pgcordon_audit_export == 1)
    else {
        return Ok(None);
    };
    let mut verdict = Verdict::default();
    let mut walks: BTreeMap<Arc<str>, Walk> = BTreeMap::new();
    let (mut trailer, mut registered, mut strays) = (None, BTreeSet::new(), 0_u64);
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if let Some(row) = Row::read(text) {
            verdict.count(&row);
            each(&row);
            if &*row.stream == "control" && row.event_type == EventType::AuditStarted.as_str() {
                let stream = row.detail.as_ref().and_then(|detail| detail.get("stream")?.as_str());
                registered.extend(stream.map(Arc::<str>::from));
            }
            let walk = walks.entry(row.stream.clone()).or_insert_with(|| Walk::from_the_first(row.stream.clone()));
            if header.complete {
                walk.row(&row);
            } else if chain::hash(&row) != row.hash {
                walk.found(row.seq, What::Changed);
            }
        } else if let (Ok(found), None) = (serde_json::from_slice::<Trailer>(text), &trailer) {
            trailer = Some(found);
        } else {
            strays += 1;
        }
    }
    let whole = |what| Finding { stream: "(the file)".into(), seq: verdict.records, what };
    verdict.findings.extend((0..strays).map(|_| whole(What::NoRecord)));
    let Some(trailer) = trailer else {
        verdict.findings.push(whole(What::CutOff));
        return Ok(Some(verdict));
    };
    for (stream, head) in &trailer.heads {
        let walk = walks.entry(stream.clone()).or_insert_with(|| Walk::from_the_first(stream.clone()));
        if header.complete {
            walk.end(*head);
        }
    }
    if header.complete {
        for (stream, walk) in &mut walks {
            match trailer.heads.get(stream) {
                Some(_) if &**stream == "control" || registered.contains(stream) => {}
                Some(_) => walk.found(0, What::StreamInserted),
                None => walk.found(walk.head().seq, What::Head),
            }
        }
        for stream in registered.iter().filter(|stream| !trailer.heads.contains_key(*stream)) {
            verdict.findings.push(Finding { stream: stream.clone(), seq: 0, what: What::StreamRemoved });
        }
    }
    verdict.heads = trailer.heads;
    verdict.findings.extend(walks.into_values().flat_map(|walk| walk.findings));
    Ok(Some(verdict))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::{Client, Event};

    fn event(stream: &str, head: &mut Head, event: Event) -> Row {
        let mut row = Row::unlinked(&stream.into(), event);
        head.link(&mut row);
        row
    }

    fn export() -> Vec<String> {
        let (mut control, mut proxy) = (Head::default(), Head::default());
        let registered = Event::new(EventType::AuditStarted, Arc::default());
        let mut rows =
            vec![event("control", &mut control, Event { detail: Some(json!({"stream": "p"})), ..registered.clone() })];
        rows.extend((0..4).map(|_| event("p", &mut proxy, registered.clone())));
        let trailer = Trailer { heads: [("control".into(), control), ("p".into(), proxy)].into() };
        let mut lines = vec![json!({"pgcordon_audit_export": 1, "complete": true}).to_string()];
        lines.extend(rows.iter().map(|row| {
            let mut line = Vec::new();
            row.write(&mut line);
            String::from_utf8(line).expect("UTF-8").trim_end().to_owned()
        }));
        lines.push(serde_json::to_string(&trailer).expect("JSON"));
        lines
    }

    fn findings(lines: &[String]) -> Vec<String> {
        let file = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let verdict = verify(file.as_bytes(), |_| {}).expect("read").expect("an export");
        verdict.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_export_is_verified_as_the_trail_is() {
        assert_eq!(findings(&export()), [""; 0]);
        let after = |tamper: &dyn Fn(&mut Vec<String>)| {
            let mut lines = export();
            tamper(&mut lines);
            findings(&lines)
        };
        assert_eq!(after(&|lines| drop(lines.remove(3))), ["stream p, record 3: record 2 is missing before it"]);
        assert_eq!(after(&|lines| drop(lines.remove(5))), ["stream p, at its end: record 4 is missing"]);
        assert_eq!(after(&|lines| drop(lines.drain(2..6))), ["stream p, at its end: records 1 to 4 are missing"]);
        assert_eq!(after(&|lines| drop(lines.pop())), ["stream (the file), the file: its end is missing"]);
        assert!(!after(&|lines| lines.swap(3, 4)).is_empty());
        let changed = after(&|lines| lines[3] = lines[3].replace("\"low\"", "\"high\""));
        assert_eq!(changed, ["stream p, record 2: was changed"]);
        assert!(!after(&|lines| drop(lines.remove(1))).is_empty(), "a stream without its registration");
        assert!(!after(&|lines| lines[2] = "{}".to_owned()).is_empty());
        assert!(verify("{\"x\":1}\n".as_bytes(), |_| {}).expect("read").is_none());
    }

    #[test]
    fn a_terminal_and_a_spreadsheet_are_safe_from_a_tenants_texts() {
        let client =
            Client { application_name: "=HYPERLINK(\"x\")\n\u{1b}[2J\u{202e}, end".into(), ..Client::default() };
        let row = event("s", &mut Head::default(), Event::new(EventType::ApiKeyAccess, Arc::new(client)));
        let shown = line(&row);
        assert!(shown.ends_with(r#"application="=HYPERLINK("x")\n\u{1b}[2J\u{202e}, end""#), "{shown}");
        let cells = csv(&row);
        assert!(cells.contains("\"'=HYPERLINK(\"\"x\"\")\n\u{1b}[2J\u{202e}, end\""), "{cells}");
        assert_eq!(CSV_HEADER.split(',').count(), 20);
    }
}
