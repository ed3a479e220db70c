// Events as rows, the newest first.

import { el, link, to } from './dom.js';
import { length, text, time } from './format.js';
import { table } from './table.js';
import { t } from './texts.js';

// Those that people meet often; others are shown by their name.
const WHAT = {
  leader: 'what.leader', members: 'what.members', 'leader-transfer': 'what.leaderTransfer', 'log-level': 'what.logLevel',
  'topic-create': 'what.topicCreate', 'topic-update': 'what.topicUpdate', 'topic-delete': 'what.topicDelete',
  'group-create': 'what.groupCreate', 'group-update': 'what.groupUpdate', 'group-delete': 'what.groupDelete',
  'offset-reset': 'what.offsetReset', redrive: 'what.redrive', 'delayed-move': 'what.delayedMove', 'delayed-recall': 'what.delayedRecall',
  trim: 'what.trim', 'message-resend': 'what.messageResend',
};

/** What an event is of, as a link if there is a page of it. */
function on({ what, on: name }) {
  if (what.startsWith('topic-') && what !== 'topic-delete') return link(to('topic', name), name);
  if (what.startsWith('group-') && what !== 'group-delete') return link(to('group', name), name);
  return text(name);
}

/** In words, what happened beside the name. */
function detail({ detail: words, leader }) {
  if (!leader) return text(words);
  const gap = leader.gap_ms === null ? '' : t('events.gap', { length: length(leader.gap_ms) });
  const before = leader.before === null ? '' : t('events.before', { node: leader.before });
  return [t('events.leads', { node: leader.leader, term: leader.term }), before, gap].filter((part) => part).join(', ');
}

export function eventTable(events) {
  const by = ({ by: author }) => (author ? `${author.tool} ${author.address} (${author.node})` : text());
  return table(t('page.events'), [
    [t('column.at'), (row) => time(row.at_ms)],
    [t('column.event'), (row) => (WHAT[row.what] ? t(WHAT[row.what]) : row.what)],
    [t('column.on'), on],
    [t('column.detail'), detail, 'wide'],
    [t('column.result'), (row) => text(row.result)],
    [t('column.by'), (row) => el('span', null, by(row))],
  ], events, (row) => row.number);
}
