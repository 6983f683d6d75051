//! How much of each resource a workspace may have, held by escrow: what is used and what transactions in flight have
//! reserved never exceed the limit together. `escrow` is the arithmetic, `accounts` the store that all cores share,
//! `decide` asks the truth before anybody is refused, `bookkeeper` counts it. `meter` reads what Postgres
//! reports. Nothing here knows SQL or a session.

pub mod accounts;
mod bell;
pub mod bookkeeper;
mod counting;
mod decide;
pub mod escrow;
mod flow;
pub mod ledger;
pub mod meter;
pub mod resource;
pub mod settings;
pub mod tally;
pub mod truth;
pub mod verdict;
pub mod window;

pub use accounts::{Accounts, Adjusted, Settlement, Usage};
pub use escrow::{Answer, Doubt, Moment, Warning};
pub use ledger::Ledger;
pub use meter::{Change, Unread};
pub use resource::{Definitions, Limit, Meter, Resource, ResourceId};
pub use settings::Settings;
pub use truth::{Truth, Uncounted};
pub use verdict::{Exceeded, Refusal};
