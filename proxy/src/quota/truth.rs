//! Where the truth about usage comes from. Postgres has it; this room only says what it asks.

use std::pin::Pin;

use super::resource::ResourceId;
use super::window::Window;
use crate::domain::WorkspaceId;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, Uncounted>> + Send + 'a>>;

/// The truth couldn't be had. What it says is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Uncounted(pub String);

/// What was inserted into a flow in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRows {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Of what.
    pub resource: ResourceId,
    /// When.
    pub window: Window,
    /// How many.
    pub rows: u64,
}

/// The truth about usage. It is asked by the bookkeeper alone, on the bookkeeper's runtime.
pub trait Truth: Send + Sync + 'static {
    /// How many rows of a stock there are that were committed before the answer's snapshot, which is taken after the call.
    fn count(&self, workspace: WorkspaceId, resource: ResourceId) -> Later<'_, u64>;

    /// Adds to what is recorded of flows, and tells what is recorded then, in the same order. Nothing added only asks.
    /// After an error the same batch is given again, until it is known to be recorded; it must be added once.
    fn add<'a>(&'a self, batch: &'a [FlowRows]) -> Later<'a, Vec<u64>>;
}
