// What the pages say, by language: one table each.

const LANGUAGES = ['en', 'zh'];
let table = {};
let language = 'en';

/** The language chosen before, or the browser's. */
export function preferred() {
  const chosen = localStorage.getItem('language');
  if (LANGUAGES.includes(chosen)) return chosen;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

export async function speak(wanted) {
  const response = await fetch(`texts/${wanted}.json`);
  table = await response.json();
  language = wanted;
  document.documentElement.lang = wanted === 'zh' ? 'zh-CN' : 'en';
}

/** The language of numbers and times. */
export function locale() {
  return language === 'zh' ? 'zh-CN' : 'en-GB';
}

export function other() {
  return language === 'zh' ? 'en' : 'zh';
}

/** The text of a key, with values in the place of `{name}`; `{name|message|messages}` is the first of both for one, else the other. */
export function t(key, values = {}) {
  const text = table[key] ?? key;
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^|}]*))?\}/g, (whole, name, one, many) => {
    if (one === undefined || values[name] === undefined) return values[name] ?? whole;
    return String(values[name]) === '1' ? one : many;
  });
}
