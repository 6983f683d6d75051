//! What commands print. That it couldn't be written is known at the end, and is a failure of its own: a script that reads
//! half of an answer must not take it for the whole.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};
use std::sync::OnceLock;

use super::Failure;

/// The first thing that kept a line from being written.
static FAILED: OnceLock<String> = OnceLock::new();

/// Prints a line. A reader that has gone away isn't an error: `pgcordon key list | head`.
pub(super) fn line(text: Arguments<'_>) {
    if let Err(error) = secret_line(text)
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = FAILED.set(error.to_string());
    }
}

/// Prints a line that can't be printed again.
///
/// # Errors
/// It didn't get out, for whatever reason.
pub(super) fn secret_line(text: Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// What became of the lines.
///
/// # Errors
/// One couldn't be written.
pub(super) fn complete() -> Result<(), Failure> {
    match FAILED.get() {
        Some(error) => Err(Failure::outside(format!("the output can't be written: {error}"))),
        None => Ok(()),
    }
}
