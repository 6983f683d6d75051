//! What is known about one server connection, as plain values: until when its context is sealed, which statements it
//! has prepared, which settings were given to it. The session decides by it and the pool keeps it; neither knows the other.

pub mod alterations;
pub mod parameters;
pub mod repeats;
pub mod sequences;
pub mod settings;
pub mod state;
pub mod statement;

pub use alterations::Alterations;
pub use parameters::Parameters;
pub use repeats::{Circumstances, Standing};
pub use sequences::{Sequences, Stay};
pub use settings::Settings;
pub use state::{BackendState, Name, SessionId, Unnamed};
pub use statement::{Bodies, Body, Charge, Moment, Parsing};
