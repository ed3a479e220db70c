// Asks before anything is done: what will change, and the command that does the same.

import { act } from './api.js';
import { el, update } from './dom.js';
import { number, time } from './format.js';
import { table } from './table.js';
import { t } from './texts.js';

const FACTS = {
  topic: 'fact.topic', group: 'fact.group', type: 'fact.type', queues: 'fact.queues', retention: 'fact.retention',
  permission: 'fact.permission', messages: 'fact.messages', lag: 'fact.lag', groups: 'fact.groups', topics: 'fact.topics',
  in_flight: 'fact.inFlight', members: 'fact.members', retries: 'fact.retries', orderly: 'fact.orderly', backoff: 'fact.backoff',
  consume_from: 'fact.consumeFrom', filter: 'fact.filter', delivered_again: 'fact.deliveredAgain', passed_over: 'fact.passedOver',
  dead_letters: 'fact.deadLetters', message_id: 'fact.messageId', delivery_at_ms: 'fact.deliveryAt', to_ms: 'fact.to',
  from: 'fact.from', to: 'fact.toNode', role: 'fact.role', behind: 'fact.behind', tag: 'column.tag', keys: 'column.keys',
  bytes: 'fact.bytes', reaches: 'fact.reaches', member: 'fact.member', address: 'column.peersAt', leaves: 'fact.leaves',
  already: 'fact.already', change: 'fact.change',
};

function value(name, what) {
  if (name.endsWith('_ms')) return time(what);
  if (typeof what === 'number') return number(what);
  if (typeof what === 'boolean') return t(what ? 'yes' : 'no');
  return Array.isArray(what) ? what.join(', ') || '–' : String(what);
}

/**
 * Opens the dialog of an action. `fields` are `{ name, label, kind, value, choices, read, isNeeded, as, when }`: what is in one is
 * sent under its name, or another (`as`), and only when `when` says of the form's values that it is asked for; `fixed` is sent
 * along, and `also` makes more of what a trial said. A name in `confirm` must be typed before it is done. `isNothing` says of what was
 * filled in that nothing would be changed. `done` is called after it was done.
 */
export function ask({ title, action, note, fixed = {}, fields = [], confirm, also = () => ({}), isNothing = () => false, done }) {
  const dialog = document.getElementById('dialog');
  const preview = el('div', { role: 'status' });
  const typed = confirm && el('label', null, t('dialog.confirm', { name: confirm }), el('input', { type: 'text', name: 'confirm', autocomplete: 'off', oninput: ready }));
  const act1 = el('button', { type: 'submit', class: confirm ? 'danger' : undefined, disabled: true }, title);
  let shown;
  let timer;
  const isAsked = (field) => !field.when || field.when(Object.fromEntries(fields.map(({ name }) => [name, form.elements[name].value])));
  const given = () => {
    const body = { ...fixed };
    for (const field of fields.filter(isAsked)) {
      const input = form.elements[field.name];
      const wanted = field.read ? field.read(input.value) : input.value.trim();
      if (field.kind === 'check') body[field.as ?? field.name] = input.checked;
      else if (input.value.trim() !== '') body[field.as ?? field.name] = wanted;
    }
    return body;
  };
  function ready() {
    act1.disabled = !shown || (confirm !== undefined && form.elements.confirm.value !== confirm);
  }
  const look = async () => {
    shown = undefined;
    ready();
    for (const field of fields) form.elements[field.name].closest('label').hidden = !isAsked(field);
    if (isNothing(given()) || fields.some((field) => field.isNeeded && isAsked(field) && form.elements[field.name].value.trim() === '')) {
      return update(preview, el('p', { class: 'note' }, t('dialog.fill')));
    }
    try {
      shown = await act(action, { ...given(), dry_run: true });
      update(preview, details(shown));
    } catch (error) {
      update(preview, el('p', { class: 'failed' }, error.message));
    }
    ready();
  };
  const changed = () => { clearTimeout(timer); timer = setTimeout(look, 300); };
  const submit = async (event) => {
    event.preventDefault();
    if (act1.disabled) return;
    act1.disabled = true;
    try {
      const was = await act(action, { ...given(), ...also(shown) });
      update(preview, el('p', { class: 'badge good' }, t('dialog.done')), details(was));
      form.querySelectorAll('input, select, textarea').forEach((input) => { input.disabled = true; });
      done?.(was);
    } catch (error) {
      update(preview, el('p', { class: 'failed' }, error.message));
      ready();
    }
  };
  const form = el('form', { onsubmit: submit },
    el('h2', null, title),
    note && el('p', null, note),
    el('div', { class: 'tools' }, fields.map((field) => label(field, changed))),
    preview, typed,
    el('div', { class: 'row' }, act1, el('button', { type: 'button', onclick: () => dialog.close() }, t('close'))));
  dialog.replaceChildren(form);
  dialog.setAttribute('aria-label', title);
  dialog.showModal();
  look();
}

function label({ name, label: text, kind = 'text', value: first = '', choices }, changed) {
  if (kind === 'check') return el('label', { class: 'check' }, el('input', { type: 'checkbox', name, checked: first === true, onchange: changed }), text);
  if (choices) {
    const options = choices.map(([word, shown]) => el('option', { value: word, selected: word === first }, shown));
    return el('label', null, text, el('select', { name, onchange: changed }, options));
  }
  return el('label', null, text, el('input', { type: kind, name, value: first, oninput: changed, autocomplete: 'off', step: kind === 'datetime-local' ? 1 : undefined }));
}

function details({ facts, command, document: shown }) {
  const known = facts.filter(([, what]) => what !== null && what !== undefined);
  const moved = shown?.positions;
  return [
    el('dl', { class: 'keys' }, known.map(([name, what]) => [el('dt', null, FACTS[name] ? t(FACTS[name]) : name), el('dd', null, value(name, what))])),
    moved && table(t('dialog.positions'), [
      [t('column.queue'), (row) => row.queue, 'number'],
      [t('column.from'), (row) => number(row.from), 'number'],
      [t('column.to'), (row) => number(row.to), 'number'],
    ], moved),
    el('p', { class: 'note' }, t('dialog.command')),
    el('pre', null, command),
  ];
}

/** A button that opens a dialog. */
export function action(title, open, isDanger = false) {
  return el('button', { type: 'button', class: isDanger ? 'danger' : undefined, onclick: open }, title);
}
