// The whole life of a message, from the log: where it is, who received it, when, how often, and what became of it.

import { read } from '../api.js';
import { action } from '../dialog.js';
import { el, link, section, to, update } from '../dom.js';
import { bytes, number, text, time } from '../format.js';
import { canBeResent, resend } from '../messagetable.js';
import { badge, facts, table } from '../table.js';
import { t } from '../texts.js';

const SECONDS = [5, 30];

export async function open(root, { signal, names: [topic, queue, offset] }) {
  const look = async (seconds) => {
    const wanted = queue === 'id' ? { topic, id: offset, seconds } : { topic, queue, offset, seconds };
    const trace = await read('trace', wanted, signal);
    update(root, el('h1', null, t('message.title', { id: trace.message.message_id })), parts(topic, trace, look));
  };
  await look(SECONDS[0]);
}

const STATES = {
  ready: ['explain.ready', 'busy'],
  'in flight': ['explain.inFlight', 'busy'],
  returning: ['explain.returning', 'warn'],
  acknowledged: ['explain.acknowledged', 'good'],
  dead: ['explain.dead', 'bad'],
  settled: ['explain.settled', 'good'],
};
const EVENTS = {
  delivered: 'event.delivered', acknowledged: 'event.acknowledged', 'change asked': 'event.changeAsked', unread: 'event.unread', dead: 'event.dead', refused: 'event.refused',
};
const LIVES = { queued: 'life.queued', delayed: 'life.delayed', half: 'life.half', 'rolled back': 'life.rolledBack' };

function parts(topic, trace, look) {
  const { message, stored, events } = trace;
  return [
    canBeResent(stored) && el('div', { class: 'row' }, action(t('message.resend'), () => resend(stored))),
    section(t('message.story'), el('ol', { class: 'story' }, story(message).map((line) => el('li', null, line)))),
    section(t('message.groups'), groups(events)),
    trace.searched_to < trace.log_end && el('div', { class: 'row' },
      el('span', { class: 'note' }, t('message.searched', { to: number(trace.searched_to), end: number(trace.log_end) })),
      el('button', { type: 'button', onclick: () => look(SECONDS[1]) }, t('message.searchOn', { seconds: SECONDS[1] }))),
    section(t('message.events'), table(t('message.events'), [
      [t('column.at'), (row) => time(row.at_ms)],
      [t('column.group'), (row) => link(to('group', row.group), row.group)],
      [t('column.event'), (row) => (EVENTS[row.what] ? t(EVENTS[row.what]) : row.what)],
      [t('column.client'), (row) => row.client],
      [t('column.entry'), (row) => number(row.entry), 'number'],
    ], events.filter((row) => row.at_ms !== null))),
    section(t('message.properties'), facts([
      [t('fact.topic'), link(to('topic', topic), topic)],
      [t('fact.type'), stored.type],
      [t('column.tag'), text(stored.tag)],
      [t('column.keys'), text(stored.keys.join(' '))],
      [t('message.group'), text(stored.message_group)],
      [t('message.priority'), text(stored.priority)],
      [t('column.bytes'), bytes(stored.body_bytes)],
      ...Object.entries(stored.properties),
    ])),
    section(t('column.body'), body(stored)),
  ];
}

/** What happened before any group received it. */
function story(message) {
  const values = {
    at: time(message.produced_at_ms), by: message.produced_by, stored: time(message.stored_at_ms), term: text(message.term), entry: number(message.entry),
    slot: message.slot, segment: text(message.segment), nodes: message.replicas.join(', '), queue: message.queue, offset: message.offset,
    until: time(message.delivery_at_ms), asked: message.asked, next: time(message.asked_next_ms),
  };
  const lines = [t('story.produced', values), t('story.stored', values)];
  if (message.unknown.length) lines.push(t('story.unknown', { nodes: message.unknown.join(', ') }));
  lines.push(LIVES[message.state] ? t(LIVES[message.state], values) : message.state);
  return lines;
}

function groups(events) {
  const known = new Map();
  for (const row of events) {
    const group = known.get(row.group) ?? { group: row.group, state: row.state, deliveries: 0, last: undefined };
    if (row.what === 'delivered') { group.deliveries += 1; group.last = row; }
    known.set(row.group, group);
  }
  return table(t('message.groups'), [
    [t('column.group'), (row) => link(to('group', row.group), row.group)],
    [t('column.state'), (row) => (STATES[row.state] ? badge(t(STATES[row.state][0]), STATES[row.state][1]) : row.state)],
    // Of one that is settled for long, the log is not asked who had it.
    [t('column.deliveries'), (row) => (row.deliveries === 0 && row.state !== 'ready' ? text() : number(row.deliveries)), 'number'],
    [t('column.lastTo'), (row) => text(row.last?.client)],
    [t('column.at'), (row) => time(row.last?.at_ms)],
  ], [...known.values()]);
}

/** The body as text, and laid out if it is JSON. */
function body(stored) {
  const cut = stored.body.length < stored.body_bytes && el('p', { class: 'note' }, t('message.cut', { bytes: bytes(stored.body_bytes) }));
  let laidOut;
  try {
    const parsed = JSON.parse(stored.body);
    laidOut = typeof parsed === 'object' && parsed !== null && el('details', null, el('summary', null, 'JSON'), el('pre', null, JSON.stringify(parsed, null, 2)));
  } catch {
    laidOut = undefined;
  }
  return [el('pre', { class: 'body' }, stored.body), cut, laidOut];
}
