// The official Node client against a cluster: producer, simple consumer, push consumer.

const assert = require('node:assert');
const { ConsumeResult, Producer, PushConsumer, SimpleConsumer } = require('rocketmq-client-nodejs');

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

async function main() {
  // The published client cannot resolve a list of addresses (it joins them into one target), so it gets
  // the first; the route then tells it the other nodes.
  const endpoints = args.endpoints.split(';')[0];
  await produce(endpoints, args.topic);
  await simple(endpoints, args.topic, `${args.group}-simple`);
  await push(endpoints, args.topic, `${args.group}-push`);
}

main().then(
  () => process.exit(0),
  error => {
    console.error('FAIL node:', error);
    process.exit(1);
  },
);
