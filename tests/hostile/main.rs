//! A tenant with a valid key of its own that wants what isn't its own. Every attack runs on one shared server connection
//! and on many; whatever it does, not a byte of the other tenant's may come back, and nothing of the other's may change.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod channels;
mod context;
mod corpus;
mod homes;
mod ledger;
mod line;
mod privilege;
mod protocol;
mod range;
mod residue;
mod serializable;
mod stage;
mod target;
mod volley;
mod walk;
