"""The official Python client against a cluster: producer, simple consumer, push consumer, all kinds of message."""

import argparse
import os
import sys
import threading
import time

from rocketmq import (ClientConfiguration, ConsumeResult, Credentials, FilterExpression, Message, MessageListener,
                      Producer, PushConsumer, SimpleConsumer, TransactionChecker, TransactionResolution)
# Not among what the package exports by name, but the type its FilterExpression takes.
from rocketmq.grpc_protocol import FilterType

COUNT = 50
DEADLINE = 60


def body(number):
    return f"nachricht {number} 消息".encode()


def check(message, attempt):
    number = int(next(iter(message.keys)).removeprefix("key"))
    assert message.body == body(number), message.body
    assert message.tag == "tag", message.tag
    assert message.properties["property"] == f"wert {number}", message.properties
    if attempt is not None:
        assert message.delivery_attempt == attempt, (message.delivery_attempt, attempt)
    return number


def produce(conf, topic):
    producer = Producer(conf, (topic,))
    producer.startup()
    ids = set()
    for number in range(COUNT):
        message = Message()
        message.topic, message.body, message.tag, message.keys = topic, body(number), "tag", f"key{number}"
        message.add_property("property", f"wert {number}")
        ids.add(producer.send(message).message_id)
    producer.shutdown()
    assert len(ids) == COUNT, ids
    print("PASS python producer", flush=True)


def simple(conf, topic, group):
    consumer = SimpleConsumer(conf, group, {topic: FilterExpression()}, await_duration=5)
    consumer.startup()
    seen, changed, deadline = set(), None, time.time() + DEADLINE
    while len(seen) < COUNT or changed is not None:
        assert time.time() < deadline, f"{len(seen)} of {COUNT}, waiting for {changed}"
        for message in consumer.receive(16, 30) or []:
            if changed is None and not seen:
                # Comes back ten seconds from now, as the second attempt.
                number = check(message, 1)
                changed = (number, time.time())
                seen.add(number)
                consumer.change_invisible_duration(message, 10)
                continue
            is_changed = changed is not None and message.delivery_attempt == 2
            number = check(message, 2 if is_changed else 1)
            if is_changed:
                assert number == changed[0] and time.time() - changed[1] > 9, (number, changed)
                changed = None
            consumer.ack(message)
            seen.add(number)
    assert not consumer.receive(16, 30), "everything was settled"
    consumer.shutdown()
    print("PASS python simple", flush=True)
    print("PASS python change-invisible", flush=True)


class Listener(MessageListener):
    def __init__(self):
        self.lock, self.seen, self.failed, self.again, self.wrong = threading.Lock(), set(), None, False, None

    def consume(self, message):
        with self.lock:
            try:
                number = check(message, None)
            except (AssertionError, KeyError) as error:
                self.wrong = error
                return ConsumeResult.SUCCESS
            if self.failed is None:
                self.failed = number
                return ConsumeResult.FAILURE
            self.again |= number == self.failed and message.delivery_attempt >= 2
            self.seen.add(number)
        return ConsumeResult.SUCCESS


def push(conf, topic, group):
    listener = Listener()
    consumer = PushConsumer(conf, group, listener, {topic: FilterExpression()})
    consumer.startup()
    deadline = time.time() + DEADLINE
    while not (len(listener.seen) == COUNT and listener.again):
        assert listener.wrong is None, listener.wrong
        assert time.time() < deadline, f"{len(listener.seen)} of {COUNT}, again: {listener.again}"
        time.sleep(0.1)
    consumer.shutdown()
    print("PASS python push", flush=True)


def receive(conf, topic, group, wanted, expression=FilterExpression(), most=16):
    """Receives and acks the bodies wanted, each once and no others; the time each came, in the order they came."""
    consumer = SimpleConsumer(conf, group, {topic: expression}, await_duration=5)
    consumer.startup()
    came, deadline = {}, time.time() + DEADLINE
    while set(came) != set(wanted):
        assert time.time() < deadline, f"{sorted(came)} of {sorted(wanted)}"
        for message in consumer.receive(most, 30) or []:
            text = message.body.decode()
            assert text in wanted and text not in came, (text, came)
            came[text] = time.time()
            consumer.ack(message)
    assert not consumer.receive(16, 30), "nothing else comes"
    consumer.shutdown()
    return came


def text_message(topic, text):
    message = Message()
    message.topic, message.body = topic, text.encode()
    return message


def filters(conf, topic, group):
    producer = Producer(conf, (topic,))
    producer.startup()
    for number in range(6):
        message = text_message(topic, f"{number}")
        message.tag = ("red", "green", "blue")[number % 3]
        message.add_property("n", f"{number}")
        producer.send(message)
    producer.shutdown()
    receive(conf, topic, group + "-tag", ["0", "2", "3", "5"], FilterExpression("red || blue"))
    print("PASS python filter-tag", flush=True)
    receive(conf, topic, group + "-sql", ["3", "5"], FilterExpression("n >= 3 AND TAGS <> 'green'", FilterType.SQL))
    print("PASS python filter-sql", flush=True)


def priority(conf, topic, group):
    producer = Producer(conf, (topic,))
    producer.startup()
    for number in range(3):
        message = text_message(topic, f"{number}")
        message.priority = number
        producer.send(message)
    producer.shutdown()
    assert list(receive(conf, topic, group, ["0", "1", "2"], most=1)) == ["2", "1", "0"]
    print("PASS python priority", flush=True)


def delay(conf, topic, group):
    producer = Producer(conf, (topic,))
    producer.startup()
    due = int(time.time()) + 4
    for text, at in (("delayed", due), ("recalled", due + 1)):
        message = text_message(topic, text)
        message.delivery_timestamp = at
        receipt = producer.send(message)
        if text == "recalled":
            assert producer.recall_message(topic, receipt.recall_handle) == receipt.message_id
    came = receive(conf, topic, group, ["delayed"])
    assert came["delayed"] >= due, (came, due)
    producer.shutdown()
    print("PASS python delay", flush=True)
    print("PASS python recall", flush=True)


def fifo(conf, topic, group):
    """Two message groups, sent in turn, consumed two at a time; one is left to come again."""
    producer = Producer(conf, (topic,))
    producer.startup()
    for number in range(1, 9):
        for name in ("a", "b"):
            message = text_message(topic, f"{name}{number}")
            message.message_group = name
            producer.send(message)
    producer.shutdown()
    consumer = SimpleConsumer(conf, group, {topic: FilterExpression()}, await_duration=5)
    consumer.startup()
    last, left, deadline = {"a": 0, "b": 0}, None, time.time() + DEADLINE
    while last != {"a": 8, "b": 8}:
        assert time.time() < deadline, last
        for message in consumer.receive(2, 10) or []:
            name, number = message.body.decode()[0], int(message.body.decode()[1:])
            if left is None and number == 3:
                left = name
            if name == left and last[name] == 2 and message.delivery_attempt == 1:
                # Neither acked nor passed over: it comes again, and nothing of its message group before it.
                continue
            assert number == last[name] + 1, (name, number, last)
            last[name] = number
            consumer.ack(message)
    consumer.shutdown()
    print("PASS python fifo", flush=True)


class Checker(TransactionChecker):
    def check(self, message):
        return TransactionResolution.COMMIT if message.body == b"checked" else TransactionResolution.ROLLBACK


def transaction(conf, topic, group):
    producer = Producer(conf, (topic,), checker=Checker())
    producer.startup()
    for text in ("committed", "rolled back", "checked", "checked away"):
        transaction = producer.begin_transaction()
        producer.send(text_message(topic, text), transaction)
        if text == "committed":
            transaction.commit()
        elif text == "rolled back":
            transaction.rollback()
    receive(conf, topic, group, ["committed", "checked"])
    producer.shutdown()
    print("PASS python transaction", flush=True)


class Refuser(MessageListener):
    def __init__(self):
        self.attempts = []

    def consume(self, message):
        self.attempts.append(message.delivery_attempt)
        return ConsumeResult.FAILURE


def dead_letter(conf, topic, group):
    producer = Producer(conf, (topic,))
    producer.startup()
    producer.send(text_message(topic, "unlucky"))
    producer.shutdown()
    listener = Refuser()
    consumer = PushConsumer(conf, group, listener, {topic: FilterExpression()})
    consumer.startup()
    receive(conf, f"%DLQ%{group}", group + "-reader", ["unlucky"])
    consumer.shutdown()
    assert listener.attempts == [1, 2], listener.attempts
    print("PASS python dead-letter", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("endpoints", "topic", "group"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    conf = ClientConfiguration(args.endpoints, Credentials())
    produce(conf, args.topic)
    simple(conf, args.topic, args.group + "-simple")
    push(conf, args.topic, args.group + "-push")
    filters(conf, args.topic + "-filter", args.group)
    priority(conf, args.topic + "-priority", args.group)
    delay(conf, args.topic + "-delay", args.group)
    fifo(conf, args.topic + "-fifo", args.group + "-fifo")
    transaction(conf, args.topic + "-transaction", args.group)
    dead_letter(conf, args.topic + "-dead", args.group + "-dead")


try:
    main()
except BaseException as failure:
    print(f"FAIL python: {failure!r}", file=sys.stderr, flush=True)
    os._exit(1)
# The client leaves threads behind that would keep the process.
os._exit(0)
