// All topics.

import { again, read } from '../api.js';
import { action, ask } from '../dialog.js';
import { el, link, to, update } from '../dom.js';
import { number, text } from '../format.js';
import { pager } from '../pager.js';
import { table } from '../table.js';
import { t } from '../texts.js';
import { TYPES, keptFor, whole } from '../words.js';

export function open(root, { signal }) {
  let listed;
  const asked = pager(() => ask1());
  const list = el('div');
  const ask1 = async () => {
    listed = await read('topics', asked.asked(), signal);
    update(list, rows(listed.topics), asked.turns(listed.topics.length, listed.total));
  };
  update(root, el('h1', null, t('page.topics')),
    asked.tools(t('topics.search'), action(t('topic.create'), () => create(ask1))), list);
  return again(signal, ask1);
}

function rows(topics) {
  const columns = [
    [t('column.topic'), (row) => link(to('topic', row.topic), row.topic)],
    [t('column.type'), (row) => row.type],
    [t('column.queues'), (row) => row.queues, 'number'],
    [t('column.permission'), (row) => row.permission],
    [t('column.messages'), (row) => number(row.messages), 'number'],
    [t('column.groups'), (row) => number(row.groups), 'number'],
    [t('column.lagMax'), (row) => number(row.lag_max), 'number'],
    [t('column.retention'), (row) => text(keptFor(row.retention_ms)), 'number'],
  ];
  return table(t('page.topics'), columns, topics, (row) => row.topic);
}

export function create(done, { topic = '' } = {}) {
  ask({
    title: t('topic.create'),
    action: 'topic.create',
    done,
    fields: [
      { name: 'topic', label: t('fact.topic'), value: topic, isNeeded: true },
      { name: 'type', label: t('fact.type'), choices: TYPES.map((type) => [type, type]), value: 'NORMAL' },
      { name: 'queues', label: t('fact.queues'), kind: 'number', read: whole },
    ],
  });
}
