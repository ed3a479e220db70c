// Why a group does not get on: what its numbers and its members say, and what to do, where it can be done.

import { to } from './dom.js';
import { length, number } from './format.js';
import { t } from './texts.js';

/** Nothing was settled for so long although something waits. */
const STUCK_MS = 60 * 1000;
/** A message that was delivered so often will hardly be consumed at the next time. */
const POISON_ATTEMPTS = 3;
const HOUR = 3600 * 1000;
/** Topics, queues or clients that are named. */
const NAMED = 3;

/** Topics that a subscription names, with what it wants of them. */
function wants(member) {
  return member.subscriptions.map((text) => {
    const [topic, kind, ...words] = text.split(' ');
    return { topic, kind, expression: words.join(' ') };
  });
}

/** What the filters of a group are for a topic, in words; empty if all messages pass. */
function filters({ group, members }, topic) {
  const found = new Set(group.filter ? [group.filter] : []);
  for (const { topic: named, kind, expression } of members.flatMap(wants)) {
    if (named === topic && (kind === 'SQL92' || !['', '*'].includes(expression))) found.add(expression);
  }
  return [...found].join('; ');
}

/**
 * Topics of which the filters of a group may have let nothing through: nothing waits, and nothing was delivered in the last hour.
 * Consumers that pull have no deliveries, but acknowledge.
 */
export function silent(described, counts) {
  const topics = [...new Set(described.positions.map((row) => row.topic))];
  const isSilent = (topic) => {
    const moved = counts.find((row) => row.topic === topic);
    const pulls = moved && moved.acked > moved.out_total;
    return !pulls && !moved?.out_last_hour && filters(described, topic) !== ''
      && described.positions.every((row) => row.topic !== topic || row.lag === 0);
  };
  return topics.filter(isSilent).slice(0, NAMED);
}

/**
 * Problems as the overview lists them. `nodes` are those of a sample, if there is one; `came` has how many messages came into each
 * silent topic in the last hour; `mend` opens dialogs: `reset`, `change`, `createTopic`, each with what is filled in.
 */
export function of(described, { nodes, now, came, mend }) {
  const { group, positions, members, inconsistencies } = described;
  const found = [];
  const add = (level, what, remedy, more = {}) => found.push({ level, what, remedy, ...more });
  const sum = (rows, key) => rows.reduce((all, row) => all + row[key], 0);
  const lag = sum(positions, 'lag');
  const topics = [...new Set(positions.map((row) => row.topic))];
  const clients = [['clients', t('page.clients')]];
  const reset = (topic, preset, title = t('group.reset')) => ({ title, open: () => mend.reset({ topic, ...preset }) });
  for (const node of nodes.filter((row) => row.term === null)) {
    add('warn', t('why.node', { node: node.node }), t('why.nodeRemedy', { node: node.node }), { links: [['cluster', t('page.cluster')]] });
  }
  const named = new Set(members.flatMap(wants).map(({ topic }) => topic));
  if (topics.length === 0 && named.size === 0) {
    add('bad', t('why.noTopic', { count: number(members.length) }), t('why.noTopicRemedy', { group: group.group }), { links: [...clients, ['topics', t('page.topics')]] });
  }
  for (const topic of [...named].filter((name) => !topics.includes(name)).slice(0, NAMED)) {
    add('bad', t('why.notIn', { topic }), t('why.notInRemedy', { topic }), {
      links: [['topics', t('page.topics')]], acts: [{ title: t('topic.create'), open: () => mend.createTopic({ topic }) }],
    });
  }
  const waiting = topics.filter((topic) => positions.some((row) => row.topic === topic && row.lag > 0));
  if (lag > 0 && members.length === 0) {
    const values = { lag: number(lag), topics: waiting.join(', ') };
    add('bad', t('why.noMembers', values), t('why.noMembersRemedy', { group: group.group }), {
      links: clients, acts: waiting.slice(0, NAMED).map((topic) => reset(topic, { to: 'latest' }, t('why.passOver', { topic }))),
    });
  }
  if (members.length > 0 && named.size > 0) {
    for (const topic of waiting.filter((name) => !named.has(name))) {
      const values = { topic, lag: number(sum(positions.filter((row) => row.topic === topic), 'lag')) };
      add('bad', t('why.notSubscribed', values), t('why.notSubscribedRemedy', values), {
        links: clients, acts: [reset(topic, { to: 'latest' }, t('why.passOver', { topic }))],
      });
    }
  }
  for (const text of inconsistencies) add('bad', t('why.inconsistent', { text }), t('why.inconsistentRemedy'), { links: clients });
  for (const topic of silent(described, []).filter((name) => came.get(name) > 0)) {
    const values = { topic, count: number(came.get(topic)), filter: filters(described, topic) };
    add('bad', t('why.filter', values), t('why.filterRemedy'), {
      links: [[to('messages', topic), t('topic.messagesOf', { topic })]],
      acts: [
        ...(group.filter ? [{ title: t('why.changeFilter'), open: () => mend.change({ sets_filter: true }) }] : []),
        reset(topic, { to: 'time', at: now - HOUR }),
      ],
    });
  }
  const poisoned = positions.filter((row) => row.attempts_max >= POISON_ATTEMPTS);
  for (const row of poisoned.slice(0, NAMED)) {
    const offset = row.attempts_offset ?? row.group_offset;
    const values = { topic: row.topic, queue: row.queue, attempts: row.attempts_max, offset, most: group.retries_max + 1 };
    add('warn', t('why.poison', values), t('why.poisonRemedy', values), {
      links: [[to('message', row.topic, row.queue, offset), t('why.lookAtMessage')]],
      acts: [{ title: t('why.letDie'), open: () => mend.change({ retries: row.attempts_max - 1, note: t('why.letDieNote', { ...values, before: group.retries_max }) }) }],
    });
  }
  const late = group.oldest_unsettled_at_ms === null ? 0 : now - group.oldest_unsettled_at_ms;
  if (members.length > 0 && group.in_flight > 0 && late > STUCK_MS && poisoned.length === 0) {
    const held = topics.filter((topic) => positions.some((row) => row.topic === topic && row.in_flight > 0));
    const holders = [...new Set(positions.flatMap((row) => row.clients))];
    const who = (holders.length ? holders : members.map((row) => row.client_id)).slice(0, NAMED).join(', ');
    add('warn', t('why.stuck', { count: number(group.in_flight), length: length(late) }), t('why.stuckRemedy', { who }), {
      links: clients, acts: held.slice(0, NAMED).map((topic) => reset(topic, { to: 'unsettled' }, t('why.takeBack', { topic }))),
    });
  }
  if (members.length > 0 && lag > 0 && group.in_flight === 0 && group.returning === 0 && late > STUCK_MS && waiting.some((topic) => named.has(topic))) {
    add('warn', t('why.idle', { lag: number(lag) }), t('why.idleRemedy'), { links: clients });
  }
  if (group.dead > 0) {
    const path = to('dead', group.group);
    add('warn', t('problem.dead', { group: group.group, dead: number(group.dead) }), t('remedy.dead'), { path, links: [[path, t('page.dead')]] });
  }
  const lost = positions.filter((row) => row.lost > 0);
  if (lost.length > 0) {
    add('warn', t('why.lost', { lost: number(sum(lost, 'lost')) }), t('why.lostRemedy'), { links: [...new Set(lost.map((row) => row.topic))].slice(0, NAMED).map((topic) => [to('topic', topic), t('topic.title', { topic })]) });
  }
  return found;
}
