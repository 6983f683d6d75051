//! What is limited, and to how much: the definitions as control data has them, immutable.

use std::collections::HashMap;
use std::sync::Arc;

use super::window::Per;
use crate::domain::WorkspaceId;

/// A resource, as `cordon.resource.id` and the meters' reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub i32);

/// How many rows at most; none is without limit.
pub type Limit = Option<u64>;

/// One table of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The table, as SQL quotes it.
    pub relation: String,
    /// Which of its rows count, if not all.
    pub filter: Option<String>,
    /// Counts a workspace's rows; `$1` is the workspace.
    pub count_sql: String,
}

/// A resource: one or more tables whose rows count together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// What people call it: printable ASCII.
    pub name: Arc<str>,
    /// The window of a flow; none for a stock.
    pub per: Option<Per>,
    /// The limit of a workspace that has none of its own.
    pub default_limit: Limit,
    /// Its tables.
    pub meters: Vec<Meter>,
}

/// All resources and limits at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    resources: Vec<Resource>,
    limits: HashMap<(WorkspaceId, ResourceId), Limit, ahash::RandomState>,
}

impl Definitions {
    /// Definitions that were loaded together. A limit of `None` is a workspace's own, and lifts the default.
    pub fn new(
        mut resources: Vec<Resource>,
        limits: impl IntoIterator<Item = (WorkspaceId, ResourceId, Limit)>,
    ) -> Self {
        resources.sort_unstable_by_key(|resource| resource.id);
        let limits = limits.into_iter().map(|(workspace, resource, limit)| ((workspace, resource), limit)).collect();
        Self { resources, limits }
    }

    /// All resources, by id.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The resource with this id.
    pub fn resource(&self, id: ResourceId) -> Option<&Resource> {
        let at = self.resources.binary_search_by_key(&id, |resource| resource.id).ok()?;
        self.resources.get(at)
    }

    /// The resource with this name.
    pub fn named(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| &*resource.name == name)
    }

    /// What holds for a workspace: its own limit, else the resource's.
    pub fn limit(&self, workspace: WorkspaceId, resource: ResourceId) -> Limit {
        match self.limits.get(&(workspace, resource)) {
            Some(own) => *own,
            None => self.resource(resource).and_then(|resource| resource.default_limit),
        }
    }

    /// What a workspace has of its own, if it has; `Some(None)` lifts the default.
    pub fn own_limit(&self, workspace: WorkspaceId, resource: ResourceId) -> Option<Limit> {
        self.limits.get(&(workspace, resource)).copied()
    }
}
