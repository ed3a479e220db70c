//! Renews the leases of clients that live, every few seconds, on every node.
//!
//! The first renewal is the delivering node's: only it knows that the messages were delivered. From then on any node
//! that hears the client renews, from the replicated leases, so a renewal survives any of them; a lease whose answer
//! was lost with its node is not renewed and ends (contract §13.4).

use std::time::Duration;

use crate::broker::lease_handle::handle;
use crate::broker::{Broker, Error};
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::{self, Lease};
use crate::model::limits::INVISIBLE_RENEWED;
use crate::model::{Millis, ReceiptHandle};

const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A lease that ends within this time is renewed.
const RENEW_AHEAD: Millis = Millis::from_secs(10);

/// Runs until it is dropped.
pub(super) async fn renew_for_living(broker: &Broker) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let first = broker.first_renewals.take_due();
        if let Err(error) = renew(broker, first.clone()).await {
            // Nobody else renews these for the first time.
            broker.first_renewals.put_back(first);
            tracing::warn!(%error, "leases of living clients were not renewed this time");
        }
    }
}

/// Renews the given leases, and all that were renewed before and end soon.
async fn renew(broker: &Broker, mut meant: Vec<ReceiptHandle>) -> Result<(), Error> {
    let ending = broker.renewable_ending(broker.machine_now().plus(RENEW_AHEAD)).await?;
    let was_renewed = |lease: &Lease| lease.until > lease.granted_at.plus(INVISIBLE_RENEWED);
    meant.extend(ending.iter().filter(|(_, lease)| was_renewed(lease)).map(|(at, lease)| handle(*at, lease)));
    let living = |lease: &Lease| lease.renew_for.as_deref().is_some_and(|client| broker.clients.is_alive(client));
    let held = still_held(broker, meant)?.into_iter().filter(|(_, lease)| living(lease));
    broker.prolong(held.map(|(at, lease)| handle(at, &lease)).collect(), INVISIBLE_RENEWED).await
}

/// Those of the leases that still hold something.
fn still_held(broker: &Broker, leases: Vec<ReceiptHandle>) -> Result<Vec<(LeaseKey, Lease)>, Error> {
    let view = broker.reader.view();
    let mut held = Vec::new();
    for at in leases.iter().map(lease::key_of) {
        if let Some(lease) = view.lease(at)?.filter(|lease| !lease.held.is_empty() && !lease.returned) {
            held.push((at, lease));
        }
    }
    Ok(held)
}
