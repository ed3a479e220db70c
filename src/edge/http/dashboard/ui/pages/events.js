// What operators did and what befell the cluster: from the log, the same on every node.

import { again, read } from '../api.js';
import { el, update } from '../dom.js';
import { eventTable } from '../eventtable.js';
import { number } from '../format.js';
import { t } from '../texts.js';

const PAGE_ROWS = 50;

export function open(root, { signal }) {
  // Where each page before this one began.
  const began = [];
  let before;
  const list = el('div');
  const look = async () => {
    const page = await read('events', { before, limit: PAGE_ROWS }, signal);
    const older = () => { began.push(before); before = page.before; return look(); };
    const newer = () => { before = began.pop(); return look(); };
    update(list, page.may_be_old && el('p', { class: 'note' }, t('events.old')),
      eventTable(page.events),
      el('div', { class: 'row' },
        el('button', { type: 'button', disabled: began.length === 0, onclick: newer }, t('events.newer')),
        page.events.length > 0 && el('span', null, t('events.shown', { from: number(page.events.at(-1).number), to: number(page.events[0].number) })),
        el('button', { type: 'button', disabled: !page.before, onclick: older }, t('events.older'))));
  };
  update(root, el('h1', null, t('page.events')), list);
  return again(signal, look);
}
