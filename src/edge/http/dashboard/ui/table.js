// A table that may be wider than the page: it scrolls by itself, also with the keyboard.

import { el } from './dom.js';
import { t } from './texts.js';

/** Columns are `[title, cell(row), kind]`; the kind is `number` or left out. `key(row)` says which rows are the same later. */
export function table(label, columns, rows, key = undefined) {
  const head = columns.map(([title, , kind]) => el('th', { scope: 'col', class: kind }, title));
  const cells = (row) => columns.map(([, cell, kind]) => el('td', { class: kind }, cell(row)));
  const body = rows.map((row) => el('tr', { 'data-key': key?.(row) }, cells(row)));
  const none = el('tr', null, el('td', { colspan: columns.length, class: 'none' }, t('table.none')));
  return el(
    'div',
    { class: 'scroll', role: 'region', 'aria-label': label, tabindex: 0 },
    el('table', null, el('thead', null, el('tr', null, head)), el('tbody', null, body.length ? body : none)),
  );
}

/** Facts with their names. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null);
  return el('dl', { class: 'facts' }, shown.map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value))));
}

/** A word in a colour that says how it is. */
export function badge(text, level) {
  return el('span', { class: `badge ${level}` }, text);
}
