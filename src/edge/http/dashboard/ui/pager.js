// A list that is read page by page, with a search by name.

import { el } from './dom.js';
import { number } from './format.js';
import { t } from './texts.js';

export const PAGE_ROWS = 50;

/** What is asked for: `contains`, `skip`; and `changed` when somebody asks for something else. */
export function pager(changed) {
  const asked = { contains: '', skip: 0 };
  let timer;
  const search = (event) => {
    clearTimeout(timer);
    const text = event.target.value.trim();
    timer = setTimeout(() => { asked.contains = text; asked.skip = 0; changed(); }, 250);
  };
  const turn = (rows) => () => { asked.skip = Math.max(0, asked.skip + rows); changed(); };
  return {
    asked: () => ({ ...asked, limit: PAGE_ROWS }),
    tools: (label, ...more) => el('form', { class: 'tools', onsubmit: (event) => event.preventDefault() },
      el('label', null, label, el('input', { type: 'search', oninput: search, autocomplete: 'off' })), more),
    turns: (shown, total) => el('div', { class: 'row' },
      el('button', { type: 'button', disabled: asked.skip === 0, onclick: turn(-PAGE_ROWS) }, t('pager.back')),
      el('span', null, t('pager.shown', { from: number(total ? asked.skip + 1 : 0), to: number(asked.skip + shown), total: number(total) })),
      el('button', { type: 'button', disabled: asked.skip + shown >= total, onclick: turn(PAGE_ROWS) }, t('pager.on'))),
  };
}
