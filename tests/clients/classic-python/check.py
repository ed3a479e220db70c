"""The classic Python client, which is the C++ one inside: prints a line for each case that passes."""

import argparse
import os
import sys
import threading
import time

from rocketmq.client import Message, Producer, PushConsumer

WITHIN = 60


def passed(name):
    print("PASS classic-python " + name, flush=True)


def wait(what, holds):
    until = time.monotonic() + WITHIN
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(what)
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser()
    for name in ["--endpoints", "--topic", "--group"]:
        parser.add_argument(name, required=True)
    args = parser.parse_args()

    def message(key, body, tag="TagA"):
        made = Message(args.topic)
        made.set_keys(key)
        made.set_tags(tag)
        made.set_body(body)
        return made

    # The default of 3 s is not always enough where several clusters of tests share two cores. The library says "No route info" of
    # every send that failed as often as it tries, whatever the reason.
    producer = Producer(args.group + "-producer", timeout=20_000)
    producer.set_namesrv_addr(args.endpoints)
    producer.start()
    got, lock = {}, threading.Lock()

    def take(received):
        with lock:
            got[received.keys.decode()] = (received.body, received.store_timestamp, received.queue_id)

    consumer = PushConsumer(args.group)
    consumer.set_namesrv_addr(args.endpoints)
    consumer.subscribe(args.topic, take)
    consumer.start()
    # It begins at the end: what is sent once it consumes comes for certain.
    for _ in range(WITHIN * 2):
        producer.send_sync(message("ready", "ready"))
        time.sleep(0.5)
        if "ready" in got:
            break
    large = "compressed " * 1000
    producer.send_sync(message("sync", "sync"))
    passed("sync")
    producer.send_sync(message("compressed", large))
    passed("compressed")
    producer.send_oneway(message("oneway", "oneway"))
    passed("oneway")
    producer.send_batch([message("batch0", "b0"), message("batch1", "b1")])
    passed("batch")
    for number in range(3):
        producer.send_orderly(message("ordered%d" % number, str(number)), 1)
    passed("selector")
    delayed = message("delayed", "delayed")
    delayed.set_delay_time_level(1)
    sent_at = int(time.time() * 1000)
    producer.send_sync(delayed)

    keys = ["sync", "compressed", "oneway", "batch0", "batch1", "ordered0", "ordered1", "ordered2"]
    wait("pushed messages: %s" % sorted(got), lambda: all(key in got for key in keys))
    assert got["compressed"][0] == large.encode(), "another body than was sent"
    assert len({got["ordered%d" % number][2] for number in range(3)}) == 1, "another queue"
    passed("push")
    wait("the delayed message", lambda: "delayed" in got)
    assert got["delayed"][1] >= sent_at + 900, "too early: %d ms" % (got["delayed"][1] - sent_at)
    passed("delay")
    consumer.shutdown()
    producer.shutdown()
    sys.stdout.flush()
    # The C++ client's threads may hold the interpreter.
    os._exit(0)


main()
