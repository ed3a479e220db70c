// Dead letters of a group: look at them, and deliver them again.

import { again, read } from '../api.js';
import { action, ask } from '../dialog.js';
import { el, link, to, update } from '../dom.js';
import { number, time } from '../format.js';
import { messageTable } from '../messagetable.js';
import { t } from '../texts.js';

const PAGE_ROWS = 50;

export function open(root, { signal, names: [group = ''] }) {
  let name = group;
  let from = 0;
  const list = el('div');
  const input = el('input', { type: 'search', name: 'group', value: group, required: true, autocomplete: 'off' });
  const look = async () => {
    if (!name) return;
    try {
      const dead = await read('dead', { group: name, from, limit: PAGE_ROWS }, signal);
      const turn = (to) => () => { from = to; look(); };
      update(list,
        el('div', { class: 'row' }, link(to('group', name), t('group.title', { group: name })),
          action(t('dead.redriveAll'), () => redrive(name, { all: true }, look))),
        rows(name, dead.messages, look),
        el('div', { class: 'row' },
          el('button', { type: 'button', disabled: from === 0, onclick: turn(Math.max(0, from - PAGE_ROWS)) }, t('pager.back')),
          el('span', null, t('dead.of', { end: number(dead.end) })),
          el('button', { type: 'button', disabled: dead.next >= dead.end, onclick: turn(dead.next) }, t('pager.on'))));
    } catch (error) {
      update(list, el('p', { class: 'failed' }, error.message));
    }
  };
  update(root, el('h1', null, t('page.dead')),
    el('form', { class: 'tools', onsubmit: (event) => { event.preventDefault(); name = input.value.trim(); from = 0; look(); } },
      el('label', null, t('fact.group'), input), el('button', { type: 'submit' }, t('show'))),
    list);
  return again(signal, look);
}

function rows(group, messages, look) {
  return messageTable(messages,
    [t('column.from'), ({ origin }) => from(origin)],
    [t('column.attempts'), ({ origin }) => number(origin?.attempts), 'number'],
    [t('dead.redriven'), ({ origin }) => time(origin?.redriven_at_ms)],
    [t('column.actions'), (row) => action(t('dead.redrive'), () => redrive(group, { offsets: [row.offset] }, look))]);
}

// What a classic consumer gave back says no place.
function from(origin) {
  if (!origin || origin.queue == null) return origin?.topic ?? '–';
  return link(to('message', origin.topic, origin.queue, origin.offset), `${origin.topic} ${origin.queue}/${origin.offset}`);
}

function redrive(group, which, done) {
  ask({ title: t('dead.redrive'), action: 'dead.redrive', fixed: { group, ...which }, done });
}
