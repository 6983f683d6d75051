//! Quotas, put together: the books, who keeps them, and where their definitions and requests come from.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::control::quota_store::Recount;
use crate::control::quota_truth::PostgresTruth;
use crate::control::{Control, Snapshot};
use crate::quota::bookkeeper::{self, OnWarning};
use crate::quota::{Accounts, ResourceId};

/// The books and those who keep them.
pub(super) struct Quotas {
    pub(super) accounts: Arc<Accounts>,
    stopping: watch::Sender<bool>,
    keeping: JoinHandle<()>,
}

impl Quotas {
    /// Opens the books, and has them kept on a runtime.
    pub(super) fn start(runtime: &Handle, settings: &Settings, data: &mut Control) -> anyhow::Result<Self> {
        let definitions = data.snapshot.load().quotas().clone();
        let accounts = Arc::new(Accounts::new(settings.quota.clone(), definitions));
        let truth = PostgresTruth::new(data.snapshot.clone(), settings.count_target()?, settings.control_target()?);
        let (stopping, stopped) = watch::channel(false);
        let on_warning: OnWarning = Box::new({
            let accounts = accounts.clone();
            move |(workspace, resource), warning| {
                let (percent, used, limit) = (warning.percent, warning.used, warning.limit);
                tracing::warn!(%workspace, resource = %accounts.name(resource), percent, used, limit, "a quota is nearly used up");
            }
        });
        let keeping = runtime.spawn(bookkeeper::keep(accounts.clone(), Arc::new(truth), on_warning, stopped));
        runtime.spawn(follow(accounts.clone(), data.snapshot.clone(), data.changed.clone()));
        if let Some(recounts) = data.recounts.take() {
            runtime.spawn(answer(accounts.clone(), recounts));
        }
        Ok(Self { accounts, stopping, keeping })
    }

    /// Records what there is of flows, within a bound. After the last client is gone.
    pub(super) async fn stop(self) {
        let _ = self.stopping.send(true);
        let _ = self.keeping.await;
    }
}

/// Takes over each new snapshot's definitions.
async fn follow(accounts: Arc<Accounts>, snapshot: Arc<arc_swap::ArcSwap<Snapshot>>, mut changed: watch::Receiver<()>) {
    while changed.changed().await.is_ok() {
        let snapshot = snapshot.load_full();
        accounts.define(snapshot.quotas().clone(), |workspace| snapshot.workspace(workspace).is_some());
    }
}

/// Counts anew what somebody asked for, one after the other. What isn't in use here is counted when it is.
async fn answer(accounts: Arc<Accounts>, mut recounts: mpsc::Receiver<Recount>) {
    while let Some(Recount { workspace, resource }) = recounts.recv().await {
        let all: Vec<ResourceId> = accounts.definitions().resources().iter().map(|resource| resource.id).collect();
        let wanted = all.into_iter().filter(|id| resource.is_none_or(|resource| resource == *id));
        for resource in wanted.filter(|resource| accounts.is_known(workspace, *resource)) {
            // A failure was logged, and nothing depends on it.
            let _ = accounts.recount(workspace, resource).await;
        }
    }
}
