'use strict';
// The classic Node client, unmodified: prints a line for each case that passes.

const httpclient = require('urllib');
const { Consumer, Message, Producer } = require('ali-ons');

const WITHIN = 60000;

function value(name) {
  return process.argv[process.argv.indexOf(name) + 1];
}

function pass(name) {
  console.log('PASS classic-node ' + name);
}

async function wait(what, holds) {
  for (const until = Date.now() + WITHIN; !holds(); await new Promise(resolve => setTimeout(resolve, 50))) {
    if (Date.now() > until) {
      throw new Error(what);
    }
  }
}

async function main() {
  const [topic, group] = [value('--topic'), value('--group')];
  // It asks name servers in turn, and takes a list of them.
  const common = { httpclient, nameSrv: value('--endpoints').split(';'), logger: quiet };
  const producer = new Producer({ ...common, producerGroup: group + '-producer' });
  await producer.ready();
  const send = async (key, body, change = () => {}) => {
    const message = new Message(topic, 'TagA', body);
    message.keys = [key];
    change(message);
    const result = await producer.send(message);
    if (result.sendStatus !== 'SEND_OK') {
      throw new Error('not stored: ' + JSON.stringify(result));
    }
  };
  await send('sync', 'sync');
  pass('sync');
  const large = 'compressed '.repeat(1000);
  await send('compressed', large);
  pass('compressed');
  const sentAt = Date.now();
  await send('delayed', 'delayed', message => { message.delayTimeLevel = 1; });

  const got = new Map();
  const consumer = new Consumer({ ...common, consumerGroup: group, consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET' });
  consumer.subscribe(topic, 'TagA', async message => {
    got.set(message.keys, { body: message.body.toString(), storedAt: Number(message.storeTimestamp) });
  });
  consumer.on('error', error => console.error(error));
  await consumer.ready();
  // It asks where to begin as its heartbeat is under way, so it may begin at the end: what comes now comes for certain.
  let count = 0;
  const sending = setInterval(() => send('late' + count++, 'late').catch(console.error), 500);
  await wait('pushed messages: ' + [...got.keys()], () => [...got.keys()].some(key => String(key).startsWith('late')));
  clearInterval(sending);
  pass('push');
  await send('large', large);
  await wait('the compressed message', () => got.has('large'));
  if (got.get('large').body !== large) {
    throw new Error('another body than was sent');
  }
  pass('tags');
  const delayedAt = Date.now();
  await send('later', 'later', message => { message.delayTimeLevel = 1; });
  await wait('the delayed message', () => got.has('later'));
  if (got.get('later').storedAt < delayedAt + 900 || sentAt > delayedAt) {
    throw new Error('too early: ' + (got.get('later').storedAt - delayedAt));
  }
  pass('delay');
  process.exit(0);
}

const say = text => () => text;
const quiet = { info: say(), debug: say(), warn: console.error, error: console.error };

main().catch(error => {
  console.error(error);
  process.exit(1);
});
