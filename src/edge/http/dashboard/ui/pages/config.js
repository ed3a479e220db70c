// What a node was started with, and what only it knows of itself.

import { read } from '../api.js';
import { el, section, to, update } from '../dom.js';
import { number, text, time } from '../format.js';
import { facts, table } from '../table.js';
import { t } from '../texts.js';

export async function open(root, { signal, session, names: [wanted = session.node], history }) {
  const nodes = () => history.at(-1)?.cluster.nodes.map(({ node }) => node) ?? [session.node];
  const choose = async () => {
    const known = nodes().length > 1 ? nodes() : (await read('cluster', {}, signal)).nodes.map(({ node }) => node);
    return el('form', { class: 'tools', onsubmit: (event) => event.preventDefault() },
      el('label', null, t('config.node'), el('select', { name: 'node', onchange: (event) => { location.hash = `#/${to('config', event.target.value)}`; } },
        known.map((node) => el('option', { value: node, selected: node === wanted }, node)))));
  };
  const choice = await choose();
  const shown = await read('facts', { node: wanted }, signal).then((known) => parts(known, session), (error) => el('p', { class: 'failed', role: 'alert' }, error.message));
  update(root, el('h1', null, t('page.config')), choice, shown);
}

function parts(known, session) {
  const list = el('div');
  const show = (contains) => update(list, table(t('config.settings'), [
    [t('column.key'), (row) => el('code', null, row.key)],
    [t('column.value'), (row) => text(row.value), 'wide'],
  ], known.settings.filter(({ key }) => key.toLowerCase().includes(contains)), (row) => row.key));
  show('');
  return [
    facts([
      [t('column.node'), known.node],
      [t('column.version'), known.version],
      [t('config.files'), `${number(known.open_files)} / ${number(known.open_files_max)}`],
      [t('config.logFile'), text(known.log_file)],
      [t('config.dashboard'), known.node === session.node ? t(session.is_open ? 'config.open' : 'config.local') : undefined],
    ]),
    known.certificates.length > 0 && section(t('config.certificates'), table(t('config.certificates'), [
      [t('config.shownTo'), (row) => row.shown_to],
      [t('config.file'), (row) => row.file],
      [t('config.ends'), (row) => row.error || time(row.not_after_ms)],
    ], known.certificates)),
    section(t('config.settings'),
      el('form', { class: 'tools', onsubmit: (event) => event.preventDefault() },
        el('label', null, t('config.search'), el('input', { type: 'search', oninput: (event) => show(event.target.value.trim().toLowerCase()) }))),
      list),
  ];
}
