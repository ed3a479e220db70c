// The cockpit: is it well, how much goes through it, what lags behind.

import { again, read } from '../api.js';
import { lines } from '../chart.js';
import { el, link, section, to, update } from '../dom.js';
import { eventTable } from '../eventtable.js';
import { ago, length, level, number, percent, rate, role, state, text } from '../format.js';
import { list, ofGroups, ofNodes } from '../problems.js';
import { badge, facts, table } from '../table.js';
import { t } from '../texts.js';

const FIVE_MINUTES = 5 * 60 * 1000;
const HOUR = 60 * 60 * 1000;
const MINUTE = 60 * 1000;
const ROWS = 10;
const EVENTS = 6;

export function open(root, { signal, onSample, history }) {
  let overview;
  let events;
  let sample = history.at(-1);
  const show = () => update(root, el('h1', null, t('page.overview')), sample && parts(sample, overview, events, history));
  onSample((now) => { sample = now; show(); });
  return again(signal, async () => { [overview, events] = await Promise.all([read('overview', {}, signal), read('events', { limit: EVENTS }, signal)]); show(); });
}

function parts(sample, overview, events, history) {
  const { cluster, at_ms: now } = sample;
  const problems = [...ofNodes(cluster), ...ofGroups(overview?.waiting, now)];
  return [
    cards(cluster, overview),
    section(t('overview.problems', { count: problems.length }), list(problems)),
    section(t('overview.traffic'), el('div', { class: 'charts' }, fiveMinutes(history, now), overview && hour(overview, now))),
    section(t('overview.nodes'), nodes(cluster)),
    overview && el('div', { class: 'charts' }, topics(overview), lags(overview, now)),
    events && section(t('overview.events'), eventTable(events.events), link('events', t('overview.allEvents'))),
    overview && el('p', { class: 'note' }, t('overview.counted', { node: overview.counted.node, length: length(now - overview.counted.since_ms) }),
      ' ', overview.waiting && t('overview.waitingAge', { length: length(overview.waiting.age_ms) })),
  ];
}

/** Every node takes and gives messages of its own clients. */
function sum(cluster, key) {
  return cluster.nodes.reduce((all, node) => all + (node[key] ?? 0), 0);
}

/** What leads counted by day what entered the log, wherever it came in. */
function leaderOf(cluster) {
  return cluster.nodes.find((node) => node.node === cluster.leader);
}

function cards(cluster, overview) {
  const leader = leaderOf(cluster);
  const up = cluster.nodes.filter((node) => node.term !== null).length;
  const waiting = overview?.waiting;
  return facts([
    [t('card.cluster'), `${cluster.nodes[0]?.cluster} / ${cluster.nodes[0]?.broker}`],
    [t('card.leader'), leader ? t('card.leaderTerm', { node: leader.node, term: leader.term }) : badge(t('card.noLeader'), 'bad')],
    [t('card.nodes'), t('card.ofNodes', { up, all: cluster.nodes.length, quorum: cluster.quorum })],
    [t('card.in'), t('card.perSecond', { rate: rate(sum(cluster, 'in_per_second')) })],
    [t('card.out'), t('card.perSecond', { rate: rate(sum(cluster, 'out_per_second')) })],
    [t('card.today'), t('card.inOut', { taken: number(leader?.in_today), given: number(leader?.out_today) })],
    [t('card.yesterday'), t('card.inOut', { taken: number(leader?.in_yesterday), given: number(leader?.out_yesterday) })],
    [t('card.topicsGroups'), waiting ? `${number(waiting.topics)} / ${number(waiting.groups)}` : undefined],
    [t('card.lag'), waiting ? number(waiting.lag) : undefined],
    [t('card.waiting'), waiting ? `${number(waiting.delayed)} / ${number(waiting.halves)}` : undefined],
    [t('card.deadToday'), overview ? number(overview.dead_today) : undefined],
  ]);
}

function fiveMinutes(history, now) {
  const of = (key) => history.map((sample) => [sample.at_ms, sum(sample.cluster, key)]);
  const series = [
    { name: t('card.in'), points: of('in_per_second') },
    { name: t('card.out'), points: of('out_per_second') },
  ];
  return lines({ label: t('chart.fiveMinutes'), series, span: FIVE_MINUTES, now, show: rate });
}

/** By minute; those without any message are not told, and are 0. The one that goes on is left out. */
function hour(overview, now) {
  const last = Math.floor(now / MINUTE) * MINUTE;
  const all = (points) => {
    const known = new Map(points);
    return Array.from({ length: 60 }, (_, at) => last - (60 - at) * MINUTE).map((at) => [at, (known.get(at) ?? 0) / 60]);
  };
  const series = [
    { name: t('card.in'), points: all(overview.minutes.in) },
    { name: t('card.out'), points: all(overview.minutes.out) },
  ];
  return lines({ label: t('chart.hour'), series, span: HOUR, now: last, show: rate });
}

function nodes(cluster) {
  const columns = [
    [t('column.node'), (row) => row.node],
    [t('column.role'), (row) => role(row.role)],
    [t('column.address'), (row) => row.address],
    [t('column.version'), (row) => text(row.version)],
    [t('column.in'), (row) => rate(row.in_per_second), 'number'],
    [t('column.out'), (row) => rate(row.out_per_second), 'number'],
    [t('column.disk'), (row) => percent(row.disk_used_percent), 'number'],
    [t('column.uptime'), (row) => length(row.uptime_ms), 'number'],
    [t('column.state'), (row) => badge(state(row.state), level(row.state))],
  ];
  return table(t('overview.nodes'), columns, cluster.nodes.slice(0, ROWS), (row) => row.node);
}

function topics(overview) {
  const columns = [
    [t('column.topic'), (row) => link(to('topic', row.topic), row.topic)],
    [t('column.in'), (row) => rate(row.in_per_second), 'number'],
    [t('column.lastHour'), (row) => number(row.in_last_hour), 'number'],
    [t('column.today'), (row) => number(row.in_today), 'number'],
  ];
  return section(t('overview.topics'), table(t('overview.topics'), columns, overview.topics, (row) => row.topic));
}

function lags(overview, now) {
  const columns = [
    [t('column.group'), (row) => link(to('group', row.group), row.group)],
    [t('column.topic'), (row) => link(to('topic', row.topic), row.topic)],
    [t('column.lag'), (row) => number(row.lag), 'number'],
    [t('column.inFlight'), (row) => number(row.in_flight), 'number'],
    [t('column.oldest'), (row) => ago(row.oldest_unsettled_at_ms, now), 'number'],
  ];
  const rows = overview.waiting?.lags ?? [];
  return section(t('overview.lags'), table(t('overview.lags'), columns, rows, (row) => `${row.group} ${row.topic}`));
}
