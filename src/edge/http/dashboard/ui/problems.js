// What is wrong, or soon will be, and what to do about it.

import { el, link, to } from './dom.js';
import { length, number } from './format.js';
import { badge } from './table.js';
import { t } from './texts.js';

// By the state of a node: the problem, and its remedy.
const OF_NODES = {
  down: ['problem.down', 'remedy.down', 'bad'],
  'kept out': ['problem.keptOut', 'remedy.keptOut', 'bad'],
  'disk full': ['problem.diskFull', 'remedy.room', 'bad'],
  'no room': ['problem.noRoom', 'remedy.room', 'bad'],
  'short of room': ['problem.shortOfRoom', 'remedy.room', 'warn'],
  'slow disk': ['problem.slowDisk', 'remedy.slowDisk', 'warn'],
  repairing: ['problem.repairing', 'remedy.repairing', 'warn'],
  damaged: ['problem.damaged', 'remedy.repairing', 'warn'],
  'wrong clock': ['problem.wrongClock', 'remedy.wrongClock', 'warn'],
};

/** A group whose oldest message waits for longer is a problem. */
const LATE_MS = 5 * 60 * 1000;

/** Problems of the nodes, as a sample shows them. */
export function ofNodes(cluster) {
  const found = [];
  if (!cluster.leader) found.push({ level: 'bad', what: t('problem.noLeader'), remedy: t('remedy.noLeader', { quorum: cluster.quorum, voters: cluster.voters }) });
  for (const node of cluster.nodes) {
    const known = OF_NODES[node.state];
    if (known) {
      const values = { node: node.node, percent: node.disk_used_percent ?? '?' };
      found.push({ level: known[2], what: t(known[0], values), remedy: t(known[1], values), path: 'cluster' });
    }
    if (node.snapshot_waits_for) {
      found.push({ level: 'warn', what: t('problem.snapshotWaits', { node: node.node, why: node.snapshot_waits_for }), remedy: t('remedy.snapshotWaits'), path: 'cluster' });
    }
  }
  return found;
}

/** Problems of groups, as the overview shows them. */
export function ofGroups(waiting, now) {
  const found = [];
  for (const row of waiting?.lags ?? []) {
    const late = row.oldest_unsettled_at_ms === null ? 0 : now - row.oldest_unsettled_at_ms;
    if (late > LATE_MS) {
      const values = { group: row.group, topic: row.topic, lag: number(row.lag), length: length(late) };
      found.push({ level: 'warn', what: t('problem.late', values), remedy: t('remedy.late'), path: to('group', row.group) });
    }
  }
  for (const row of waiting?.dead ?? []) {
    found.push({ level: 'warn', what: t('problem.dead', { group: row.group, dead: number(row.dead) }), remedy: t('remedy.dead'), path: to('dead', row.group) });
  }
  return found;
}

/** All of them, for people. */
export function list(problems) {
  if (!problems.length) return el('p', { class: 'fine' }, badge(t('problem.ok'), 'good'), ' ', t('problem.none'));
  const item = ({ level, what, remedy, path, links = [], acts = [] }) =>
    el('li', null, badge(t(level === 'bad' ? 'problem.bad' : 'problem.warn'), level), ' ',
      path ? link(path, what) : el('strong', null, what), el('div', { class: 'remedy' }, remedy),
      links.length + acts.length > 0 && el('div', { class: 'row' },
        acts.map(({ title, open }) => el('button', { type: 'button', onclick: open }, title)),
        links.map(([place, title]) => link(place, title))));
  return el('ul', { class: 'problems' }, problems.map(item));
}
