// Who is connected: producers and consumers, as all nodes see them.

import { again, read } from '../api.js';
import { el, link, to, update } from '../dom.js';
import { ago, number, text } from '../format.js';
import { table } from '../table.js';
import { t } from '../texts.js';
import { clusterNow } from '../time.js';

export function open(root, { signal }) {
  let contains = '';
  let listed;
  const list = el('div');
  const search = (event) => { contains = event.target.value.trim().toLowerCase(); show(); };
  const show = () => listed && update(list, parts(listed, contains));
  update(root, el('h1', null, t('page.clients')),
    el('form', { class: 'tools', onsubmit: (event) => event.preventDefault() },
      el('label', null, t('clients.search'), el('input', { type: 'search', oninput: search, autocomplete: 'off' }))),
    list);
  return again(signal, async () => { listed = await read('clients', {}, signal); show(); });
}

function parts({ clients, left_out: leftOut, unknown }, contains) {
  const now = clusterNow();
  const has = (row) => [row.client_id, row.group ?? '', row.address, ...row.topics, ...row.subscriptions].some((word) => word.toLowerCase().includes(contains));
  const columns = [
    [t('column.client'), (row) => row.client_id],
    [t('column.does'), (row) => t(row.group ? 'clients.consumes' : row.topics.length ? 'clients.produces' : 'clients.neither')],
    [t('column.group'), (row) => (row.group ? link(to('group', row.group), row.group) : text())],
    [t('column.language'), (row) => row.language],
    [t('column.version'), (row) => row.version],
    [t('column.address'), (row) => row.address],
    [t('column.seen'), (row) => ago(row.last_seen_at_ms, now), 'number'],
    [t('column.node'), (row) => row.node],
    [t('column.wants'), (row) => text([...row.topics, ...row.subscriptions].join('; ')), 'wide'],
  ];
  return [
    table(t('page.clients'), columns, clients.filter(has), (row) => row.client_id),
    leftOut > 0 && el('p', { class: 'note' }, t('clients.leftOut', { count: number(leftOut) })),
    unknown.length > 0 && el('p', { class: 'note' }, t('clients.unknown', { nodes: unknown.join(', ') })),
  ];
}
