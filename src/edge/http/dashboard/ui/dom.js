// Builds and changes elements. Strings become text: nothing that a name or a message holds is ever read as HTML.

const SVG = 'http://www.w3.org/2000/svg';
const HANDLERS = ['onclick', 'oninput', 'onchange', 'onkeydown', 'onsubmit'];

/** An element: attributes by name, handlers as `onclick` and so on, children as elements, strings, or lists of both. */
export function el(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same in a picture. */
export function svg(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element[name] = value;
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  const shown = children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);
  return shown.map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** Makes the children of an element these, and leaves what is the same as it is: focus, selection and scrolling stay. */
export function update(element, ...children) {
  const wanted = flat(children);
  wanted.forEach((child, at) => {
    const old = element.childNodes[at];
    if (!old) element.append(child);
    else if (!become(old, child)) old.replaceWith(child);
  });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
}

/** Turns one node into another of its kind; false if it is of another kind. */
function become(old, wanted) {
  if (old === wanted) return true;
  if (old.nodeType !== wanted.nodeType || old.nodeName !== wanted.nodeName) return false;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return true;
  }
  if (old.dataset?.key !== wanted.dataset?.key) return false;
  for (const { name } of [...old.attributes]) {
    // Whoever opened a part of the page wants it to stay open.
    if (!wanted.hasAttribute(name) && !(name === 'open' && old.nodeName === 'DETAILS')) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const handler of HANDLERS) old[handler] = wanted[handler];
  // What somebody types or chooses is theirs.
  if (['INPUT', 'SELECT', 'TEXTAREA'].includes(old.nodeName)) return true;
  update(old, ...wanted.childNodes);
  return true;
}

/** A heading with what belongs to it. */
export function section(title, ...children) {
  return el('section', null, el('h2', null, title), children);
}

/** A link to a page of the dashboard. */
export function link(path, text) {
  return el('a', { href: `#/${path}` }, text);
}

/** The path of a page about something with a name. */
export function to(page, ...names) {
  return [page, ...names.map(encodeURIComponent)].join('/');
}
