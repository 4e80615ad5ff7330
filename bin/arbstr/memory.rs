//! What routing has learned, kept in the database: taken up at the start, saved as time goes on and at the end.
//!
//! Nothing depends on it being there: without it arbstr begins afresh, and says so only when it should have been.

use std::sync::Arc;
use std::time::Duration;

use arbstr_store::Store;

use crate::app::{App, Live};
use crate::clock;

/// Takes up what an earlier process has learned.
pub(crate) async fn recall(live: &Live, store: &Store) {
    let reader = store.reader().clone();
    let saved = tokio::task::spawn_blocking(move || reader.load_state(NAME)).await;
    let bytes = match saved {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::warn!(%error, "what was learned about providers could not be read; routing begins afresh");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "reading what was learned about providers was lost");
            return;
        }
    };
    match live.market.load(&bytes, clock::now(), clock::unix_ms()) {
        Ok(()) => tracing::info!(
            bytes = bytes.len(),
            "took up what was learned about providers"
        ),
        Err(error) => {
            tracing::warn!(%error, "what was learned about providers cannot be used; routing begins afresh");
        }
    }
}

/// Saves what is learned, again and again.
pub(crate) async fn keep(app: Arc<App>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        save(&app);
    }
}

/// Saves what was learned so far.
pub(crate) fn save(app: &App) {
    let bytes = app.live().market.save(clock::now(), clock::unix_ms());
    app.store.save_state(NAME, bytes);
}

const NAME: &str = "route";
/// A crash loses no more than this.
const INTERVAL: Duration = Duration::from_secs(60);
