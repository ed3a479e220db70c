// Why a group does not get on: what its numbers and its members say, and what to do.

import { length, number } from './format.js';
import { t } from './texts.js';

/** Nothing was settled for so long although something waits. */
const STUCK_MS = 60 * 1000;
/** A message that was delivered so often will hardly be consumed at the next time. */
const POISON_ATTEMPTS = 3;

/** Topics that a subscription names. */
function wants(member) {
  return member.subscriptions.map((text) => text.split(' ')[0]);
}

/** Problems as the overview lists them. `nodes` are those of a sample, if there is one. */
export function of({ group, positions, members, inconsistencies }, nodes, now) {
  const found = [];
  const add = (level, what, remedy) => found.push({ level, what, remedy });
  const lag = positions.reduce((sum, row) => sum + row.lag, 0);
  for (const node of nodes.filter((row) => row.term === null)) {
    add('warn', t('why.node', { node: node.node }), t('why.nodeRemedy', { node: node.node }));
  }
  if (lag > 0 && members.length === 0) {
    const values = { lag: number(lag), topics: [...new Set(positions.filter((row) => row.lag > 0).map((row) => row.topic))].join(', ') };
    add('bad', t('why.noMembers', values), t('why.noMembersRemedy'));
  }
  const named = new Set(members.flatMap(wants));
  if (members.length > 0 && named.size > 0) {
    const lags = new Map();
    for (const row of positions) lags.set(row.topic, (lags.get(row.topic) ?? 0) + row.lag);
    for (const [topic, count] of lags) {
      if (count > 0 && !named.has(topic)) add('bad', t('why.notSubscribed', { topic, lag: number(count) }), t('why.notSubscribedRemedy', { topic }));
    }
  }
  for (const text of inconsistencies) add('bad', t('why.inconsistent', { text }), t('why.inconsistentRemedy'));
  for (const row of positions.filter((row) => row.attempts_max >= POISON_ATTEMPTS)) {
    const values = { topic: row.topic, queue: row.queue, attempts: row.attempts_max, offset: row.group_offset, most: group.retries_max + 1 };
    add('warn', t('why.poison', values), t('why.poisonRemedy', values));
  }
  const late = group.oldest_unsettled_at_ms === null ? 0 : now - group.oldest_unsettled_at_ms;
  if (members.length > 0 && group.in_flight > 0 && late > STUCK_MS && !positions.some((row) => row.attempts_max >= POISON_ATTEMPTS)) {
    add('warn', t('why.stuck', { count: number(group.in_flight), length: length(late) }), t('why.stuckRemedy'));
  }
  if (members.length > 0 && lag > 0 && group.in_flight === 0 && group.returning === 0 && late > STUCK_MS && named.size > 0 && found.length === 0) {
    add('warn', t('why.idle', { lag: number(lag) }), t('why.idleRemedy'));
  }
  if (group.dead > 0) add('warn', t('problem.dead', { group: group.group, dead: number(group.dead) }), t('remedy.dead'));
  const lost = positions.reduce((sum, row) => sum + row.lost, 0);
  if (lost > 0) add('warn', t('why.lost', { lost: number(lost) }), t('why.lostRemedy'));
  return found;
}
