// Numbers, times and words of the cluster as people read them.

import { locale, t } from './texts.js';

const NONE = '–';

export function number(value) {
  return value === undefined || value === null ? NONE : new Intl.NumberFormat(locale()).format(value);
}

export function rate(value) {
  if (value === undefined || value === null) return NONE;
  if (value < 1000) return value.toFixed(1);
  return value < 1e6 ? `${(value / 1e3).toFixed(1)}k` : `${(value / 1e6).toFixed(1)}M`;
}

export function bytes(value) {
  if (value === undefined || value === null) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < 4) { value /= 1024; unit += 1; }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function percent(value) {
  return value === undefined || value === null ? NONE : `${value}%`;
}

/** A point in time, in the time zone of whoever reads it. */
export function time(ms) {
  if (ms === undefined || ms === null) return NONE;
  const parts = { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit' };
  return new Intl.DateTimeFormat(locale(), { ...parts, hour12: false }).format(new Date(ms));
}

export function clock(ms) {
  const parts = { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false };
  return new Intl.DateTimeFormat(locale(), parts).format(new Date(ms));
}

/** A length of time in its largest unit. */
export function length(ms) {
  if (ms === undefined || ms === null) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function ago(ms, now = Date.now()) {
  return ms === undefined || ms === null ? NONE : t('ago', { length: length(Math.max(0, now - ms)) });
}

export function text(value) {
  return value === undefined || value === null || value === '' ? NONE : String(value);
}

const ROLES = {
  leader: 'role.leader',
  follower: 'role.follower',
  learner: 'role.learner',
  voter: 'role.voter',
  unreachable: 'role.unreachable',
  'no quorum': 'role.noQuorum',
};

export function role(word) {
  return ROLES[word] ? t(ROLES[word]) : text(word);
}

const STATES = {
  ok: 'state.ok',
  down: 'state.down',
  'kept out': 'state.keptOut',
  'disk full': 'state.diskFull',
  'slow disk': 'state.slowDisk',
  'no room': 'state.noRoom',
  'no quorum': 'state.noQuorum',
  repairing: 'state.repairing',
  damaged: 'state.damaged',
  'catching up': 'state.catchingUp',
  'wrong clock': 'state.wrongClock',
  'short of room': 'state.shortOfRoom',
};

/** The state of a node; what follows its first words, such as a share, stays. */
export function state(words) {
  const known = Object.keys(STATES).find((word) => words === word || words?.startsWith(`${word} `));
  return known ? t(STATES[known]) + words.slice(known.length) : text(words);
}

/** How a state looks. */
export function level(words) {
  if (words === 'ok') return 'good';
  if (words?.startsWith('catching up')) return 'busy';
  return ['down', 'disk full', 'no room', 'no quorum', 'kept out', 'repairing'].includes(words) ? 'bad' : 'warn';
}
