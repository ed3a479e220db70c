// Messages that wait for their delivery time: look, move, take back.

import { again, read } from '../api.js';
import { action, ask } from '../dialog.js';
import { el, update } from '../dom.js';
import { length, time } from '../format.js';
import { messageTable } from '../messagetable.js';
import { t } from '../texts.js';
import { clusterNow } from '../time.js';
import { forField, moment } from '../words.js';

export function open(root, { signal, names: [topic = ''] }) {
  let name = topic;
  const list = el('div');
  const input = el('input', { type: 'search', name: 'topic', value: topic, required: true, autocomplete: 'off' });
  const look = async () => {
    if (!name) return;
    try {
      const { messages } = await read('delayed', { topic: name }, signal);
      update(list, rows(messages, look));
    } catch (error) {
      update(list, el('p', { class: 'failed' }, error.message));
    }
  };
  update(root, el('h1', null, t('page.delayed')),
    el('form', { class: 'tools', onsubmit: (event) => { event.preventDefault(); name = input.value.trim(); look(); } },
      el('label', null, t('fact.topic'), input), el('button', { type: 'submit' }, t('show'))),
    list);
  return again(signal, look);
}

function rows(messages, look) {
  const now = clusterNow();
  return messageTable(messages,
    [t('column.delivery'), (row) => `${time(row.delivery_at_ms)} (${t('in', { length: length(Math.max(0, row.delivery_at_ms - now)) })})`],
    [t('column.actions'), (row) => el('span', { class: 'row' }, action(t('delayed.move'), () => move(row, look)), action(t('delayed.recall'), () => recall(row, look), true))]);
}

function move(row, done) {
  ask({
    title: t('delayed.move'),
    action: 'delayed.move',
    fixed: { topic: row.topic, handle: row.recall_handle },
    done,
    fields: [{ name: 'to_ms', label: t('delayed.to'), kind: 'datetime-local', value: forField(Date.now() + 3600 * 1000), read: moment }],
  });
}

function recall(row, done) {
  ask({ title: t('delayed.recall'), action: 'delayed.recall', fixed: { topic: row.topic, handle: row.recall_handle }, done });
}
