//! What changes from second to second, sent to those who look (server-sent events). One sample a second for all of them, and
//! none while nobody looks. Whoever is slow misses samples, and holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::documents;
use crate::edge::http::dashboard::site::Site;
use crate::edge::http::dashboard::timeline::Timeline;
use crate::env::clock::wall;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Those who may look at once.
pub(super) const LISTENERS_MAX: usize = 16;
/// A browser that lost its connection comes again after this.
const BEGINNING: &[u8] = b"retry: 2000\n\n";

/// The samples, and who has them sent.
pub(super) struct Feed {
    /// The last one, ready to be sent; empty before the first.
    sample: watch::Sender<Bytes>,
    room: Arc<Semaphore>,
    is_sampling: Mutex<bool>,
    timeline: Arc<Timeline>,
}

impl Feed {
    pub fn new(timeline: Arc<Timeline>) -> Self {
        let room = Arc::new(Semaphore::new(LISTENERS_MAX));
        Self { sample: watch::Sender::new(Bytes::new()), room, is_sampling: Mutex::new(false), timeline }
    }

    /// What a new listener is sent, until it goes or the node stops; `None` if there is no room for it.
    pub fn listen(self: &Arc<Self>, site: &Arc<Site>) -> Option<(mpsc::Receiver<Bytes>, OwnedSemaphorePermit)> {
        let permit = self.room.clone().try_acquire_owned().ok()?;
        let mut samples = {
            let mut is_sampling = self.is_sampling.lock();
            let samples = self.sample.subscribe();
            if !std::mem::replace(&mut *is_sampling, true) {
                // What was sent to others long ago is no sample of now.
                self.sample.send_replace(Bytes::new());
                tokio::spawn(self.clone().run(site.clone()));
            }
            samples
        };
        let (sender, receiver) = mpsc::channel(1);
        let stopping = site.node.stopping().clone();
        tokio::spawn(stopping.run_until_cancelled_owned(async move {
            let mut next = Bytes::from_static(BEGINNING);
            while next.is_empty() || sender.send(next).await.is_ok() {
                tokio::select! {
                    changed = samples.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
                next = samples.borrow_and_update().clone();
            }
        }));
        Some((receiver, permit))
    }

    /// Samples until nobody listens.
    async fn run(self: Arc<Self>, site: Arc<Site>) {
        loop {
            {
                let mut is_sampling = self.is_sampling.lock();
                if self.sample.receiver_count() == 0 || site.node.stopping().is_cancelled() {
                    *is_sampling = false;
                    return;
                }
            }
            let next = Instant::now() + SAMPLE_EVERY;
            if let Ok(status) = site.cluster_status().await {
                let sample = json!({
                    "at_ms": wall().0,
                    "node": site.node.settings().name.to_string(),
                    "cluster": documents::cluster::document(status),
                    "leaders_changed_ms": self.timeline.last_at(),
                });
                self.sample.send_replace(format!("data: {sample}\n\n").into());
            }
            sleep_until(next).await;
        }
    }
}
