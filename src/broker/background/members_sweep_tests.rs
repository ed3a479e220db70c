//! Changes of members on a simulated group, with the leader lost at each entry in turn: before others have that entry or
//! after, followed by one whose state is behind its log, and with followers that are silent meanwhile.
//!
//! The steps are the real ones and so is the machine; the log is a list, of which the part that is committed stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::broker::background::members_step::{Look, Said, Step};
use crate::machine;
use crate::machine::state::member_changes::{ChangeEnd, MemberChangeKind, MemberChanges};
use crate::machine::state::view::View;
use crate::machine::{Batch, Command, Proposal, Recent, Stage};
use crate::model::{LogIndex, MemberName, NodeId, Term, Timestamp};
use crate::raft::{Member, MemberProgress, Members, Membership};
use crate::store::kv::Kv;
use crate::store::kv::memory::MemoryKv;

const N: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];
/// Looks by which every change is over.
const LOOKS_MAX: u64 = 100;
/// Looks without anything to do or to wait for, after which it is.
const QUIET: u64 = 4;

#[derive(Clone)]
enum Entry {
    Command(Command),
    /// Those that vote, in the old set and in the new one if there are two, and those that do not.
    Members {
        voters: Vec<BTreeSet<NodeId>>,
        learners: BTreeSet<NodeId>,
    },
}

/// What becomes of the leader, and of its entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It dies, and no other has the entry.
    Lost,
    /// It dies, and the next leader has the entry.
    Kept,
    /// It goes on, and the entry is committed so many looks later.
    Late(u64),
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    /// What happens at the entry of this number that a leader appends.
    crashes: [(u64, Fate); 2],
    /// So many entries the state of a new leader is behind; it applies one in each look.
    lag: usize,
    /// Nobody hears of this node from look to look.
    silent: Option<(NodeId, u64, u64)>,
    /// The change is cancelled at this look.
    cancelled_at: Option<u64>,
}

const CALM: Plan = Plan { crashes: [(u64::MAX, Fate::Lost); 2], lag: 0, silent: None, cancelled_at: None };

/// A state that applies the log.
struct State {
    kv: MemoryKv,
    recent: Recent,
    applied: usize,
}

impl State {
    fn of(log: &[Entry], upto: usize) -> Self {
        let kv = MemoryKv::default();
        let recent = Recent::load(&kv).unwrap();
        let mut state = Self { kv, recent, applied: 0 };
        state.catch_up(log, upto);
        state
    }

    fn catch_up(&mut self, log: &[Entry], upto: usize) {
        while self.applied < upto {
            self.applied += 1;
            let Entry::Command(command) = &log[self.applied - 1] else { continue };
            let proposal = Proposal { command: command.encode(), messages: Vec::new() };
            let body = Batch::encode(Timestamp(1), [&proposal].into_iter());
            let at = LogIndex(self.applied as u64);
            let mut stage = Stage::new(&self.kv).unwrap();
            machine::apply(&mut stage, &mut self.recent, at, body).unwrap();
            let (batch, _) = stage.finish().unwrap();
            self.kv.write(batch).unwrap();
        }
    }

    fn changes(&self) -> MemberChanges {
        View::new(&self.kv).member_changes().unwrap()
    }
}

struct Group {
    plan: Plan,
    log: Vec<Entry>,
    committed: usize,
    /// Looks until what is not committed is.
    late: u64,
    leader: NodeId,
    term: Term,
    said: Said,
    state: State,
    appended: u64,
    looks: u64,
    /// All replicas that ever were members.
    seen: BTreeSet<NodeId>,
}

impl Group {
    fn new(kind: MemberChangeKind, plan: Plan) -> Self {
        let founders = Entry::Members { voters: vec![N.into_iter().collect()], learners: BTreeSet::new() };
        let log = vec![founders, Entry::Command(Command::BeginMemberChange(kind))];
        let state = State::of(&log, log.len().saturating_sub(plan.lag));
        Self {
            plan,
            committed: log.len(),
            log,
            late: 0,
            leader: N[0],
            term: Term(1),
            said: Said::default(),
            state,
            appended: 0,
            looks: 0,
            seen: N.into_iter().collect(),
        }
    }

    fn members(&self) -> (usize, &Vec<BTreeSet<NodeId>>, &BTreeSet<NodeId>) {
        let newest = self.log.iter().enumerate().rev().find_map(|(at, entry)| match entry {
            Entry::Members { voters, learners } => Some((at + 1, voters, learners)),
            Entry::Command(_) => None,
        });
        newest.expect("the founders")
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.members().1.iter().flatten().copied().collect()
    }

    /// Appends what the leader proposes; whether it is committed, and the leader goes on.
    fn append(&mut self, entry: Entry) -> bool {
        if let Entry::Members { voters, learners } = &entry {
            self.seen.extend(voters.iter().flatten().chain(learners));
        }
        self.log.push(entry);
        let fate = self.plan.crashes.iter().find(|(at, _)| *at == self.appended).map(|(_, fate)| *fate);
        self.appended += 1;
        match fate {
            None => self.commit(),
            Some(Fate::Late(looks)) => {
                self.late = looks;
                return false;
            }
            Some(fate) => {
                if fate == Fate::Lost {
                    self.log.truncate(self.committed);
                }
                let next = self.voters().into_iter().find(|node| *node != self.leader);
                self.lead(next.expect("another voter"));
                return false;
            }
        }
        true
    }

    fn commit(&mut self) {
        (self.committed, self.late) = (self.log.len(), 0);
    }

    /// A new leader commits all that it has, and may have applied less.
    fn lead(&mut self, node: NodeId) {
        self.commit();
        (self.leader, self.term, self.said) = (node, Term(self.term.0 + 1), Said::default());
        self.state = State::of(&self.log, self.log.len().saturating_sub(self.plan.lag));
    }

    fn set_voters(&mut self, voters: BTreeSet<NodeId>) {
        let (_, old, learners) = self.members();
        let learners: BTreeSet<NodeId> = learners.difference(&voters).copied().collect();
        let before = old.last().expect("a set").clone();
        if before != voters {
            let both = Entry::Members { voters: vec![before, voters.clone()], learners: learners.clone() };
            if !self.append(both) {
                return;
            }
        }
        self.append(Entry::Members { voters: vec![voters], learners });
    }

    fn look(&mut self) -> Step {
        self.looks += 1;
        if self.committed < self.log.len() {
            self.late -= 1;
            if self.late == 0 {
                self.commit();
            }
        }
        let upto = if self.plan.lag == 0 { self.committed } else { self.committed.min(self.state.applied + 1) };
        self.state.catch_up(&self.log, upto);
        let (at, sets, learners) = self.members();
        let member = |node: &NodeId, is_voter| Member { node: *node, address: format!("h{node}:1"), is_voter };
        let voters: BTreeSet<NodeId> = sets.iter().flatten().copied().collect();
        let all = voters.iter().map(|node| member(node, true)).chain(learners.iter().map(|node| member(node, false)));
        let mut members = Members::new(LogIndex(at as u64), all);
        members.is_joint = sets.len() > 1;
        let last = LogIndex(self.log.len() as u64);
        let is_silent = |node: &NodeId| {
            self.plan.silent.is_some_and(|(silent, from, to)| silent == *node && (from..to).contains(&self.looks))
        };
        let of = |node: &NodeId| {
            let answered = (!is_silent(node)).then_some(Duration::ZERO);
            (*node, MemberProgress { has: last, answered })
        };
        let progress: BTreeMap<_, _> = voters.iter().chain(learners).map(of).collect();
        let change = self.state.changes().pending;
        let look = Look {
            own: self.leader,
            change: change.as_ref(),
            applied: LogIndex(self.state.applied as u64),
            committed: LogIndex(self.committed as u64),
            membership: Membership { members, is_settled: at <= self.committed },
            progress,
            last,
        };
        self.said.step(self.term, &look)
    }

    fn take(&mut self, step: Step) {
        let (sets, mut learners) = (self.members().1.clone(), self.members().2.clone());
        match step {
            Step::AddLearner(node, _) => {
                learners.insert(node);
                self.append(Entry::Members { voters: sets, learners });
            }
            Step::RemoveLearner(node) => {
                learners.remove(&node);
                self.append(Entry::Members { voters: sets, learners });
            }
            Step::SetVoters(voters) => self.set_voters(voters),
            Step::GiveWay(voters) => self.lead(*voters.first().expect("a group")),
            Step::End(number, end) => {
                self.append(Entry::Command(Command::EndMemberChange { number, end }));
            }
            Step::Wait => {}
        }
    }

    /// Until nothing is to be done any more.
    fn run(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            assert!(self.looks < LOOKS_MAX, "it never ends");
            if self.plan.cancelled_at == Some(self.looks) {
                // By a person: it is no step of a leader.
                self.log.insert(self.committed, Entry::Command(Command::CancelMemberChange { number: 1 }));
                self.committed += 1;
            }
            let step = self.look();
            let is_all_applied = self.committed == self.log.len() && self.state.applied == self.log.len();
            let is_done = step == Step::Wait && is_all_applied && self.state.changes().pending.is_none();
            quiet = if is_done { quiet + 1 } else { 0 };
            self.take(step);
        }
    }

    /// The members are what the end of the change says, and the number of who joined is not used again. Gives the end.
    fn check(&self, kind: &MemberChangeKind) -> &'static str {
        let state = State::of(&self.log, self.log.len());
        let changes = state.changes();
        assert_eq!(changes.pending, None);
        let ended = changes.ended.expect("an end");
        let (_, voters, learners) = self.members();
        assert!(learners.is_empty(), "{learners:?} are left after {:?}", ended.end);
        let mut wanted: BTreeSet<NodeId> = N.into_iter().collect();
        if ended.end == ChangeEnd::Done {
            wanted.extend(ended.change.joins);
            ended.change.leaves().map(|node| wanted.remove(&node));
        }
        assert_eq!(voters, &vec![wanted], "the end was {:?}", ended.end);
        assert_eq!((ended.change.number, changes.count), (1, 1), "one change");
        let mut log = self.log.clone();
        log.push(Entry::Command(Command::BeginMemberChange(kind.clone())));
        let again = State::of(&log, log.len()).changes().pending.expect("the next change");
        assert!(again.joins.is_none_or(|joins| !self.seen.contains(&joins)), "{:?} was there before", again.joins);
        match ended.end {
            ChangeEnd::Done => "done",
            ChangeEnd::Cancelled => "cancelled",
            ChangeEnd::Refused(_) => "refused",
        }
    }
}

fn kinds() -> [MemberChangeKind; 4] {
    let address = || "new:1".to_owned();
    [
        MemberChangeKind::Add { name: MemberName(3), address: address() },
        MemberChangeKind::Remove { node: N[2] },
        // The first leader.
        MemberChangeKind::Remove { node: N[0] },
        MemberChangeKind::Replace { old: N[2], address: address() },
    ]
}

/// How many entries leaders appended, and how the change ended.
fn run(kind: &MemberChangeKind, plan: Plan) -> (u64, &'static str) {
    let mut group = Group::new(kind.clone(), plan);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        group.run();
        (group.appended, group.check(kind))
    }));
    ran.unwrap_or_else(|_| panic!("{kind:?} with {plan:?}"))
}

#[test]
fn p16_p22_a_change_of_members_ends_once_whatever_leader_is_lost_at_whatever_step() {
    let fates = [Fate::Lost, Fate::Kept, Fate::Late(3)];
    let silences = [None, Some((N[1], 1, 3)), Some((N[1], 2, 9)), Some((N[2], 3, 20))];
    let mut ends = BTreeSet::new();
    for kind in kinds() {
        let steps = run(&kind, CALM).0;
        for (silent, cancelled_at, lag) in silences.into_iter().flat_map(|silent| {
            let cancelled = [None, Some(1), Some(3)].into_iter();
            cancelled.flat_map(move |cancelled_at| [0, 2].map(|lag| (silent, cancelled_at, lag)))
        }) {
            let calm = Plan { silent, cancelled_at, lag, ..CALM };
            ends.insert(run(&kind, calm).1);
            for first in 0..=steps {
                for second in first + 1..=steps + 1 {
                    for (one, other) in fates.into_iter().flat_map(|one| fates.map(|other| (one, other))) {
                        ends.insert(run(&kind, Plan { crashes: [(first, one), (second, other)], ..calm }).1);
                    }
                }
            }
        }
    }
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["cancelled", "done", "refused"]);
}
