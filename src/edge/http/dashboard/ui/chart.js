// Charts as SVG. Colours come from the style sheet; what a chart shows is said in words as well.

import { el, svg } from './dom.js';
import { clock } from './format.js';

const HEIGHT = 150;
const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;

/** A picture is made smaller to fit, and what is written in it too: on a phone it begins smaller. */
function wide() {
  return matchMedia('(max-width: 600px)').matches ? 360 : 600;
}

/** A round number not below a value; of whole things also its half is whole. */
function roof(value, isWhole) {
  if (value <= 0) return isWhole ? 2 : 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  const steps = isWhole && unit === 1 ? [2, 4, 6, 10] : [1, 2, 5, 10];
  return steps.find((step) => step * unit >= value) * unit;
}

/**
 * Lines over time. `series` are `{ name, points: [[ms, value]] }`; `span` is how many milliseconds the chart is wide, up to
 * `now`; `show` writes a value, `isWhole` says that there are no parts of one.
 */
export function lines({ label, series, span, now, show, isWhole = false }) {
  const width = wide();
  const from = now - span;
  const shown = series.map(({ name, points }) => ({ name, points: points.filter(([at]) => at >= from && at <= now) }));
  const most = roof(Math.max(0, ...shown.flatMap(({ points }) => points.map(([, value]) => value))), isWhole);
  const x = (at) => LEFT + ((at - from) / span) * (width - LEFT - 8);
  const y = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
  const rules = [0, 0.5, 1].map((part) => [
    svg('line', { class: 'rule', x1: LEFT, x2: width - 8, y1: y(most * part), y2: y(most * part) }),
    svg('text', { class: 'tick', x: LEFT - 6, y: y(most * part) + 4, 'text-anchor': 'end' }, show(most * part)),
  ]);
  const times = [0, 0.5, 1].map((part) =>
    svg('text', {
      class: 'tick', x: x(from + span * part), y: HEIGHT - 4,
      'text-anchor': ['start', 'middle', 'end'][part * 2],
    }, clock(from + span * part)));
  const paths = shown.map(({ points }, at) =>
    svg('polyline', { class: `line s${at}`, points: points.map(([when, value]) => `${x(when).toFixed(1)},${y(value).toFixed(1)}`).join(' ') }));
  const last = (points) => (points.length ? show(points.at(-1)[1]) : '–');
  const words = shown.map(({ name, points }) => `${name} ${last(points)}`).join(', ');
  return el('figure', { class: 'chart' },
    el('figcaption', null, label, ' ',
      shown.map(({ name, points }, at) => el('span', { class: `legend s${at}` }, `${name} ${last(points)}`))),
    svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img', 'aria-label': `${label}: ${words}` }, rules, times, paths));
}

/**
 * Who led when: one lane for each node. `spans` are `{ lane, from, to, text }`; what is nobody's is a gap across all lanes.
 */
export function lanes({ label, names, spans, gaps, from, to }) {
  const high = 26;
  const height = names.length * high + BOTTOM + TOP;
  const width = wide();
  const span = Math.max(1, to - from);
  const x = (at) => LEFT + ((Math.min(to, Math.max(from, at)) - from) / span) * (width - LEFT - 8);
  const y = (name) => TOP + names.indexOf(name) * high;
  const rows = names.map((name) => [
    svg('text', { class: 'tick', x: LEFT - 6, y: y(name) + 16, 'text-anchor': 'end' }, name),
    svg('line', { class: 'rule', x1: LEFT, x2: width - 8, y1: y(name) + 12, y2: y(name) + 12 }),
  ]);
  const block = (kind, at, end, top, size, text) =>
    svg('rect', { class: kind, x: x(at), y: top, width: Math.max(2, x(end) - x(at)), height: size, rx: 3 },
      svg('title', null, text));
  const led = spans.filter((span) => names.includes(span.lane) && span.to >= from);
  const open = gaps.filter((gap) => gap.to >= from);
  const times = [from, to].map((at, end) =>
    svg('text', { class: 'tick', x: x(at), y: height - 4, 'text-anchor': end ? 'end' : 'start' }, clock(at)));
  return el('figure', { class: 'chart' },
    el('figcaption', null, label),
    svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, rows, times,
      open.map((gap) => block('gap', gap.from, gap.to, TOP, names.length * high, gap.text)),
      led.map((span) => block('led', span.from, span.to, y(span.lane) + 4, 16, span.text))));
}
