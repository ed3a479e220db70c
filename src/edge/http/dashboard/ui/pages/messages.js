// Looks for stored messages: by id, key, place or time. A search is bounded, says where it stopped, and goes on from there.

import { read } from '../api.js';
import { action } from '../dialog.js';
import { el, update } from '../dom.js';
import { number, time } from '../format.js';
import { canBeResent, messageTable, resend } from '../messagetable.js';
import { t } from '../texts.js';
import { forField, moment, whole } from '../words.js';

const HOUR = 3600 * 1000;

export async function open(root, { signal, names: [topic = ''] }) {
  const found = el('div', { 'aria-live': 'polite' });
  const inputs = {
    topic: el('input', { type: 'search', name: 'topic', value: topic, required: true, autocomplete: 'off' }),
    by: el('select', { name: 'by', onchange: () => arrange() }, ['time', 'key', 'id', 'place'].map((word) => el('option', { value: word }, t(BY[word])))),
    key: el('input', { type: 'text', name: 'key' }),
    id: el('input', { type: 'text', name: 'id' }),
    queue: el('input', { type: 'number', name: 'queue', value: '0', min: 0 }),
    offset: el('input', { type: 'number', name: 'offset', value: '0', min: 0 }),
    from: el('input', { type: 'datetime-local', step: 1, name: 'from', value: forField(Date.now() - 2 * HOUR) }),
    to: el('input', { type: 'datetime-local', step: 1, name: 'to' }),
  };
  const labels = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, el('label', null, t(LABELS[name]), input)]));
  const arrange = () => {
    const by = inputs.by.value;
    for (const name of ['key', 'id', 'queue', 'offset', 'from', 'to']) labels[name].hidden = !SHOWN[by].includes(name);
  };
  const form = el('form', { class: 'tools', onsubmit: (event) => { event.preventDefault(); search(); } },
    Object.values(labels), el('button', { type: 'submit' }, t('messages.search')));
  let messages = [];
  let searched = 0;
  const search = async (cursor = '') => {
    if (!cursor) { messages = []; searched = 0; }
    const by = inputs.by.value;
    const name = inputs.topic.value.trim();
    try {
      if (by === 'place') {
        const one = await read('message', { topic: name, queue: whole(inputs.queue.value), offset: whole(inputs.offset.value) }, signal);
        return update(found, listed(one.messages));
      }
      const bounds = { from_ms: inputs.from.value && moment(inputs.from.value), to_ms: inputs.to.value && moment(inputs.to.value) };
      const wanted = by === 'key' ? { key: inputs.key.value.trim(), ...bounds } : by === 'id' ? { id: inputs.id.value.trim(), ...bounds } : bounds;
      const page = await read('messages', { topic: name, ...wanted, cursor }, signal);
      messages = messages.concat(page.messages);
      searched += page.searched;
      update(found, el('p', { class: 'note' }, stopped(page, messages, searched)),
        page.cursor && el('button', { type: 'button', onclick: () => search(page.cursor) }, t('messages.goOn')),
        listed(messages));
    } catch (error) {
      update(found, el('p', { class: 'failed', role: 'alert' }, error.message));
    }
  };
  update(root, el('h1', null, t('page.messages')), form, found);
  arrange();
  if (topic) await search();
}

function listed(messages) {
  return messageTable(messages, [t('column.actions'), (row) => canBeResent(row) && action(t('message.resend'), () => resend(row))]);
}

const BY = { time: 'messages.byTime', key: 'messages.byKey', id: 'messages.byId', place: 'messages.byPlace' };
const LABELS = {
  topic: 'fact.topic', by: 'messages.by', key: 'messages.key', id: 'fact.messageId', queue: 'column.queue', offset: 'column.offset',
  from: 'messages.from', to: 'messages.to',
};
const SHOWN = { time: ['from', 'to'], key: ['key', 'from', 'to'], id: ['id', 'from', 'to'], place: ['queue', 'offset'] };

/** Where a search stands. */
function stopped(page, messages, searched) {
  const values = { found: number(messages.length), searched: number(searched) };
  if (!page.cursor) return t('messages.all', values);
  const last = page.messages.at(-1);
  return last ? t('messages.stoppedAt', { ...values, queue: last.queue, offset: last.offset, time: time(last.stored_at_ms) }) : t('messages.stopped', values);
}
