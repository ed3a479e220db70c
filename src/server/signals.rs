//! Signals: which of them end the node, and which do not.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals to this process, from the time this was made on.
pub(super) struct Signals {
    hangup: Signal,
    /// SIGTERM and SIGINT. Kept, so that one that comes while nobody waits is not lost.
    ending: Option<(Signal, Signal)>,
}

impl Signals {
    /// From here on SIGHUP ends nothing any more. Until [`Self::stop`] is first awaited the others end the process at
    /// once, as they should while it starts.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, ending: None })
    }

    /// Waits for a signal that ends the node. SIGHUP, which asks many servers to read their configuration again or comes
    /// from a terminal that closes, is answered with a line.
    pub(super) async fn stop(&mut self) -> io::Result<()> {
        let Self { hangup, ending } = self;
        let (terminate, interrupt) = match ending {
            Some(ending) => ending,
            none => none.insert((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)),
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP is ignored: there is nothing to reload yet; restart this node to change its configuration");
                }
            }
        }
    }
}
