//! How many clients each workspace has, and that none has more than it may.

use std::sync::Arc;

use dashmap::DashMap;

use crate::domain::{Fault, Origin, SqlState, WorkspaceId};

/// The clients of all workspaces, in numbers.
#[derive(Debug, Default)]
pub struct Clients {
    workspaces: DashMap<WorkspaceId, usize, ahash::RandomState>,
}

/// A client that counts until this is dropped.
#[derive(Debug)]
pub struct Entered {
    clients: Arc<Clients>,
    workspace: WorkspaceId,
}

impl Clients {
    /// A client of the workspace comes in.
    ///
    /// # Errors
    /// 53300: it has as many as it may.
    pub fn enter(self: &Arc<Self>, workspace: WorkspaceId, most: usize) -> Result<Entered, Fault> {
        let mut count = self.workspaces.entry(workspace).or_insert(0);
        if *count >= most {
            let text = format!("too many connections for this workspace: {most} at most");
            let fault = Fault::new(Origin::Proxy, SqlState::TOO_MANY_CONNECTIONS, text);
            return Err(
                fault.hint("Close some that aren't used, or have an operator raise limits.client_connections_max.")
            );
        }
        *count += 1;
        Ok(Entered { clients: self.clone(), workspace })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(mut count) = self.clients.workspaces.get_mut(&self.workspace) {
            *count -= 1;
        }
        self.clients.workspaces.remove_if(&self.workspace, |_, count| *count == 0);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_workspace_has_its_ceiling_and_others_have_theirs() {
        let clients = Arc::<Clients>::default();
        let (one, other) = (WorkspaceId::new(Uuid::from_u128(1)), WorkspaceId::new(Uuid::from_u128(2)));
        let mut entered: Vec<_> = (0..3).map(|_| clients.enter(one, 3).expect("room")).collect();
        let fault = clients.enter(one, 3).expect_err("none");
        assert_eq!(fault.sqlstate, SqlState::TOO_MANY_CONNECTIONS);
        let _others = clients.enter(other, 3).expect("another's room");
        entered.pop();
        entered.push(clients.enter(one, 3).expect("room again"));
        drop(entered);
        assert_eq!(clients.workspaces.len(), 1, "who has none isn't kept");
    }
}
