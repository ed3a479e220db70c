// One group: why it does or does not get on, where it is, who is in it.

import { again, read } from '../api.js';
import { lines } from '../chart.js';
import { of, silent } from '../diagnosis.js';
import { action, ask } from '../dialog.js';
import { el, link, section, to, update } from '../dom.js';
import { ago, length, number, rate, text, time } from '../format.js';
import { list } from '../problems.js';
import { facts, table } from '../table.js';
import { t } from '../texts.js';
import { clusterNow } from '../time.js';
import { forField, moment, whole } from '../words.js';
import { positionTable } from './topic.js';
import { create as createTopic } from './topics.js';

const FIVE_MINUTES = 5 * 60 * 1000;

export function open(root, { signal, onSample, names: [name], history }) {
  const lags = [];
  let known;
  const look = async () => {
    const [group, counts] = await Promise.all([read('group', { name }, signal), read('counts', { group: name }, signal)]);
    const came = new Map(await Promise.all(silent(group, counts.groups).map((topic) => entered(topic, signal))));
    const now = clusterNow();
    lags.push([now, group.group.lag]);
    while (lags[0][0] < now - FIVE_MINUTES) lags.shift();
    known = { group, counts, came };
    show();
  };
  const show = () => {
    if (!known) return;
    const seen = { nodes: history.at(-1)?.cluster.nodes ?? [], came: known.came, now: clusterNow() };
    update(root, el('h1', null, t('group.title', { group: name })), parts(known.group, known.counts, lags, seen, look));
  };
  // Which nodes answer, and how old what waits is.
  onSample(show);
  return again(signal, look);
}

/** A topic, and how many messages came into it in the last hour. */
async function entered(topic, signal) {
  const { topics } = await read('counts', { topic }, signal);
  return [topic, topics[0]?.in_last_hour ?? 0];
}

function parts(described, counts, lags, seen, look) {
  const { group, positions, members } = described;
  const { now } = seen;
  const topics = [...new Set(positions.map((row) => row.topic))];
  const mend = {
    reset: (preset) => reset(group.group, topics, look, preset),
    change: (preset) => change(group, look, preset),
    createTopic: (preset) => createTopic(look, preset),
  };
  const per = counts.groups.reduce((sum, row) => sum + row.out_per_second, 0);
  return [
    el('div', { class: 'row' },
      link(to('dead', group.group), t('group.dead', { count: number(group.dead) })),
      topics.length > 0 && action(t('group.reset'), () => reset(group.group, topics, look)),
      action(t('group.update'), () => change(group, look)),
      action(t('group.delete'), () => remove(group), true)),
    section(t('group.why'), list(of(described, { ...seen, mend }))),
    facts([
      [t('column.lag'), number(group.lag)],
      [t('column.inFlight'), number(group.in_flight)],
      [t('column.returning'), number(group.returning)],
      [t('column.oldest'), ago(group.oldest_unsettled_at_ms, now)],
      [t('card.out'), t('card.perSecond', { rate: rate(per) })],
      [t('group.emptyIn'), empty(lags)],
      [t('fact.type'), group.type],
      [t('column.retries'), number(group.retries_max)],
      [t('column.backoff'), group.backoff],
      [t('fact.consumeFrom'), group.consume_from],
      [t('fact.filter'), text(group.filter)],
      [t('fact.created'), time(group.created_at_ms)],
    ]),
    el('p', { class: 'note' }, t('group.words')),
    el('div', { class: 'charts' }, lines({ label: t('chart.lag'), series: [{ name: t('column.lag'), points: lags }], span: FIVE_MINUTES, now, show: number, isWhole: true })),
    section(t('topic.positions'), positionTable(positions, now)),
    section(t('group.members'), memberTable(members, now)),
    section(t('group.counts'), countTable(counts.groups)),
  ];
}

/** When the lag is gone if it goes on as it does. */
function empty(lags) {
  const [first, last] = [lags[0], lags.at(-1)];
  if (!last || last[1] === 0) return t('group.isEmpty');
  const gone = (first[1] - last[1]) / (last[0] - first[0]);
  return gone > 0 ? length(last[1] / gone) : t('group.grows');
}

function memberTable(members, now) {
  return table(t('group.members'), [
    [t('column.client'), (row) => row.client_id],
    [t('column.language'), (row) => row.language],
    [t('column.version'), (row) => row.version],
    [t('column.address'), (row) => row.address],
    [t('column.seen'), (row) => ago(row.last_seen_at_ms, now), 'number'],
    [t('column.node'), (row) => row.node],
    [t('column.wants'), (row) => text(row.subscriptions.join('; ')), 'wide'],
  ], members, (row) => row.client_id);
}

function countTable(rows) {
  return table(t('group.counts'), [
    [t('column.topic'), (row) => link(to('topic', row.topic), row.topic)],
    [t('column.out'), (row) => rate(row.out_per_second), 'number'],
    [t('column.lastHour'), (row) => number(row.out_last_hour), 'number'],
    [t('column.today'), (row) => number(row.out_today), 'number'],
    [t('column.yesterday'), (row) => number(row.out_yesterday), 'number'],
    [t('column.redeliveries'), (row) => number(row.redeliveries), 'number'],
    [t('column.acked'), (row) => number(row.acked), 'number'],
    [t('column.dead'), (row) => number(row.dead_letters), 'number'],
  ], rows, (row) => row.topic);
}

function reset(group, topics, done, { topic = topics[0], to = 'latest', at = clusterNow() - 3600 * 1000 } = {}) {
  ask({
    title: t('group.reset'),
    action: 'offset.reset',
    fixed: { group },
    confirm: group,
    done,
    fields: [
      { name: 'topic', label: t('fact.topic'), choices: topics.map((name) => [name, name]), value: topic },
      { name: 'to', label: t('reset.to'), value: to, choices: [
        ['earliest', t('reset.earliest')], ['latest', t('reset.latest')], ['unsettled', t('reset.unsettled')], ['time', t('reset.time')], ['offset', t('reset.offset')],
      ] },
      { name: 'at', as: 'value', label: t('reset.at'), kind: 'datetime-local', value: forField(at), read: moment, when: (form) => form.to === 'time', isNeeded: true },
      { name: 'offset', as: 'value', label: t('reset.offsetValue'), kind: 'number', value: '0', read: whole, when: (form) => form.to === 'offset', isNeeded: true },
    ],
  });
}

function change(group, done, { retries = '', sets_filter: setsFilter = false, note } = {}) {
  ask({
    title: t('group.update'),
    action: 'group.update',
    note,
    fixed: { group: group.group },
    isNothing: (body) => body.retries === undefined && body.backoff === undefined && !body.sets_filter,
    done,
    fields: [
      { name: 'retries', label: t('fact.retries'), kind: 'number', value: retries, read: whole },
      { name: 'backoff', label: t('fact.backoff') },
      { name: 'sets_filter', label: t('group.setsFilter'), kind: 'check', value: setsFilter },
      { name: 'filter', label: t('fact.filter'), value: group.filter },
    ],
  });
}

function remove(group) {
  ask({
    title: t('group.delete'),
    action: 'group.delete',
    fixed: { group: group.group },
    confirm: group.group,
    done: () => { location.hash = '#/groups'; },
  });
}
