//! The database side against a real Postgres: what `migrate`, `protect` and `harden` make must hold against a hostile
//! holder of the application role, with no proxy in between; and `check` must see each wall that is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod attested;
mod bound;
mod checked;
mod effective;
mod hardened;
mod kept;
mod metered;
mod metering;
mod migrated;
mod notifying;
#[allow(dead_code, reason = "other test binaries use it too")]
mod scratch;
mod protecting;
mod sealed;
mod tenant;
mod versions;
mod walls;
