//! Reads what Postgres' meters report: the DETAIL of an INFO message with SQLSTATE [`SQLSTATE`], which is
//! `TAG CHANGE CHANGE …`. A CHANGE is a resource's id and what a statement did to its rows: `7:+3` inserted, `7:-3` deleted for
//! certain, `7:~3` deleted, but inside a function, which may have undone it.
//!
//! It knows nothing of messages, nor of what is done with a report.

use smallvec::SmallVec;

use super::resource::ResourceId;
use crate::tenant::MeterTag;

/// The SQLSTATE of a report. A tenant can raise it too: the tag is the proof.
pub const SQLSTATE: [u8; 5] = *b"CM100";
/// How many changes one report may have; a table is seldom in more than one resource.
const CHANGES_MAX: usize = 64;

/// What one statement did to a resource's rows in one table. Never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// So many more are there, unless the transaction or a part of it is rolled back.
    Added(u64),
    /// So many fewer: the client's own statement did it, and nothing but a rollback that is seen on the wire undoes it.
    Removed(u64),
    /// So many fewer, perhaps: it was done inside a function, a trigger or a cascade, and an exception handler may have
    /// undone it. The count is stale, and no room is made.
    Doubtful(u64),
}

/// Why a text is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It has another tag: somebody forged it, or the signing key was replaced a moment ago. It proves nothing, but what is
    /// known of the workspace's counts is to be doubted.
    #[error("a meter's report has a wrong tag")]
    Forged,
    /// The tag is right, and the rest is nothing this program knows: a newer one made the triggers.
    #[error("a meter's report can't be read")]
    Malformed,
}

/// Reads the DETAIL of a report that the backend with this tag is to have sent.
///
/// # Errors
/// The tag is wrong, or the rest isn't as it should be.
pub fn read(detail: &[u8], tag: &MeterTag) -> Result<SmallVec<[(ResourceId, Change); 2]>, Unread> {
    let mut words = detail.split(|byte| *byte == b' ');
    if !words.next().is_some_and(|given| tag.is(given)) {
        return Err(Unread::Forged);
    }
    let mut changes = SmallVec::new();
    for word in words {
        if changes.len() == CHANGES_MAX {
            return Err(Unread::Malformed);
        }
        changes.push(change(word).ok_or(Unread::Malformed)?);
    }
    if changes.is_empty() { Err(Unread::Malformed) } else { Ok(changes) }
}

fn change(word: &[u8]) -> Option<(ResourceId, Change)> {
    let (id, change) = std::str::from_utf8(word).ok()?.split_once(':')?;
    let id = number(id).and_then(|id| i32::try_from(id).ok()).map(ResourceId)?;
    let (sign, rows) = change.split_at_checked(1)?;
    let rows = number(rows).filter(|rows| *rows > 0)?;
    let change = match sign {
        "+" => Change::Added(rows),
        "-" => Change::Removed(rows),
        "~" => Change::Doubtful(rows),
        _ => return None,
    };
    Some((id, change))
}

/// Digits alone; Rust's own parser takes a sign as well.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
