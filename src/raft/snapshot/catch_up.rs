//! A replica that the log of the leader does not reach any more catches up by a snapshot.
//!
//! The leader says so (`peer/client`), again and again while it is so. This node then asks the others what they have, pulls
//! from one of them into the next generation, and has itself started again with that. Its Raft goes on meanwhile: it votes
//! and answers heartbeats. If the log comes after all, the pull is given up.
//!
//! Calls `pull`; `raft/replica` installs what was pulled, when everything else has stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::model::{LogIndex, NodeId, RoomState};
use crate::raft::leadership::Leadership;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::snapshot_link::SnapshotLink;
use crate::raft::peer::status::{StatusClients, StatusReply};
use crate::raft::room::VoterRooms;
use crate::raft::snapshot::failed_installs;
use crate::raft::snapshot::install::Staged;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::progress::{Behind, CatchingUp, PullProgress};
use crate::raft::snapshot::pull::{OwnRecords, PullError, pull};
use crate::raft::snapshot::room::{SPARE_BYTES, check_room};
use crate::raft::snapshot::source::SnapshotSource;
use crate::raft::snapshot::source_choice::{Candidate, SourceChoice};
use crate::raft::snapshot::target::{StagedBytes, Target};
use crate::store::generation::Generation;
use crate::store::log::CommitLog;

/// The leader says it more often than this while it is so.
const SAID_WITHIN: Duration = Duration::from_secs(15);
/// After what did not work.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// What was pulled before is removed if nobody needs it for this long.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// How far it is is written down this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Looks this often whether it is still to go on.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same failure is written down again after this long.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// Called when the process is to start again, with what was pulled.
pub type OnRestart = Arc<dyn Fn() + Send + Sync>;

/// What it works with.
pub(in crate::raft) struct CatchUp {
    pub identity: PeerIdentity,
    pub status_clients: StatusClients,
    pub target: Target,
    pub log: CommitLog,
    pub applied: watch::Receiver<LogIndex>,
    pub leadership: watch::Receiver<Leadership>,
    pub rooms: Arc<VoterRooms>,
    pub behind: watch::Receiver<Option<Behind>>,
    pub state: watch::Sender<Option<CatchingUp>>,
    /// Where what is complete is put.
    pub staged: Arc<Mutex<Option<Staged>>>,
    pub on_restart: OnRestart,
    pub choice: Mutex<SourceChoice>,
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    /// The log came after all.
    #[error("the log reaches this node again")]
    NotNeeded,
    /// What was pulled holds the disk at its hard mark.
    #[error("this node's disk is short of room (diskHardMark): make room")]
    Short,
    /// The pull from a node ended.
    #[error("{node}: {error}")]
    Pull {
        node: NodeId,
        error: PullError,
        /// Something came, and is gone on with.
        got_on: bool,
    },
    #[error("{0}")]
    Waits(String),
}

impl CatchUp {
    /// Works until it is dropped, or a snapshot is complete.
    pub async fn run(mut self) {
        self.remove_leftovers().await;
        let store = self.target.store.clone();
        let pause = Pool::Upkeep.run(move || failed_installs::pause(&store)).await.unwrap_or_default();
        let begins = Instant::now() + pause;
        let mut last_report: Option<(String, Instant)> = None;
        loop {
            let needs = self.until_behind().await;
            self.state
                .send_if_modified(|state| state.is_none().then(|| *state = Some(CatchingUp::default())).is_some());
            let caught_up = if begins <= Instant::now() {
                self.catch_up(needs).await
            } else {
                Err(NotDone::Waits(format!(
                    "the last one could not be put in the place of log and state, as the log of the process before says; \
                     the next one is pulled {pause:.0?} after this start"
                )))
            };
            match caught_up {
                Ok(staged) => {
                    *self.staged.lock() = Some(staged);
                    (self.on_restart)();
                    return;
                }
                Err(NotDone::NotNeeded) => {
                    tracing::info!("the log of the leader reaches this node again: no snapshot is needed");
                    self.state.send_replace(None);
                    self.discard().await;
                }
                Err(not_done) => {
                    let why = not_done.to_string();
                    let is_news =
                        last_report.as_ref().is_none_or(|(said, at)| *said != why || at.elapsed() > REPEAT_AFTER);
                    if is_news {
                        tracing::warn!(
                            "this node is behind the start of the leader's log and has no snapshot yet: {why}"
                        );
                        last_report = Some((why.clone(), Instant::now()));
                    }
                    self.state.send_modify(|state| {
                        state.get_or_insert_default().waits_for = Some(why);
                    });
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// Pulls a snapshot with this entry applied, of whoever has one now.
    ///
    /// * Errors: why there is none, in words.
    pub async fn once(&self, needs: LogIndex) -> Result<Staged, String> {
        self.catch_up(needs).await.map_err(|not_done| not_done.to_string())
    }

    /// Waits until the leader says that its log does not reach this node; gives what a snapshot must have applied.
    async fn until_behind(&mut self) -> LogIndex {
        let mut discards_at = Some(Instant::now() + KEPT_FOR);
        loop {
            let behind = *self.behind.borrow_and_update();
            let applied = *self.applied.borrow();
            match behind {
                Some(behind) if behind.said_at.elapsed() < SAID_WITHIN && applied < behind.needs => {
                    return behind.needs;
                }
                _ => {
                    self.state.send_if_modified(|state| state.take().is_some());
                }
            }
            if discards_at.is_some_and(|at| at <= Instant::now()) {
                discards_at = None;
                self.discard().await;
            }
            // The channel is open as long as the replica.
            let _ = tokio::time::timeout(SAID_WITHIN, self.behind.changed()).await;
        }
    }

    async fn catch_up(&self, needs: LogIndex) -> Result<Staged, NotDone> {
        let mut candidates = self.candidates(needs).await;
        self.choice.lock().sort(&mut candidates);
        let mut refusals = Vec::new();
        for candidate in candidates {
            let node = candidate.node;
            let Some(address) = self.identity.members.address_of(node) else { continue };
            let link = SnapshotLink::new(self.identity.clone(), node.0, address);
            let manifest = match link.open(needs).await {
                Ok(manifest) => manifest,
                Err(not_given) => {
                    refusals.push(format!("{node}: {not_given}"));
                    if self.choice.lock().note_not_opened(node, &not_given) {
                        break;
                    }
                    continue;
                }
            };
            self.choice.lock().note_opened();
            match self.pull_from(candidate, &link, manifest).await {
                // It is gone on with there, as long as that gets on: the files of another snapshot are others.
                Err(NotDone::Pull { node, error, got_on }) if !error.is_local() && (!got_on || error.is_unusable()) => {
                    self.choice.lock().note_failed(node);
                    refusals.push(format!("{node}: {error}"));
                }
                done => return done,
            }
        }
        if refusals.is_empty() {
            return Err(NotDone::Waits(format!("no other node that answers has applied entry {needs}")));
        }
        Err(NotDone::Waits(refusals.join("; ")))
    }

    /// Who could give it.
    async fn candidates(&self, needs: LogIndex) -> Vec<Candidate> {
        let answers = self.status_clients.ask_all().await;
        let leader = self.leadership.borrow().leader;
        let statuses = answers.into_iter().filter_map(|answer| match answer {
            StatusReply::Status(status) => Some(status),
            StatusReply::Disowned(_) | StatusReply::Stranger(_) | StatusReply::Silent => None,
        });
        let can = statuses.filter(|status| status.applied >= needs && status.catching_up.is_none());
        can.map(|status| Candidate {
            node: status.node,
            is_short: status.room.is_some_and(|room| room.state >= RoomState::Hard),
            has_slow_disk: status.slow_disk,
            leads: Some(status.node) == leader,
            leader: status.leader,
        })
        .collect()
    }

    async fn pull_from(
        &self,
        Candidate { node, leader, .. }: Candidate,
        link: &SnapshotLink,
        manifest: Manifest,
    ) -> Result<Staged, NotDone> {
        let (source, applied) = (manifest.source, manifest.applied.index);
        let (state, log) = (manifest.state_bytes(), manifest.log_bytes);
        self.check_room(&manifest).await?;
        tracing::warn!(
            own_last = %self.log.last().map_or(LogIndex(0), |last| last.index), leader = leader.map(|node| node.to_string()),
            "this node pulls a snapshot from {node}, with entry {applied} applied, {} MiB of state and {} MiB of log",
            state / MIB, log / MIB
        );
        let started = Instant::now();
        let progress = watch::Sender::new(PullProgress::default());
        let own = OwnRecords { reader: self.log.reader().clone(), applied: *self.applied.borrow() };
        // The least that was there.
        let least = AtomicU64::new(u64::MAX);
        let pulled = {
            let pulling = pull(link, manifest, self.target.clone(), own, &progress);
            tokio::select! {
                pulled = pulling => pulled.map_err(|error| {
                    let got_on = progress.borrow().done > least.load(Ordering::Relaxed);
                    NotDone::Pull { node, error, got_on }
                }),
                ended = self.until_useless() => Err(ended),
                never = self.say_progress(progress.subscribe(), node, &least) => match never {},
            }
        };
        // Else what broke off is gone on with there, and what is left of it ends by itself. What is wrong with an unusable
        // source may show nowhere else.
        let is_over = match &pulled {
            Ok(_) | Err(NotDone::NotNeeded) => true,
            Err(NotDone::Pull { error, .. }) => error.is_unusable(),
            Err(NotDone::Short | NotDone::Waits(_)) => false,
        };
        if is_over {
            link.close(source).await;
        }
        if matches!(pulled, Err(NotDone::Short)) {
            self.discard().await;
        }
        let staged = pulled?;
        self.check_tail(&staged)?;
        let took = started.elapsed();
        tracing::info!("the snapshot from {node} is complete after {took:.1?}: this node starts again with it");
        Ok(staged)
    }

    /// * Errors: the disk has no room for it beside what is in use.
    async fn check_room(&self, manifest: &Manifest) -> Result<(), NotDone> {
        let (target, room) = (self.target.clone(), self.rooms.own().clone());
        let staged = Pool::Upkeep.run(move || target.staged()).await.unwrap_or_default();
        if check_room(manifest, &staged, &room.now()).is_ok() {
            return Ok(());
        }
        // What an earlier pull left may be of another snapshot, and be itself what has no room.
        self.discard().await;
        let looked = Pool::Upkeep.run(move || room.make_room(0).unwrap_or_else(|_| room.now())).await;
        let room = looked.unwrap_or_else(|_| self.rooms.own().now());
        check_room(manifest, &StagedBytes::default(), &room).map_err(|no_room| NotDone::Waits(no_room.to_string()))
    }

    /// * Errors: an installation would fail for lack of room, and the process would start again for nothing.
    fn check_tail(&self, staged: &Staged) -> Result<(), NotDone> {
        let (room, needed) = (self.rooms.own().now(), staged.tail_bytes(&self.log) + SPARE_BYTES);
        let free = room.usable.saturating_add(room.reserve);
        if needed <= free {
            return Ok(());
        }
        Err(NotDone::Waits(format!(
            "it is complete; to put it in the place of log and state takes {} MiB on this node's disk, and {} MiB are free: \
             make room",
            needed / MIB,
            free / MIB
        )))
    }

    /// Ends when the pull is not to go on.
    async fn until_useless(&self) -> NotDone {
        let last = self.log.last();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.log.last() != last {
                return NotDone::NotNeeded;
            }
            if self.rooms.own().now().state >= RoomState::Hard {
                return NotDone::Short;
            }
        }
    }

    async fn say_progress(
        &self,
        mut progress: watch::Receiver<PullProgress>,
        node: NodeId,
        least: &AtomicU64,
    ) -> std::convert::Infallible {
        let mut reported = Instant::now();
        loop {
            // Its sender lives as long as this.
            let _ = progress.changed().await;
            let progress = *progress.borrow_and_update();
            least.fetch_min(progress.done, Ordering::Relaxed);
            self.state.send_replace(Some(CatchingUp { progress, waits_for: None }));
            if reported.elapsed() > REPORT_EVERY {
                reported = Instant::now();
                tracing::info!(
                    "catching up by a snapshot from {node}: {} % of {} MiB",
                    progress.percent(),
                    progress.total / MIB
                );
            }
        }
    }

    async fn discard(&self) {
        let target = self.target.clone();
        let discarding = Pool::Upkeep.run(move || target.discard());
        if let Ok(Err(error)) = discarding.await {
            tracing::warn!(%error, "what was pulled of a snapshot is not removed yet");
        }
    }

    /// What is left of generations that were replaced goes in small steps.
    async fn remove_leftovers(&self) {
        let Target { store, generation, .. } = &self.target;
        let kept: [Generation; 2] = [*generation, generation.next()];
        let listing = store.clone();
        let Ok(Ok(folders)) = Pool::Upkeep.run(move || listing.leftovers(&kept)).await else { return };
        for folder in folders {
            tracing::info!(folder = %folder.display(), "this log or state was replaced by a snapshot, and is removed");
            loop {
                let (store, folder) = (store.clone(), folder.clone());
                match Pool::Upkeep.run(move || store.remove_some(&folder)).await {
                    Ok(Ok(true)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Ok(Ok(false)) | Err(_) => break,
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "it is left to the next start");
                        break;
                    }
                }
            }
        }
    }
}
