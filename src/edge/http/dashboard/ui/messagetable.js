// Messages as rows. Whatever is in them is shown as text.

import { ask } from './dialog.js';
import { el, link, to } from './dom.js';
import { bytes, text, time } from './format.js';
import { table } from './table.js';
import { t } from './texts.js';

const BODY_SHOWN = 48;

/** The page of a message: by its place, or while it has none by its id. */
export function pathOf(message) {
  if (message.queue === null) return to('message', message.topic, 'id', message.message_id);
  return to('message', message.topic, message.queue, message.offset);
}

/** A dead letter is redriven instead, and what waits comes anyway. */
export function canBeResent({ queue, origin }) {
  return queue !== null && !origin;
}

export function resend({ topic, queue, offset }) {
  ask({ title: t('message.resend'), action: 'message.resend', note: t('message.resendNote'), fixed: { topic, queue, offset } });
}

/** `more` are further columns before the body. */
export function messageTable(messages, ...more) {
  const columns = [
    [t('column.place'), (row) => link(pathOf(row), row.queue === null ? t('messages.waits') : `${row.queue}/${row.offset}`)],
    [t('column.stored'), (row) => time(row.stored_at_ms)],
    [t('column.tag'), (row) => text(row.tag)],
    [t('column.keys'), (row) => text(row.keys.join(' '))],
    ...more,
    [t('column.bytes'), (row) => bytes(row.body_bytes), 'number'],
    [t('column.body'), (row) => el('code', null, row.body.slice(0, BODY_SHOWN))],
    [t('fact.messageId'), (row) => row.message_id],
  ];
  return table(t('page.messages'), columns, messages, (row) => `${row.topic} ${row.queue} ${row.offset} ${row.message_id}`);
}
