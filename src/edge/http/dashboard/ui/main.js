// The frame: head, ways to the pages, keys; and which page is open.

import { live, openSession } from './api.js';
import { el, link, update } from './dom.js';
import { ofNodes } from './problems.js';
import { badge } from './table.js';
import { other, preferred, speak, t } from './texts.js';
import { heard } from './time.js';
import * as clients from './pages/clients.js';
import * as cluster from './pages/cluster.js';
import * as config from './pages/config.js';
import * as dead from './pages/dead.js';
import * as delayed from './pages/delayed.js';
import * as events from './pages/events.js';
import * as group from './pages/group.js';
import * as groups from './pages/groups.js';
import * as message from './pages/message.js';
import * as messages from './pages/messages.js';
import * as overview from './pages/overview.js';
import * as topic from './pages/topic.js';
import * as topics from './pages/topics.js';

// In the order of the head, each with its key after `g`.
const PAGES = {
  overview: { page: overview, title: 'page.overview', key: 'o' },
  topics: { page: topics, title: 'page.topics', key: 't' },
  groups: { page: groups, title: 'page.groups', key: 'g' },
  messages: { page: messages, title: 'page.messages', key: 'm' },
  delayed: { page: delayed, title: 'page.delayed', key: 'd' },
  dead: { page: dead, title: 'page.dead', key: 'l' },
  cluster: { page: cluster, title: 'page.cluster', key: 'r' },
  clients: { page: clients, title: 'page.clients', key: 'c' },
  events: { page: events, title: 'page.events', key: 'e' },
  config: { page: config, title: 'page.config', key: 'f' },
};
// Pages about one thing, below one of the others.
const BELOW = {
  topic: { page: topic, title: 'page.topic', below: 'topics' },
  group: { page: group, title: 'page.group', below: 'groups' },
  message: { page: message, title: 'page.message', below: 'messages' },
};

/** Samples of five minutes. */
const HISTORY_MAX = 300;
const THEMES = ['system', 'light', 'dark'];
const THEME_TEXTS = { system: 'theme.system', light: 'theme.light', dark: 'theme.dark' };

const history = [];
const at = (id) => document.getElementById(id);
let session;
let leave = new AbortController();
let listeners = [];
let keyBefore = '';

function theme() {
  const chosen = localStorage.getItem('theme');
  return THEMES.includes(chosen) ? chosen : 'system';
}

function dress() {
  if (theme() === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme();
}

/** The open page: its name, and of what. */
function route() {
  const [name, ...names] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  return { name: PAGES[name] || BELOW[name] ? name : 'overview', names };
}

function head() {
  const sample = history.at(-1);
  const problems = sample ? ofNodes(sample.cluster).length : 0;
  const health = !sample ? badge('…', 'busy') : problems ? badge(t('head.problems', { count: problems }), sample.cluster.leader ? 'warn' : 'bad') : badge(t('head.healthy'), 'good');
  const choose = () => {
    localStorage.setItem('theme', THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    dress();
    head();
  };
  const speakOther = async () => {
    localStorage.setItem('language', other());
    await speak(other());
    frame();
    open();
  };
  update(at('head'),
    el('a', { class: 'brand', href: '#/overview' }, 'raftmq'),
    el('span', { class: 'where' }, t('head.where', { cluster: session.cluster, node: session.node, version: session.version })),
    el('span', { class: 'health' }, link('overview', health)),
    el('button', { type: 'button', id: 'theme', onclick: choose }, t('head.theme', { theme: t(THEME_TEXTS[theme()]) })),
    el('button', { type: 'button', id: 'language', onclick: speakOther }, t('head.otherLanguage')),
    el('button', { type: 'button', id: 'keys', onclick: keys }, t('head.keys')));
}

function ways() {
  const { name } = route();
  const current = BELOW[name]?.below ?? name;
  const item = ([path, { title, key }]) =>
    el('a', { href: `#/${path}`, 'aria-current': path === current ? 'page' : undefined, title: `g ${key}` }, t(title));
  update(at('nav'), Object.entries(PAGES).map(item));
  at('nav').setAttribute('aria-label', t('head.pages'));
}

function frame() {
  at('skip').textContent = t('head.skip');
  head();
  ways();
  if (session.is_open) warn(t('banner.open'));
}

function warn(text) {
  at('banner').hidden = !text;
  at('banner').textContent = text;
}

/** Opens the page of the address; the one before ends. */
async function open() {
  leave.abort();
  leave = new AbortController();
  listeners = [];
  const { name, names } = route();
  const { page, title } = PAGES[name] ?? BELOW[name];
  const root = at('main');
  root.replaceChildren(el('h1', null, t(title)));
  document.title = `${t(title)} – raftmq ${session.cluster}`;
  ways();
  const { signal } = leave;
  const onSample = (show) => { if (!signal.aborted) listeners.push(show); };
  try {
    await page.open(root, { signal, onSample, history, names, session });
  } catch (error) {
    failed(error, signal, root);
  }
}

function failed(error, signal, root) {
  if (signal.aborted) return;
  update(root, el('h1', null, document.title.split(' – ')[0]), el('p', { class: 'failed', role: 'alert' }, t('failed', { text: error.message })),
    el('button', { type: 'button', onclick: open }, t('again')));
}

function keys() {
  const rows = [
    ...Object.values(PAGES).map(({ title, key }) => [`g ${key}`, t(title)]),
    ['/', t('keys.search')],
    ['?', t('head.keys')],
    ['Esc', t('keys.close')],
  ];
  const dialog = at('dialog');
  dialog.replaceChildren(
    el('h2', null, t('head.keys')),
    el('dl', { class: 'keys' }, rows.map(([key, text]) => [el('dt', null, el('kbd', null, key)), el('dd', null, text)])),
    el('button', { type: 'button', onclick: () => dialog.close() }, t('close')));
  dialog.setAttribute('aria-label', t('head.keys'));
  dialog.showModal();
}

function pressed(event) {
  const isTyping = event.target.closest?.('input, select, textarea, dialog');
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (keyBefore === 'g') {
    const found = Object.entries(PAGES).find(([, { key }]) => key === event.key);
    keyBefore = '';
    if (found) location.hash = `#/${found[0]}`;
    return;
  }
  keyBefore = event.key;
  if (event.key === '?') keys();
  if (event.key === '/') {
    const search = document.querySelector('main input[type=search]');
    if (search) { search.focus(); event.preventDefault(); }
  }
}

function sampled(sample) {
  heard(sample.at_ms);
  history.push(sample);
  if (history.length > HISTORY_MAX) history.shift();
  warn(session.is_open ? t('banner.open') : '');
  head();
  for (const show of listeners) Promise.resolve(show(sample)).catch((error) => warn(t('failed', { text: error.message })));
}

async function start() {
  dress();
  await speak(preferred());
  session = await openSession();
  frame();
  window.addEventListener('hashchange', open);
  document.addEventListener('keydown', pressed);
  live(sampled, () => warn(t('banner.lost', { node: session.node })));
  await open();
}

start().catch((error) => {
  // Without its texts the page has the words of the failure only.
  const failure = document.createElement('p');
  failure.className = 'failed';
  failure.textContent = error.message;
  document.getElementById('main').replaceChildren(failure);
});
