// Asks the node that served this page. It answers for the whole cluster.

/** What a request was refused for. */
export class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

let session;
/** Milliseconds that the node worked for what was read, in all. */
let worked = 0;

/** The node, the cluster, and the token for actions. */
export async function openSession() {
  session = await read('session');
  return session;
}

/** Reads a document; parameters that are empty are left out. */
export async function read(name, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const query = new URLSearchParams(given).toString();
  return answer(await fetch(`api/${name}${query ? `?${query}` : ''}`, { cache: 'no-store', signal }));
}

/** Does something, or with `dry_run` says what would be done. */
export async function act(name, body) {
  return answer(
    await fetch(`api/do/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-raftmq-token': session.token },
      body: JSON.stringify(body),
    }),
  );
}

async function answer(response) {
  worked += Number(response.headers.get('x-raftmq-worked-us') ?? 0) / 1000;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, body.error?.text ?? response.statusText);
  return body;
}

/** Calls `show` with each sample, and `lost` when the connection is gone, while the page is looked at. */
export function live(show, lost) {
  let source;
  const open = () => {
    source = new EventSource('api/live');
    source.onmessage = (event) => show(JSON.parse(event.data));
    source.onerror = () => lost();
  };
  const look = () => {
    source?.close();
    source = undefined;
    if (!document.hidden) open();
  };
  document.addEventListener('visibilitychange', look);
  look();
}

const EVERY_MS = 2000;
// So that no page costs a node more than a fiftieth of a core.
const COST_TIMES = 50;

/** Runs `work` now and again and again until the page is left; a page that is not looked at waits. */
export async function again(signal, work) {
  while (!signal.aborted) {
    const before = worked;
    if (!document.hidden) await work();
    await pause(Math.max(EVERY_MS, (worked - before) * COST_TIMES), signal);
  }
}

function pause(length, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, length);
    signal.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
  });
}
