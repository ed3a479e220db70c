// One topic: its queues, its groups, what moves in it.

import { again, read } from '../api.js';
import { action, ask } from '../dialog.js';
import { el, link, section, to, update } from '../dom.js';
import { ago, length, number, rate, text, time } from '../format.js';
import { facts, table } from '../table.js';
import { t } from '../texts.js';
import { clusterNow } from '../time.js';
import { TYPES, hours, keptFor, whole } from '../words.js';

export function open(root, { signal, names: [name] }) {
  const look = async () => {
    const [topic, counts] = await Promise.all([read('topic', { name }, signal), read('counts', { topic: name }, signal)]);
    update(root, el('h1', null, t('topic.title', { topic: name })), parts(topic, counts, look));
  };
  return again(signal, look);
}

function parts({ topic, queues, positions }, counts, look) {
  const moved = counts.topics[0];
  const now = clusterNow();
  return [
    el('div', { class: 'row' },
      link(to('messages', topic.topic), t('topic.messages')),
      link(to('delayed', topic.topic), t('topic.delayed')),
      action(t('topic.update'), () => change(topic, look)),
      action(t('topic.delete'), () => remove(topic), true)),
    facts([
      [t('fact.type'), topic.type],
      [t('fact.permission'), topic.permission],
      [t('column.messages'), number(topic.messages)],
      [t('fact.retention'), keptFor(topic.retention_ms)],
      [t('card.in'), t('card.perSecond', { rate: rate(moved?.in_per_second ?? 0) })],
      [t('card.today'), number(moved?.in_today ?? 0)],
      [t('card.yesterday'), number(moved?.in_yesterday ?? 0)],
      [t('fact.created'), time(topic.created_at_ms)],
    ]),
    section(t('topic.queues'), table(t('topic.queues'), [
      [t('column.queue'), (row) => row.queue, 'number'],
      [t('column.min'), (row) => number(row.min_offset), 'number'],
      [t('column.max'), (row) => number(row.max_offset), 'number'],
      [t('column.oldestStored'), (row) => time(row.oldest_stored_at_ms)],
      [t('column.lastStored'), (row) => time(row.last_stored_at_ms)],
    ], queues, (row) => row.queue)),
    section(t('topic.groups'), groups(positions, counts.groups)),
    section(t('topic.positions'), positionTable(positions, now)),
    el('p', { class: 'note' }, t('overview.counted', { node: counts.counted.node, length: length(now - counts.counted.since_ms) })),
  ];
}

function groups(positions, counts) {
  const lags = new Map();
  for (const row of positions) lags.set(row.group, (lags.get(row.group) ?? 0) + row.lag);
  const rows = [...lags].map(([group, lag]) => ({ group, lag, moved: counts.find((row) => row.group === group) }));
  return table(t('topic.groups'), [
    [t('column.group'), (row) => link(to('group', row.group), row.group)],
    [t('column.lag'), (row) => number(row.lag), 'number'],
    [t('column.out'), (row) => rate(row.moved?.out_per_second ?? 0), 'number'],
    [t('column.today'), (row) => number(row.moved?.out_today ?? 0), 'number'],
    [t('column.redeliveries'), (row) => number(row.moved?.redeliveries ?? 0), 'number'],
    [t('column.dead'), (row) => number(row.moved?.dead_letters ?? 0), 'number'],
  ], rows, (row) => row.group);
}

/** Where groups are in queues. */
export function positionTable(positions, now) {
  return table(t('topic.positions'), [
    [t('column.group'), (row) => link(to('group', row.group), row.group)],
    [t('column.topic'), (row) => link(to('topic', row.topic), row.topic)],
    [t('column.queue'), (row) => row.queue, 'number'],
    [t('column.max'), (row) => number(row.max_offset), 'number'],
    [t('column.committed'), (row) => number(row.group_offset), 'number'],
    [t('column.lag'), (row) => number(row.lag), 'number'],
    [t('column.inFlight'), (row) => number(row.in_flight), 'number'],
    [t('column.attempts'), (row) => text(row.attempts_max || ''), 'number'],
    [t('column.client'), (row) => text(row.clients.join(', '))],
    [t('column.lastTime'), (row) => (row.last_consumed_at_ms === null ? text() : `${time(row.last_consumed_at_ms)} (${ago(row.last_consumed_at_ms, now)})`)],
    [t('column.lost'), (row) => number(row.lost), 'number'],
  ], positions, (row) => `${row.group} ${row.topic} ${row.queue}`);
}

function change(topic, done) {
  ask({
    title: t('topic.update'),
    action: 'topic.update',
    fixed: { topic: topic.topic },
    isNothing: (body) => Object.keys(body).length === 1,
    done,
    fields: [
      { name: 'type', label: t('fact.type'), choices: [['', t('same')], ...TYPES.map((type) => [type, type])] },
      { name: 'queues', label: t('fact.queues'), kind: 'number', read: whole },
      { name: 'permission', label: t('fact.permission'), choices: [['', t('same')], ['6', 'RW'], ['4', 'R'], ['2', 'W']], read: whole },
      { name: 'retention_ms', label: t('topic.retentionHours'), kind: 'number', read: hours },
    ],
  });
}

function remove(topic) {
  ask({
    title: t('topic.delete'),
    action: 'topic.delete',
    fixed: { topic: topic.topic },
    confirm: topic.topic,
    done: () => { location.hash = '#/topics'; },
  });
}
