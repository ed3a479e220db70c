// The official Node client against a cluster: producer, simple consumer, push consumer, all kinds of message.

const assert = require('node:assert');
const { ConsumeResult, FilterExpression, Producer, PushConsumer, SimpleConsumer } = require('rocketmq-client-nodejs');

const COUNT = 50;
const DEADLINE_MS = 60_000;

const args = Object.fromEntries([...process.argv.join(' ').matchAll(/--(\w+) (\S+)/g)].map(found => [found[1], found[2]]));
const body = number => `nachricht ${number} 消息`;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

function check(message) {
  const number = Number(message.keys[0].replace('key', ''));
  assert.ok(!message.corrupted);
  assert.strictEqual(message.body.toString('utf8'), body(number));
  assert.strictEqual(message.tag, 'tag');
  assert.strictEqual(message.properties.get('property'), `wert ${number}`);
  return number;
}

async function produce(endpoints, topic) {
  const producer = new Producer({ endpoints, namespace: '', topics: [topic] });
  await producer.startup();
  const ids = new Set();
  for (let number = 0; number < COUNT; number++) {
    const receipt = await producer.send({
      topic,
      tag: 'tag',
      keys: [`key${number}`],
      properties: new Map([['property', `wert ${number}`]]),
      body: Buffer.from(body(number)),
    });
    ids.add(receipt.messageId);
  }
  await producer.shutdown();
  assert.strictEqual(ids.size, COUNT);
  console.log('PASS node producer');
}

async function simple(endpoints, topic, group) {
  const consumer = new SimpleConsumer({
    endpoints,
    namespace: '',
    consumerGroup: group,
    subscriptions: new Map([[topic, '*']]),
    awaitDuration: 5000,
  });
  await consumer.startup();
  const seen = new Set();
  let changed = null;
  const until = Date.now() + DEADLINE_MS;
  while (seen.size < COUNT || changed !== null) {
    assert.ok(Date.now() < until, `${seen.size} of ${COUNT}, waiting for ${changed}`);
    for (const message of await consumer.receive(16, 30_000)) {
      const number = check(message);
      if (seen.size === 0) {
        // Comes back ten seconds from now, as the second attempt.
        assert.strictEqual(message.getDeliveryAttempt(), 1);
        changed = number;
        seen.add(number);
        await consumer.changeInvisibleDuration(message, 10_000);
        continue;
      }
      assert.strictEqual(message.getDeliveryAttempt(), number === changed ? 2 : 1);
      if (number === changed) changed = null;
      await consumer.ack(message);
      seen.add(number);
    }
  }
  assert.strictEqual((await consumer.receive(16, 30_000)).length, 0);
  await consumer.shutdown();
  console.log('PASS node simple');
  console.log('PASS node change-invisible');
}

async function push(endpoints, topic, group) {
  const seen = new Set();
  let failed = null;
  let again = false;
  let wrong = null;
  const consumer = new PushConsumer({
    endpoints,
    namespace: '',
    consumerGroup: group,
    subscriptions: new Map([[topic, '*']]),
    messageListener: {
      async consume(message) {
        try {
          const number = check(message);
          if (failed === null) {
            failed = number;
            return ConsumeResult.FAILURE;
          }
          again ||= number === failed && message.getDeliveryAttempt() >= 2;
          seen.add(number);
        } catch (error) {
          wrong = error;
        }
        return ConsumeResult.SUCCESS;
      },
    },
  });
  await consumer.startup();
  const until = Date.now() + DEADLINE_MS;
  while (!(seen.size === COUNT && again)) {
    if (wrong !== null) throw wrong;
    assert.ok(Date.now() < until, `${seen.size} of ${COUNT}, again: ${again}`);
    await sleep(100);
  }
  await consumer.shutdown();
  console.log('PASS node push');
}

// Receives and acks the bodies wanted, each once and no others; the time each came.
async function receive(endpoints, topic, group, wanted, expression = '*') {
  const consumer = new SimpleConsumer({
    endpoints,
    namespace: '',
    consumerGroup: group,
    subscriptions: new Map([[topic, expression]]),
    awaitDuration: 5000,
  });
  await consumer.startup();
  const came = new Map();
  const until = Date.now() + DEADLINE_MS;
  while (came.size < wanted.length) {
    assert.ok(Date.now() < until, `${[...came.keys()]} of ${wanted}`);
    for (const message of await consumer.receive(16, 30_000)) {
      const text = message.body.toString('utf8');
      assert.ok(wanted.includes(text) && !came.has(text), `${text} beside ${[...came.keys()]}`);
      came.set(text, Date.now());
      await consumer.ack(message);
    }
  }
  assert.strictEqual((await consumer.receive(16, 30_000)).length, 0);
  await consumer.shutdown();
  return came;
}

async function filters(endpoints, topic, group) {
  const producer = new Producer({ endpoints, namespace: '', topics: [topic] });
  await producer.startup();
  for (let number = 0; number < 6; number++) {
    const tag = ['red', 'green', 'blue'][number % 3];
    await producer.send({ topic, tag, body: Buffer.from(`${number}`), properties: new Map([['n', `${number}`]]) });
  }
  await producer.shutdown();
  await receive(endpoints, topic, `${group}-tag`, ['0', '2', '3', '5'], 'red || blue');
  console.log('PASS node filter-tag');
  // The client does not export the names of the protocol's filter types: 2 is SQL.
  const sql = new FilterExpression("n >= 3 AND TAGS <> 'green'", 2);
  await receive(endpoints, topic, `${group}-sql`, ['3', '5'], sql);
  console.log('PASS node filter-sql');
}

async function delay(endpoints, topic, group) {
  const producer = new Producer({ endpoints, namespace: '', topics: [topic] });
  await producer.startup();
  const due = Date.now() + 3000;
  await producer.send({ topic, body: Buffer.from('delayed'), deliveryTimestamp: new Date(due) });
  const recalled = await producer.send({ topic, body: Buffer.from('recalled'), deliveryTimestamp: new Date(due + 1000) });
  const receipt = await producer.recallMessage(topic, recalled.recallHandle);
  assert.strictEqual(receipt.messageId, recalled.messageId);
  const came = await receive(endpoints, topic, group, ['delayed']);
  assert.ok(came.get('delayed') >= due, `early by ${due - came.get('delayed')} ms`);
  await producer.shutdown();
  console.log('PASS node delay');
  console.log('PASS node recall');
}

// Two message groups, sent in turn, consumed two at a time; one is left to come again.
async function fifo(endpoints, topic, group) {
  const producer = new Producer({ endpoints, namespace: '', topics: [topic] });
  await producer.startup();
  for (let number = 1; number <= 8; number++) {
    for (const name of ['a', 'b']) {
      await producer.send({ topic, body: Buffer.from(`${name}${number}`), messageGroup: name });
    }
  }
  await producer.shutdown();
  const consumer = new SimpleConsumer({
    endpoints,
    namespace: '',
    consumerGroup: group,
    subscriptions: new Map([[topic, '*']]),
    awaitDuration: 5000,
  });
  await consumer.startup();
  const last = { a: 0, b: 0 };
  let left = null;
  const until = Date.now() + DEADLINE_MS;
  while (last.a < 8 || last.b < 8) {
    assert.ok(Date.now() < until, JSON.stringify(last));
    for (const message of await consumer.receive(2, 10_000)) {
      const text = message.body.toString('utf8');
      const [name, number] = [text[0], Number(text.slice(1))];
      if (left === null && number === 3) left = name;
      // Neither acked nor passed over: it comes again, and nothing of its message group before it.
      if (name === left && last[name] === 2 && message.getDeliveryAttempt() === 1) continue;
      assert.strictEqual(number, last[name] + 1, `${text} after ${JSON.stringify(last)}`);
      last[name] = number;
      await consumer.ack(message);
    }
  }
  await consumer.shutdown();
  console.log('PASS node fifo');
}

async function transaction(endpoints, topic, group) {
  // The client does not export the names of the protocol's resolutions: 1 commits, 2 rolls back.
  const checker = { check: async message => (message.body.toString('utf8') === 'checked' ? 1 : 2) };
  const producer = new Producer({ endpoints, namespace: '', topic, checker });
  await producer.startup();
  for (const text of ['committed', 'rolled back', 'checked', 'checked away']) {
    const transaction = producer.beginTransaction();
    await producer.send({ topic, body: Buffer.from(text) }, transaction);
    if (text === 'committed') await transaction.commit();
    if (text === 'rolled back') await transaction.rollback();
  }
  await receive(endpoints, topic, group, ['committed', 'checked']);
  await producer.shutdown();
  console.log('PASS node transaction');
}

async function deadLetter(endpoints, topic, group) {
  const producer = new Producer({ endpoints, namespace: '', topics: [topic] });
  await producer.startup();
  await producer.send({ topic, body: Buffer.from('unlucky') });
  await producer.shutdown();
  const attempts = [];
  const consumer = new PushConsumer({
    endpoints,
    namespace: '',
    consumerGroup: group,
    subscriptions: new Map([[topic, '*']]),
    messageListener: {
      async consume(message) {
        attempts.push(message.getDeliveryAttempt());
        return ConsumeResult.FAILURE;
      },
    },
  });
  await consumer.startup();
  await receive(endpoints, `%DLQ%${group}`, `${group}-reader`, ['unlucky']);
  await consumer.shutdown();
  assert.deepStrictEqual(attempts, [1, 2]);
  console.log('PASS node dead-letter');
}

async function main() {
  // The published client cannot resolve a list of addresses (it joins them into one target), so it gets
  // the first; the route then tells it the other nodes.
  const endpoints = args.endpoints.split(';')[0];
  await produce(endpoints, args.topic);
  await simple(endpoints, args.topic, `${args.group}-simple`);
  await push(endpoints, args.topic, `${args.group}-push`);
  await filters(endpoints, `${args.topic}-filter`, args.group);
  await delay(endpoints, `${args.topic}-delay`, args.group);
  await fifo(endpoints, `${args.topic}-fifo`, `${args.group}-fifo`);
  await transaction(endpoints, `${args.topic}-transaction`, args.group);
  await deadLetter(endpoints, `${args.topic}-dead`, `${args.group}-dead`);
}

main().then(
  () => process.exit(0),
  error => {
    console.error('FAIL node:', error);
    process.exit(1);
  },
);
