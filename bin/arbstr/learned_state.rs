//! What routing has learned, kept in the database: taken up at the start, saved as time goes on and at the end.
//!
//! Nothing depends on it being there: without it arbstr begins afresh, and says so only when it should have been.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arbstr_store::Store;

use crate::app::{App, Live};
use crate::clock;

/// What is kept of what was learned. Nothing is saved over what an earlier process left until that has been read: a
/// database that is out of reach for a moment must not cost what took weeks to learn.
#[derive(Debug, Clone)]
pub(crate) struct LearnedState {
    name: &'static str,
    is_read: Arc<AtomicBool>,
}

impl LearnedState {
    /// The memory of this kind of process: what built-in providers have taught says nothing about real ones.
    pub(crate) fn of(mock: bool) -> Self {
        Self {
            name: if mock { MOCK_NAME } else { NAME },
            is_read: Arc::default(),
        }
    }

    /// Takes up what an earlier process has learned.
    pub(crate) async fn recall(&self, live: &Live, store: &Store) {
        let reader = store.reader().clone();
        let name = self.name;
        let saved = tokio::task::spawn_blocking(move || reader.load_state(name)).await;
        let bytes = match saved {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was learned about providers cannot be read yet; it is tried again");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "reading what was learned about providers was lost; it is tried again");
                return;
            }
        };
        self.is_read.store(true, Ordering::Relaxed);
        if let Some(bytes) = bytes {
            take_up(live, &bytes);
        }
    }

    /// Saves what is learned, again and again.
    pub(crate) async fn keep(self, app: Arc<App>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if !self.is_read.load(Ordering::Relaxed) {
                self.recall(&app.keep_live(), &app.store).await;
            }
            self.save(&app);
        }
    }

    /// Saves what was learned so far.
    pub(crate) fn save(&self, app: &App) {
        if self.is_read.load(Ordering::Relaxed) {
            let bytes = app.live().market.save(clock::now(), clock::unix_ms());
            app.store.save_state(self.name, bytes);
        }
    }
}

fn take_up(live: &Live, bytes: &[u8]) {
    match live.market.load(bytes, clock::now(), clock::unix_ms()) {
        Ok(()) => tracing::info!(
            bytes = bytes.len(),
            "took up what was learned about providers"
        ),
        Err(error) => {
            tracing::warn!(%error, "what was learned about providers cannot be used; routing begins afresh");
        }
    }
}

const NAME: &str = "route";
const MOCK_NAME: &str = "route of mock";
/// A crash loses no more than this.
const INTERVAL: Duration = Duration::from_secs(60);
