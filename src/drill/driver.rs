//! The clients on a thread of their own, so that work on the nodes does not delay them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::client::Address;
use crate::drill::clients::{Clients, Gate};
use crate::drill::history::Recorder;

/// The running thread.
pub(super) struct Driver {
    thread: std::thread::JoinHandle<io::Result<()>>,
    sent: CancellationToken,
    gate: Gate,
}

impl Driver {
    /// Producers are asked about what they left open within `asked_within`.
    pub fn start(
        addresses: &[Address],
        topic: &str,
        recorder: Arc<Recorder>,
        (rate, asked_within): (u32, Duration),
        sending: CancellationToken,
        receiving: CancellationToken,
    ) -> io::Result<Self> {
        let (sent, gate) = (CancellationToken::new(), Gate::default());
        let gate_of_clients = gate.clone();
        let (addresses, topic, all_sent) = (addresses.to_vec(), topic.to_owned(), sent.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let local = tokio::task::LocalSet::new();
            // Cancelled however the thread ends, or `wait_for_senders` would never return.
            let all_sent = all_sent.drop_guard();
            local.block_on(&runtime, async {
                let clients = Clients::new(&addresses, &topic, recorder).map_err(io::Error::other)?;
                let clients = Clients { gate: gate_of_clients, ..clients };
                let answering = CancellationToken::new();
                let produce = async {
                    clients.produce(rate, sending).await;
                    clients.wait_for_questions(asked_within * 2).await;
                    answering.cancel();
                };
                // Nothing is sent and decided once this is done.
                let send_all = async {
                    tokio::join!(produce, clients.answer_questions(answering.clone()));
                    drop(all_sent);
                };
                tokio::join!(send_all, clients.consume(receiving.clone()), clients.watch_offsets(receiving));
                Ok(())
            })
        };
        let thread = std::thread::Builder::new().name("clients".to_owned()).spawn(run)?;
        Ok(Self { thread, sent, gate })
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    pub fn wait_for_senders(&self) {
        while !self.sent.is_cancelled() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the clients' thread panicked")))
    }
}
