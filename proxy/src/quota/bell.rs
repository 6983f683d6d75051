//! A bell: whoever listened before it rings hears it.

use tokio::sync::watch;

/// Rings for everybody who listens.
#[derive(Debug)]
pub(super) struct Bell(watch::Sender<()>);

/// Somebody who listens.
#[derive(Debug)]
pub(super) struct Ear(watch::Receiver<()>);

impl Default for Bell {
    fn default() -> Self {
        Self(watch::channel(()).0)
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        self.0.send_replace(());
    }

    /// Hears every ring from now on.
    pub(super) fn listen(&self) -> Ear {
        Ear(self.0.subscribe())
    }
}

impl Ear {
    /// The next ring, or the one since the last call.
    pub(super) async fn heard(&mut self) {
        if self.0.changed().await.is_err() {
            // The bell is gone and nothing will ever ring. Who listens has a timeout.
            std::future::pending::<()>().await;
        }
    }
}
