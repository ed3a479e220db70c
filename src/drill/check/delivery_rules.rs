//! What is delivered: C7 to C9.

use crate::drill::check::excuses::Excuses;
use crate::drill::check::history_index::HistoryIndex;
use crate::drill::check::verdict::{Demands, Rule};

impl HistoryIndex<'_> {
    pub fn at_least_once(&mut self) {
        if !self.is_drained() {
            return;
        }
        let audited = self.audited_ids();
        let mut found = Vec::new();
        for group in self.groups() {
            // All its answers may have been lost.
            let dead = self.dead_ids(group);
            for mid in audited.difference(&dead) {
                if !self.deliveries.contains_key(&(group, *mid)) {
                    found.push((format!("{mid} is stored and was never delivered to {group}"), Vec::new()));
                }
            }
        }
        self.find_all(Rule::NeverDelivered, found);
    }

    pub fn ack_finality(&mut self) -> usize {
        let mut found = Vec::new();
        for (key, acks) in &self.acks {
            let Some(settled) = acks.iter().filter(|ack| ack.is_ok()).min_by_key(|ack| ack.returned()) else {
                continue;
            };
            for again in self.deliveries.get(key).into_iter().flatten().filter(|one| one.asked_at > settled.returned())
            {
                let text = format!("{} came again to {} after its ack was answered OK", key.1, key.0);
                found.push((text, [settled.numbers(), vec![again.number]].concat()));
            }
        }
        let count = found.len();
        self.find_all(Rule::RedeliveredAfterAck, found);
        count
    }

    /// Too early: certainly while the lease of the delivery before ran. Too late: later than the lease's
    /// end by more than is allowed and the outages since, with a poll open all the time.
    pub fn leases(&mut self, excuses: &Excuses, demands: &Demands) {
        let mut found = Vec::new();
        for (key, deliveries) in &self.deliveries {
            let renews = self.renews.get(key).map_or(&[][..], Vec::as_slice);
            for pair in deliveries.windows(2) {
                let (first, again) = (&pair[0], &pair[1]);
                let touched =
                    renews.iter().any(|renew| renew.asked.t <= again.came_at && renew.asked.t >= first.asked_at);
                if touched {
                    continue;
                }
                let text = |how: &str| format!("{} came again to {} {how}", key.1, key.0);
                let ends_first = first.asked_at + first.lease_us;
                let ends_last = first.came_at + first.lease_us;
                // An answer that broke off may have been given back.
                let came_at = again.came_at + excuses.early(again.came_at, demands.moved_clock_us);
                if first.is_whole && came_at < ends_first {
                    let early = (ends_first - again.came_at) / 1000;
                    found.push((
                        text(&format!("{early} ms or more before its lease ended")),
                        vec![first.number, again.number],
                    ));
                }
                let excused = excuses.within(again.node, first.came_at, again.came_at);
                // An attempt in between means a lease whose answer nobody got.
                let is_next = again.got.att == first.got.att + 1;
                if is_next && again.came_at > ends_last + excused + demands.lateness_us {
                    let late = (again.came_at - ends_last - excused) / 1000;
                    found.push((
                        text(&format!("{late} ms after its lease had ended")),
                        vec![first.number, again.number],
                    ));
                }
            }
        }
        self.find_all(Rule::RedeliveredOffTime, found);
    }
}
