// All consumer groups.

import { again, read } from '../api.js';
import { action, ask } from '../dialog.js';
import { el, link, to, update } from '../dom.js';
import { ago, number } from '../format.js';
import { pager } from '../pager.js';
import { table } from '../table.js';
import { t } from '../texts.js';
import { clusterNow } from '../time.js';
import { whole } from '../words.js';

export function open(root, { signal }) {
  const asked = pager(() => look());
  const list = el('div');
  const look = async () => {
    const { groups, total } = await read('groups', asked.asked(), signal);
    update(list, rows(groups), asked.turns(groups.length, total));
  };
  update(root, el('h1', null, t('page.groups')),
    asked.tools(t('groups.search'), action(t('group.create'), () => create(look))), list);
  return again(signal, look);
}

function rows(groups) {
  const now = clusterNow();
  const columns = [
    [t('column.group'), (row) => link(to('group', row.group), row.group)],
    [t('column.type'), (row) => row.type],
    [t('column.members'), (row) => row.members, 'number'],
    [t('column.topics'), (row) => row.topics, 'number'],
    [t('column.lag'), (row) => number(row.lag), 'number'],
    [t('column.inFlight'), (row) => number(row.in_flight), 'number'],
    [t('column.returning'), (row) => number(row.returning), 'number'],
    [t('column.dead'), (row) => (row.dead ? link(to('dead', row.group), number(row.dead)) : '0'), 'number'],
    [t('column.oldest'), (row) => ago(row.oldest_unsettled_at_ms, now), 'number'],
    [t('column.retries'), (row) => row.retries_max, 'number'],
  ];
  return table(t('page.groups'), columns, groups, (row) => row.group);
}

function create(done) {
  ask({
    title: t('group.create'),
    action: 'group.create',
    done,
    fields: [
      { name: 'group', label: t('fact.group'), isNeeded: true },
      { name: 'retries', label: t('fact.retries'), kind: 'number', read: whole },
      { name: 'backoff', label: t('fact.backoff') },
      { name: 'filter', label: t('fact.filter') },
      { name: 'orderly', label: t('fact.orderly'), kind: 'check' },
    ],
  });
}
