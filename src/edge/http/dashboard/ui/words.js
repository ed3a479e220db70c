// Values that several pages read and write.

import { length } from './format.js';
import { t } from './texts.js';

/** Types of topics. */
export const TYPES = ['NORMAL', 'FIFO', 'DELAY', 'TRANSACTION', 'PRIORITY', 'MIXED'];

/** A whole number out of a field; what is none goes to the node as it is, which says so. */
export function whole(value) {
  return /^\d+$/.test(value.trim()) ? Number(value) : value.trim();
}

/** Hours out of a field, as milliseconds. */
export function hours(value) {
  return /^\d+$/.test(value.trim()) ? Number(value) * 3600 * 1000 : value.trim();
}

/** A point in time out of a field, in milliseconds since 1970. */
export function moment(value) {
  return new Date(value).getTime();
}

/** A point in time for a field, in the time zone of whoever reads it. */
export function forField(ms) {
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

/** How long messages are kept. */
export function keptFor(ms) {
  return ms === null || ms === undefined ? t('topic.default') : length(ms);
}
