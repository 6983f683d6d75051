//! What a statement does and what it may leave behind in its session, read from its text. This is for comfort, for
//! accounting and for evidence; it is no wall: what a function does behind the text is confined by the database and by the
//! clearing of connections. It doesn't know who sends a text, nor what is done about it.

pub mod analysis;
pub mod catalog;
pub mod channels;
pub mod effects;
pub mod facts;
pub mod first_word;
pub mod guard_functions;
pub mod guard_hit;
pub mod guard_rule;
mod lexer;
pub mod measure;
pub mod normalize;
pub mod parse;
pub mod prefilter;
pub mod statement;

pub use analysis::Analysis;
pub use catalog::{Catalog, CatalogFunction, CatalogRelation, Known, Table};
pub use channels::{Channel, Mention};
pub use effects::{Effects, Reader};
pub use facts::{Asks, Facts, PinReason, Reset};
pub use guard_hit::{GuardHit, Object, Watched};
pub use guard_rule::{Rule, Rules};
pub use normalize::normalize;
pub use statement::{FunctionName, Relation, RowBound, Statement, StatementKind, Write, WriteVerb};
