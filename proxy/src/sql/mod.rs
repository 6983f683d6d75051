//! What a statement may leave behind in its session, read from its text. This is about keeping a client's own state;
//! it is no wall: what a function does behind the text is confined by the database and by the clearing of connections.

pub mod analysis;
pub mod facts;
pub mod parse;
pub mod prefilter;

pub use analysis::Analysis;
pub use facts::{Deallocates, Facts, PinReason};
