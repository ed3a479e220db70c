// The nodes and Raft: who leads, who lags, who led when.

import { read } from '../api.js';
import { lanes, lines } from '../chart.js';
import { action, ask } from '../dialog.js';
import { el, link, section, update } from '../dom.js';
import { eventTable } from '../eventtable.js';
import { bytes, length, level, number, percent, rate, role, state, text, time } from '../format.js';
import { list, ofNodes } from '../problems.js';
import { badge, facts, table } from '../table.js';
import { t } from '../texts.js';

const FIVE_MINUTES = 5 * 60 * 1000;
const LONGEST_SHOWN = 60 * 60 * 1000;
/** So often is looked again for what is noted of a change, once a second. */
const LOOKS = 30;

export async function open(root, { signal, onSample, history }) {
  let sample = history.at(-1);
  let members;
  let changes = [];
  let events = [];
  let seen;
  // A leader notes itself a moment after it began to lead.
  let looksLeft = 0;
  const show = () => update(root, el('h1', null, t('page.cluster')), sample && parts(sample, { members, changes, events, history, look }));
  const look = () => { seen = undefined; return sample && ask1(sample); };
  const ask1 = async (now) => {
    // Both change when the leader does; a change of members shows in the number of nodes too.
    const mark = `${now.leaders_changed_ms} ${now.cluster.nodes.map((node) => node.node + node.is_voter).join()}`;
    const term = now.cluster.nodes.find((node) => node.node === now.cluster.leader)?.term;
    const isNoted = !term || events.some((event) => event.leader.term >= term);
    if (mark !== seen) looksLeft = LOOKS;
    if (mark === seen && (isNoted || looksLeft === 0) && !members?.pending) return;
    seen = mark;
    looksLeft -= 1;
    const leaders = await read('leaders', {}, signal);
    changes = leaders.changes;
    const noted = await read('events', { limit: 50 }, signal).catch(() => ({ events }));
    events = noted.events.filter((event) => event.leader).slice(0, 10);
    members = await read('members', {}, signal).catch(() => members);
    show();
  };
  onSample((now) => { sample = now; show(); return ask1(now); });
  if (sample) await ask1(sample);
}

function parts(sample, { members, changes, events, history, look }) {
  const { cluster, at_ms: now } = sample;
  const leader = cluster.nodes.find((node) => node.node === cluster.leader);
  return [
    facts([
      [t('card.leader'), leader ? t('card.leaderTerm', { node: leader.node, term: leader.term }) : badge(t('card.noLeader'), 'bad')],
      [t('card.quorum'), t('card.quorumOf', { quorum: cluster.quorum, voters: cluster.voters })],
      [t('card.committed'), number(leader?.committed)],
      [t('card.answers'), sample.node],
    ]),
    list(ofNodes(cluster)),
    section(t('cluster.nodes'), nodes(cluster)),
    section(t('cluster.raft'), raft(cluster)),
    section(t('cluster.logs'), logs(cluster, now)),
    el('div', { class: 'charts' },
      section(t('cluster.timeline'), timeline(cluster, changes, now)),
      section(t('cluster.behind'), behind(cluster, history, now))),
    section(t('cluster.noted'), eventTable(events), link('events', t('overview.allEvents'))),
    members && section(t('cluster.members'), memberTable(members, look)),
  ];
}

function nodes(cluster) {
  const columns = [
    [t('column.node'), (row) => row.node],
    [t('column.brokerId'), (row) => text(row.broker_id), 'number'],
    [t('column.role'), (row) => role(row.role)],
    [t('column.state'), (row) => badge(state(row.state), level(row.state))],
    [t('column.address'), (row) => row.address],
    [t('column.version'), (row) => text(row.version)],
    [t('column.in'), (row) => rate(row.in_per_second), 'number'],
    [t('column.out'), (row) => rate(row.out_per_second), 'number'],
    [t('column.uptime'), (row) => length(row.uptime_ms), 'number'],
    [t('column.pid'), (row) => text(row.process_id), 'number'],
    [t('column.actions'), (row) => (row.role === 'follower' ? action(t('cluster.makeLeader', { node: row.node }), () => transfer(row.node)) : '')],
  ];
  return table(t('cluster.nodes'), columns, cluster.nodes, (row) => row.node);
}

function raft(cluster) {
  const vote = ({ vote }) => (vote ? `${vote.node}${vote.has_won ? '' : '?'} @ ${vote.term}` : text());
  const clock = ({ clock_offset_ms: ahead }) => (ahead === null ? text() : `${ahead > 0 ? '+' : ''}${ahead} ms`);
  const columns = [
    [t('column.node'), (row) => row.node],
    [t('column.term'), (row) => text(row.term), 'number'],
    [t('column.vote'), vote],
    [t('column.last'), (row) => number(row.last_log), 'number'],
    [t('column.match'), (row) => number(row.match_index), 'number'],
    [t('column.applied'), (row) => number(row.applied), 'number'],
    [t('column.behind'), (row) => number(row.behind), 'number'],
    [t('column.heartbeat'), (row) => length(row.heartbeat_age_ms), 'number'],
    [t('column.clock'), clock, 'number'],
  ];
  return table(t('cluster.raft'), columns, cluster.nodes, (row) => row.node);
}

function logs(cluster, now) {
  const columns = [
    [t('column.node'), (row) => row.node],
    [t('column.disk'), (row) => percent(row.disk_used_percent), 'number'],
    [t('column.free'), (row) => bytes(row.disk_free_bytes), 'number'],
    [t('column.log'), (row) => bytes(row.log_bytes), 'number'],
    [t('column.first'), (row) => number(row.log_first), 'number'],
    [t('column.age'), (row) => (row.log_from_ms === null ? text() : length(now - row.log_from_ms)), 'number'],
    [t('column.damaged'), (row) => number(row.damaged_segments), 'number'],
    [t('column.repaired'), (row) => number(row.repaired_entries), 'number'],
  ];
  return table(t('cluster.logs'), columns, cluster.nodes, (row) => row.node);
}

function transfer(node) {
  ask({ title: t('cluster.makeLeader', { node }), action: 'leader.transfer', fixed: { node } });
}

/** Spans of each leader, and the gaps between them. */
export function spans(changes, now) {
  const ends = changes.map((change, at) => ({ ...change, to: changes[at + 1]?.at_ms ?? now }));
  return {
    led: ends.filter((change) => change.leader !== null),
    gaps: ends.filter((change) => change.leader === null),
  };
}

function timeline(cluster, changes, now) {
  if (!changes.length) return el('p', { class: 'note' }, t('table.none'));
  const { led, gaps } = spans(changes, now);
  const from = Math.max(changes[0].at_ms, now - LONGEST_SHOWN);
  const text = (change) => t('timeline.led', { node: change.leader, term: change.term, from: time(change.at_ms), length: length(change.to - change.at_ms) });
  const gap = (change) => t('timeline.gap', { from: time(change.at_ms), length: length(change.to - change.at_ms) });
  const rows = [...changes.keys()].reverse().map((at) => ({ ...changes[at], to: changes[at + 1]?.at_ms ?? now, isLast: at === changes.length - 1 }));
  const columns = [
    [t('column.at'), (row) => time(row.at_ms)],
    [t('column.term'), (row) => row.term, 'number'],
    [t('column.leader'), (row) => row.leader ?? badge(t('card.noLeader'), 'bad')],
    [t('column.for'), (row) => length(row.to - row.at_ms), 'number'],
  ];
  return [
    lanes({
      label: t('cluster.timeline'),
      names: cluster.nodes.map((node) => node.node),
      spans: led.map((change) => ({ lane: change.leader, from: change.at_ms, to: change.to, text: text(change) })),
      gaps: gaps.map((change) => ({ from: change.at_ms, to: change.to, text: gap(change) })),
      from,
      to: now,
    }),
    table(t('cluster.timeline'), columns, rows.slice(0, 20), (row) => row.at_ms),
    el('p', { class: 'note' }, t('timeline.note')),
  ];
}

function behind(cluster, history, now) {
  const of = (name) => history.map((sample) => [sample.at_ms, sample.cluster.nodes.find((node) => node.node === name)?.behind ?? 0]);
  const series = cluster.nodes.map(({ node }) => ({ name: node, points: of(node) }));
  return lines({ label: t('chart.behind'), series, span: FIVE_MINUTES, now, show: number, isWhole: true });
}

function memberTable({ members, pending, ended, difference }, done) {
  const columns = [
    [t('column.name'), (row) => row.name],
    [t('column.replica'), (row) => row.id],
    [t('column.role'), (row) => role(row.role)],
    [t('column.peersAt'), (row) => row.address],
    [t('column.match'), (row) => number(row.matching), 'number'],
    [t('column.since'), (row) => (row.since_ms === null ? t('cluster.fromStart') : time(row.since_ms))],
    [t('column.actions'), (row) => el('span', { class: 'row' },
      action(t('member.replace'), () => replace(row, done), true), action(t('member.remove'), () => remove(row, done), true))],
  ];
  return [
    el('div', { class: 'row' },
      action(t('member.add'), () => add(members, done)),
      pending && action(t('member.cancel'), () => ask({ title: t('member.cancel'), action: 'member.cancel', done }), true)),
    pending && el('p', { role: 'status' }, badge(t('cluster.underWay'), 'busy'), ' ', t('cluster.pending', { number: pending.number, what: `${pending.what} ${pending.name}`, why: pending.waits_for ?? '' })),
    table(t('cluster.members'), columns, members, (row) => row.id),
    ended && el('p', { class: 'note' }, t('cluster.ended', { number: ended.number, what: `${ended.what} ${ended.name}`, end: ended.end ?? '', why: ended.why ?? '' })),
    difference && el('p', { class: 'note' }, t('cluster.difference', { what: difference })),
  ];
}

function add(members, done) {
  const next = Math.max(...members.map(({ name }) => Number(name.slice(1)))) + 1;
  ask({
    title: t('member.add'),
    action: 'member.add',
    note: t('member.addNote'),
    done,
    fields: [
      { name: 'member', label: t('fact.member'), value: `n${next}`, isNeeded: true },
      { name: 'address', label: t('member.address'), isNeeded: true },
    ],
  });
}

/** About the replica that there was when it was asked, and no later one. */
function replace({ name }, done) {
  const leaves = ({ facts }) => ({ leaves: facts.find(([fact]) => fact === 'leaves')?.[1] ?? undefined });
  ask({
    title: t('member.replace'),
    action: 'member.replace',
    note: t('member.replaceNote', { name }),
    fixed: { member: name },
    confirm: name,
    also: leaves,
    done,
    fields: [{ name: 'address', label: t('member.newAddress') }],
  });
}

function remove({ name }, done) {
  ask({ title: t('member.remove'), action: 'member.remove', note: t('member.removeNote', { name }), fixed: { member: name }, confirm: name, done });
}
