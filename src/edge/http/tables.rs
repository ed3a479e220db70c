//! What waits, as it was found a moment ago: finding it takes long with thousands of topics and groups, so it is found anew
//! only when somebody asks, on a thread of its own, and for a small part of the time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::Backlogs;
use crate::env::pool::Pool;
use crate::node::Node;

/// Groups in topics that are shown; further ones are counted only.
pub(in crate::edge::http) const ROWS_MAX: usize = 10_000;
/// What was found is shown for this long at least.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// Whoever asks waits for it at most so long, then shows what was found before.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// What was found, and when.
#[derive(Debug, Clone)]
pub(in crate::edge::http) struct Table {
    pub backlogs: Arc<Backlogs>,
    pub found_at: Instant,
    pub took: Duration,
}

impl Table {
    fn is_fresh(&self, times: u32) -> bool {
        self.found_at.elapsed() < FRESH_FOR.max(self.took * times)
    }
}

/// The table of a node.
pub(in crate::edge::http) struct Tables {
    known: watch::Sender<Option<Table>>,
    finding: Mutex<bool>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { known: watch::Sender::new(None), finding: Mutex::new(false) }
    }
}

impl Tables {
    /// The table, not older than so many times what finding it took; `None` if it was not found yet.
    pub async fn of(self: &Arc<Self>, node: &Arc<Node>, times: u32) -> Option<Table> {
        let mut known = self.known.subscribe();
        if !known.borrow_and_update().as_ref().is_some_and(|table| table.is_fresh(times)) {
            self.find(node);
            // Late or not, what is known is shown.
            let _ = tokio::time::timeout(WAIT_MAX, known.changed()).await;
        }
        known.borrow().clone()
    }

    fn find(self: &Arc<Self>, node: &Arc<Node>) {
        if std::mem::replace(&mut *self.finding.lock(), true) {
            return;
        }
        let (tables, node, runtime) = (self.clone(), node.clone(), Handle::current());
        // On a thread for what waits for the disk: in between, dozens of steps would come before whoever asks has a turn.
        Pool::Views.run(move || {
            let began = Instant::now();
            match runtime.block_on(node.inspector().backlogs(ROWS_MAX)) {
                Ok(backlogs) => {
                    let table = Table { backlogs: Arc::new(backlogs), found_at: Instant::now(), took: began.elapsed() };
                    tables.known.send_replace(Some(table));
                }
                Err(error) => tracing::warn!(%error, "metrics and dashboard: what waits could not be read"),
            }
            *tables.finding.lock() = false;
        });
    }
}
