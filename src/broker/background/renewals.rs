//! Renews the leases of clients that live, every few seconds, on every node.
//!
//! The first renewal is the delivering node's: only it knows that the messages were delivered. From then on any node
//! that hears the client renews, from the replicated leases, so a renewal survives any of them; a lease whose answer
//! was lost with its node is not renewed and ends (contract §13.4).

use std::time::Duration;

use crate::broker::invisible::{RENEW_MAX, on_views};
use crate::broker::lease_handle::handle;
use crate::broker::{Broker, Error};
use crate::machine::Failure;
use crate::machine::state::lease::{self, Lease};
use crate::machine::state::view::View;
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
    let until = broker.machine_now().plus(RENEW_AHEAD);
    let (reader, clients) = (broker.reader.clone(), broker.clients.clone());
    // Some hundred thousand look-ups.
    let living = on_views(move || {
        let view = reader.view();
        let was_renewed = |lease: &Lease| lease.until > lease.granted_at.plus(INVISIBLE_RENEWED);
        let ending = view.renewable_ending(until, RENEW_MAX, was_renewed)?;
        meant.extend(ending.iter().map(|(at, lease)| handle(*at, lease)));
        let is_living = |lease: &Lease| lease.renew_for.as_deref().is_some_and(|client| clients.is_alive(client));
        still_held(view, &meant, is_living)
    });
    broker.prolong(living.await?, INVISIBLE_RENEWED).await
}

/// Those of the leases that still hold something, and are wanted.
fn still_held(
    view: View<'_>,
    leases: &[ReceiptHandle],
    is_wanted: impl Fn(&Lease) -> bool,
) -> Result<Vec<ReceiptHandle>, Failure> {
    let mut held = Vec::new();
    for at in leases.iter().map(lease::key_of) {
        let lease = view.lease(at)?.filter(|lease| !lease.held.is_empty() && !lease.returned && is_wanted(lease));
        held.extend(lease.map(|lease| handle(at, &lease)));
    }
    Ok(held)
}
