//! The audit trail: what happened, chained so that no record can be changed or taken out unnoticed, on disk before anybody
//! relies on it, and from there in the database.
//!
//! A proxy that runs writes one *stream*: records numbered from 1, each with the hash of the one before. A new start is a new
//! stream, in a directory of its own, so two proxies can share a spool and a copied machine can't continue another's chain.
//! This room knows neither the database (a [`Sink`](shipper::Sink) is handed in) nor sessions: it is told events.

pub mod chain;
pub mod event;
pub mod export;
pub mod flood;
mod line;
mod pace;
pub mod parcel;
pub mod recorder;
pub mod row;
pub mod segments;
pub mod settings;
pub mod shipper;
pub mod spool;
pub mod storage;
pub mod timestamp;
pub mod verify;
mod writer;

pub use chain::{Hash, Head};
pub use event::{Client, Event, EventType, Outcome, Severity};
pub use parcel::Parcel;
pub use recorder::{Recorder, Report, Ticket};
pub use row::Row;
pub use settings::Settings;
