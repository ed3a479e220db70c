#!/usr/bin/env python3
"""Greedy clients against three nodes, one kind of attack after the other, with a well-behaved client beside each.

  scripts/greedy.py FOLDER [--seconds 15] [--only NAME,NAME] [--list]

Nodes of its own are started on free ports of 127.0.0.1, with default settings and their data in FOLDER, and stopped again.
Attacks come from 127.0.0.2 and up, the well-behaved client from 127.0.0.1. The attackers have what the others leave of the
processors (nice 19), as they had their own elsewhere: --nice 0 gives them as much as everybody. Of each attack are reported: the highest memory
of a node (bound 512 MiB), the p99 of the well-behaved client against its usual (bound 5 times, and none of its sends
refused), elections (bound 0), and open files (bound: what the process may have, less 64). FOLDER/greedy.json has all of it.

  RAFTMQ_BIN   the program [what scripts/env.sh builds]

Exit codes: 0 every bound was kept, 1 one was broken, 2 the run does not show it.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

MEMORY_BOUND_MIB = 512
P99_BOUND = 5.0
FILES_LEFT = 64
RATE = 200
NODES = 3
# Below this, the noise of a machine is larger than what is looked for.
P99_LEAST_MS = 5.0
MIB = 1024 * 1024

CLIENT_METRICS = [("rocketmq_producer_connections{", "rocketmq_consumer_connections{", "raftmq_clients_left_out{"),
                  ("raftmq_client_connections{",), ("raftmq_client_memory_bytes{",)]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4


# ---- bytes

def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """A protobuf field: bytes, text or a whole number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def resource_of(name):
    return field(2, name)


def grpc(message):
    return b"\0" + struct.pack(">I", len(message)) + message


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(**values):
    ids = {"window": 4, "streams": 3, "frame": 5}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", ids[name], value) for name, value in values.items()))


def text(value):
    value = value.encode()
    assert len(value) < 127 + 128
    length = bytes([len(value)]) if len(value) < 127 else bytes([127, len(value) - 127])
    return length + value


def header_block(method, client, more=()):
    path = "/apache.rocketmq.v2.MessagingService/" + method
    block = b"\x83\x86" + b"\x04" + text(path) + b"\x01" + text("127.0.0.1")
    for name, value in (("content-type", "application/grpc"), ("te", "trailers"), ("x-mq-client-id", client),
                        ("x-mq-language", "JAVA"), ("x-mq-client-version", "5.0.7"), *more):
        block += b"\x00" + text(name) + text(value)
    return block


class Wire:
    """A connection that speaks as much HTTP/2 as an attack needs."""

    def __init__(self, port, source="127.0.0.2", window=None, own_window=1 << 20):
        self.socket = connect(port, source)
        self.stream = 1
        self.pending, self.window, self.first_window, self.windows = b"", 65_535, 65_535, {}
        first = settings() if window is None else settings(window=window)
        self.put(PREFACE + first + (frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", own_window)) if own_window else b""))

    def put(self, data):
        self.socket.sendall(data)

    def begin(self, method, client, data=b"", ends=True, more=()):
        stream, self.stream = self.stream, self.stream + 2
        flags = END_HEADERS | (END_STREAM if ends and not data else 0)
        self.put(frame(HEADERS, flags, stream, header_block(method, client, more)))
        if data:
            self.data(stream, data, ends)
        return stream

    def telemetry(self, client, data):
        """Settings on a stream that stays open."""
        stream = self.begin("Telemetry", client, ends=False)
        for at in range(0, len(data), 16_000):
            for _ in range(20):
                if self.data(stream, data[at:at + 16_000]):
                    break
                self.read_away(0.05)

    def whole(self, method, client, data, until=None):
        """A request of any length, as fast as the windows let it through; False if it did not go through."""
        stream, at = self.begin(method, client, ends=False), 0
        while at < len(data):
            if self.data(stream, data[at:at + 16_000], at + 16_000 >= len(data)):
                at += 16_000
            else:
                self.read_away(0.05)
                if until and time.time() > until:
                    return False
        return True

    def data(self, stream, payload, ends=False):
        """Puts data if the windows have room for it."""
        if min(self.window, self.windows.get(stream, self.first_window)) < len(payload):
            return False
        self.window -= len(payload)
        self.windows[stream] = self.windows.get(stream, self.first_window) - len(payload)
        self.put(frame(DATA, END_STREAM if ends else 0, stream, payload))
        return True

    def read_away(self, wait=0.0):
        """Takes what is there, minds the windows, and lets the node go on."""
        taken = 0
        self.socket.settimeout(wait or 0.000001)
        try:
            while True:
                got = self.socket.recv(1 << 16)
                if not got:
                    raise ConnectionError
                self.pending += got
                self.socket.settimeout(0.000001)
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            self.socket.settimeout(5)
        at = 0
        while len(self.pending) - at >= 9:
            length, kind, flags, stream = int.from_bytes(self.pending[at:at + 3], "big"), self.pending[at + 3], \
                self.pending[at + 4], int.from_bytes(self.pending[at + 5:at + 9], "big")
            if len(self.pending) - at - 9 < length:
                break
            payload = self.pending[at + 9:at + 9 + length]
            at += 9 + length
            if kind == WINDOW_UPDATE and stream == 0:
                self.window += int.from_bytes(payload, "big")
            elif kind == WINDOW_UPDATE:
                self.windows[stream] = self.windows.get(stream, self.first_window) + int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & 1:
                for entry in range(0, length, 6):
                    if payload[entry:entry + 2] == b"\0\4":
                        now = int.from_bytes(payload[entry + 2:entry + 6], "big")
                        for open_stream in self.windows:
                            self.windows[open_stream] += now - self.first_window
                        self.first_window = now
                self.put(frame(SETTINGS, 1, 0))
            elif kind == PING and not flags & 1:
                self.put(frame(PING, 1, 0, payload))
            elif kind == DATA:
                taken += length
            elif kind == GOAWAY:
                raise ConnectionError
        self.pending = self.pending[at:]
        if taken:
            self.put(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", taken)))

    def close(self):
        self.socket.close()


def connect(port, source="127.0.0.2"):
    made = socket.socket()
    made.settimeout(5)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((source, 0))
    made.connect(("127.0.0.1", port))
    return made


def over_and_over(until, act, pause=0.0):
    """Acts until the time is over; a connection that is closed is what is wanted."""
    count = 0
    while time.time() < until:
        try:
            act()
            count += 1
        except OSError:
            time.sleep(0.02)
        if pause:
            time.sleep(pause)
    return count


def hold(until, wires, drip=None, every=1.0):
    """Keeps connections open, and has each say a little now and then."""
    while time.time() < until:
        for wire in list(wires):
            try:
                if drip:
                    drip(wire)
            except OSError:
                wires.remove(wire)
        time.sleep(max(0.0, min(every, until - time.time())))


def opened(count, make):
    made = []
    for number in range(count):
        try:
            made.append(make(number))
        except OSError:
            time.sleep(0.01)
    return made


# ---- requests

def receive(topic, group, seconds=20):
    duration = field(1, seconds)
    queue = field(1, resource_of(topic))
    return grpc(field(1, resource_of(group)) + field(2, queue) + field(3, field(1, 1) + field(2, "*"))
                + field(4, 32) + field(5, field(1, 30)) + field(7, duration))



def settings_of(topics, group, expression="*"):
    if group is None:
        pub_sub = field(5, b"".join(field(1, resource_of(topic)) for topic in topics))
    else:
        entries = b"".join(field(2, field(1, resource_of(topic)) + field(2, field(1, 2) + field(2, expression)))
                           for topic in topics)
        pub_sub = field(6, field(1, resource_of(group)) + entries)
    return field(1, 1 if group is None else 3) + pub_sub


def telemetry(topics, group=None, expression="*"):
    return grpc(field(2, settings_of(topics, group, expression)))


def message(body):
    system = field(3, f"{random.getrandbits(128):032x}") + field(6, 1)
    return field(1, field(1, resource_of("greedy")) + field(3, system) + field(4, body))


def classic_frame(code, opaque, body=b"", fields=None):
    header = json.dumps({"code": code, "language": "JAVA", "version": 401, "opaque": opaque, "flag": 0,
                         "extFields": fields or {}, "serializeTypeCurrentRPC": "JSON"}).encode()
    return struct.pack(">I", 4 + len(header) + len(body)) + struct.pack(">I", len(header)) + header + body


# ---- attacks: each gets the nodes' ports and when to end

def no_attack(nodes, until):
    """Nobody asks the nodes anything: an attacker's processor alone, for comparison."""
    while time.time() < until:
        pass


def many_large_bodies(nodes, until):
    """10,000 streams on each of ten connections, each of which says that 16 MiB come and sends what it may."""
    wires = opened(10, lambda number: Wire(nodes[number % NODES]["grpc"]))
    prefix = b"\0" + struct.pack(">I", 16 * MIB)

    def one(wire):
        for _ in range(200):
            if wire.stream < 20_000:
                wire.begin("SendMessage", "greedy", prefix, ends=False)
        wire.read_away()
        for stream in random.sample(range(1, wire.stream, 2), 200):
            wire.data(stream, bytes(16_000))
    hold(until, wires, one, 0.05)


def slow_bodies(nodes, until):
    """Two hundred connections with a hundred streams each, on which a byte comes each second."""
    wires = opened(200, lambda number: Wire(nodes[number % NODES]["grpc"]))

    def one(wire):
        if wire.stream == 1:
            for _ in range(100):
                wire.begin("SendMessage", "slow", b"\0" + struct.pack(">I", MIB), ends=False)
        for stream in range(1, wire.stream, 2):
            wire.data(stream, b"x")
        wire.read_away()
    hold(until, wires, one)


def slow_headers(nodes, until):
    """Five hundred connections whose headers never end."""
    def make(number):
        made = Wire(nodes[number % NODES]["grpc"])
        made.put(frame(HEADERS, 0, 1, header_block("SendMessage", "slow")[:20]))
        return made
    hold(until, opened(500, make), lambda wire: wire.put(frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")))


def half_greetings(nodes, until):
    """Two thousand connections that begin TLS, HTTP/2 or a frame, and say no more."""
    starts = (b"\x16\x03\x01\x02\x00", b"PRI * HT", b"\0\0", b"PROXY TCP4 1.2.3")

    def make(number):
        made = connect(nodes[number % NODES]["grpc"])
        made.sendall(starts[number % len(starts)])
        return made
    while time.time() < until:
        made = opened(2000, make)
        hold(min(until, time.time() + 4), [])
        for one in made:
            one.close()


def connections(nodes, until):
    """As many connections as there are places, from two addresses, and more."""
    made = []
    while time.time() < until and len(made) < 30_000:
        number = len(made)
        try:
            made.append(Wire(nodes[number % NODES]["grpc"], f"127.0.0.{2 + number % 2}", own_window=0))
        except OSError:
            time.sleep(0.05)
    hold(until, [])


def zero_window(nodes, until):
    """Requests whose answers are never allowed to come: a window of nothing."""
    def one():
        wire = Wire(nodes[random.randrange(NODES)]["grpc"], window=0, own_window=0)
        for _ in range(5000):
            wire.begin("QueryRoute", "zero", grpc(field(1, resource_of("greedy"))))
        held.append(wire)
    held = []
    over_and_over(until, one)


def slow_readers(nodes, until):
    """Polls for messages that are never read: small ones that lie in entries with large ones."""
    def make(number):
        made = Wire(nodes[number % NODES]["grpc"], own_window=1 << 30, window=1 << 30)
        made.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    def one(wire):
        for _ in range(20):
            if wire.stream < 4000:
                wire.begin("ReceiveMessage", "reader", receive("greedy", f"slow-{wire.stream % 50}"))
    hold(until, opened(100, make), one, 0.2)


def rapid_reset(nodes, until):
    """Streams that are reset as soon as they were opened."""
    wires = {}

    def one():
        port = nodes[random.randrange(NODES)]["grpc"]
        wire = wires.get(port) or wires.setdefault(port, Wire(port))
        try:
            for _ in range(200):
                stream = wire.begin("Heartbeat", "reset", grpc(b""), ends=True)
                wire.put(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
            wire.read_away()
        except OSError:
            wires.pop(port, None)
            raise
    over_and_over(until, one)


def frames_flood(nodes, until):
    """Pings, settings, window updates and priorities, as fast as they go."""
    flood = (frame(PING, 0, 0, bytes(8)) + settings(window=65_535) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
             + frame(2, 0, 1, bytes(5))) * 500
    wires = {}

    def one():
        port = nodes[random.randrange(NODES)]["grpc"]
        wire = wires.get(port) or wires.setdefault(port, Wire(port))
        try:
            wire.put(flood)
            wire.read_away()
        except OSError:
            wires.pop(port, None)
            raise
    over_and_over(until, one)


def continuations(nodes, until):
    """Headers that go on and on."""
    def one():
        wire = Wire(nodes[random.randrange(NODES)]["grpc"])
        wire.put(frame(HEADERS, 0, 1, header_block("SendMessage", "headers")))
        for _ in range(2000):
            wire.put(frame(CONTINUATION, 0, 1, b"\x00\x7f\x80\x01" + b"n" * 255 + b"\x7f\xff\x1f" + b"v" * 4222))
        wire.close()
    over_and_over(until, one)


def invented_clients(nodes, until):
    """Heartbeats, each under a client id that was never seen."""
    wires = {}

    def one():
        port = nodes[random.randrange(NODES)]["grpc"]
        wire = wires.get(port) or wires.setdefault(port, Wire(port, own_window=1 << 30))
        try:
            for _ in range(100):
                wire.begin("Heartbeat", f"{random.getrandbits(128):0120x}", grpc(b""))
            wire.read_away()
            if wire.stream > 1_000_000:
                wires.pop(port)
        except OSError:
            wires.pop(port, None)
            raise
    over_and_over(until, one)


def long_settings(nodes, until):
    """Telemetry with a thousand topics, or with filters of four kilobytes, each under another client id."""
    topics = [f"{number:0100}" for number in range(1000)]
    published, subscribed = telemetry(topics), telemetry(topics[:60], "greedy", "a > '" + "x" * 4000 + "'")

    def one():
        wire = Wire(nodes[random.randrange(NODES)]["grpc"])
        for _ in range(20):
            wire.telemetry(f"{random.getrandbits(128):032x}", random.choice((published, subscribed)))
        wire.read_away()
        kept.append(wire)
        if len(kept) > 200:
            kept.pop(0).close()
    kept = []
    over_and_over(until, one)


def tiny_fields(nodes, until):
    """Requests of a million fields of two bytes."""
    bodies = [("SendMessage", b"\x0a\x00" * 2_000_000), ("AckMessage", b"\x1a\x00" * 500_000),
              ("SendMessage", field(1, field(3, b"\x12\x00" * 2_000_000)))]

    def one():
        wire = Wire(nodes[random.randrange(NODES)]["grpc"])
        for method, body in bodies:
            wire.whole(method, "tiny", grpc(body), time.time() + 3)
        wire.read_away(0.2)
        wire.close()
    over_and_over(until, one)


def waiting_polls(nodes, until):
    """Ten thousand polls that wait on each of twelve connections."""
    wires = opened(12, lambda number: Wire(nodes[number % NODES]["grpc"], own_window=1 << 30))

    def one(wire):
        for _ in range(200):
            if wire.stream < 20_000:
                wire.begin("ReceiveMessage", "waits", receive("empty", "waits"), more=(("grpc-timeout", "20S"),))
        wire.read_away()
    hold(until, wires, one, 0.05)


def classic_lengths(nodes, until):
    """Frames of the classic protocol that say 16 MiB, send some of it, and stop."""
    def make(number):
        made = connect(nodes[number % NODES]["listen"])
        header = b'{"code":10,"opaque":1,"flag":0,"language":"JAVA","version":401}'
        made.sendall(struct.pack(">II", 16 * MIB - 1, len(header)) + header + bytes(64 * 1024))
        return made

    def more(made):
        made.settimeout(0.01)
        try:
            made.sendall(bytes(32 * 1024))
        except TimeoutError:
            pass
    while time.time() < until:
        made = opened(500, make)
        hold(min(until, time.time() + 8), made, more, 0.2)
        for one in made:
            one.close()


def classic_heartbeats(nodes, until):
    """Heartbeats of the classic protocol with bodies of many megabytes of nothing, and under invented ids."""
    nothing = b'{"clientID":"c","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[' + b"{}," * 3_000_000 + b"{}]}]}"

    def one():
        made = connect(nodes[random.randrange(NODES)]["listen"])
        made.sendall(classic_frame(34, 1, nothing))
        for number in range(200):
            body = {"clientID": f"{random.getrandbits(128):0200x}",
                    "producerDataSet": [{"groupName": f"p{random.getrandbits(64)}"}], "consumerDataSet": []}
            made.sendall(classic_frame(34, number, json.dumps(body).encode()))
        made.recv(1 << 16)
        made.close()
    over_and_over(until, one)


def classic_unread(nodes, until):
    """Pulls of the classic protocol whose answers are never read."""
    def make(number):
        made = connect(nodes[number % NODES]["listen"])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    def one(made):
        for number in range(50):
            fields = {"consumerGroup": "unread", "topic": "greedy", "queueId": str(number % 8), "queueOffset": "0",
                      "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0",
                      "subscription": "*", "subVersion": "0", "expressionType": "TAG"}
            made.sendall(classic_frame(11, number, b"", fields))
    made = opened(200, make)
    for one_of_them in made:
        one_of_them.settimeout(0.2)
    hold(until, made, one, 0.3)


def peers_and_pages(nodes, until):
    """Silent connections to the ports for peers and for HTTP."""
    def make(number):
        return connect(nodes[number % NODES][("peer", "http")[number % 2]])
    hold(until, opened(1500, make))


def come_and_go(nodes, until):
    """A thousand clients at a time that say who they are, poll or send, and go, each time under other ids."""
    while time.time() < until:
        wires = []
        for number in range(1000):
            try:
                wire = Wire(nodes[number % NODES]["grpc"], f"127.0.0.{2 + number % 8}", own_window=1 << 20)
                client = f"{random.getrandbits(64):x}"
                wire.begin("Telemetry", client, telemetry(["empty"], f"come-{number % 100}"), ends=False)
                wire.begin("ReceiveMessage", client, receive("empty", f"come-{number % 100}", 5))
                wires.append(wire)
            except OSError:
                time.sleep(0.01)
            if time.time() >= until:
                break
        for wire in wires:
            wire.close()


ATTACKS = [no_attack, many_large_bodies, slow_bodies, slow_headers, half_greetings, connections, zero_window, slow_readers, rapid_reset,
           frames_flood, continuations, invented_clients, long_settings, tiny_fields, waiting_polls, classic_lengths,
           classic_heartbeats, classic_unread, peers_and_pages, come_and_go]


# ---- the nodes and the client beside them

class Cluster:
    def __init__(self, program, folder, defined):
        self.program, self.folder, self.processes = program, folder, []
        ports = free_ports(4 * NODES)
        names = ("grpc", "listen", "peer", "http")
        self.nodes = [dict(zip(names, ports[4 * node:4 * node + 4])) for node in range(NODES)]
        peers = ";".join(f"n{node}-127.0.0.1:{self.nodes[node]['peer']}" for node in range(NODES))
        for node, ports in enumerate(self.nodes):
            said = [f"dLegerPeers={peers}", f"dLegerSelfId=n{node}", "brokerClusterName=Greedy", "brokerName=Greedy00",
                    "bindAddress=127.0.0.1", "brokerIP1=127.0.0.1", f"grpcServerPort={ports['grpc']}",
                    f"listenPort={ports['listen']}", f"metricsPromExporterPort={ports['http']}",
                    f"storePathRootDir={folder}/n{node}", f"logHome={folder}/n{node}", *defined]
            lines = open(f"{folder}/n{node}.log", "ab")
            command = [program, "broker"] + [part for one in said for part in ("-D", one)]
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines))
        self.endpoints = ";".join(f"127.0.0.1:{node['grpc']}" for node in self.nodes)

    def raftmq(self, *arguments, takes=0):
        command = [self.program, "-n", self.endpoints, *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240 + takes)

    def wait(self):
        for _ in range(120):
            if self.raftmq("topic", "create", "bench").returncode in (0, 6):
                return
            time.sleep(0.5)
        raise SystemExit("no leader in time")

    def term(self):
        """The highest term that a node is in; None if none tells."""
        terms = []
        for node in self.nodes:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{node['http']}/metrics", timeout=20).read().decode()
            except OSError:
                continue
            terms += [float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith("raftmq_raft_term{")]
        return max(terms, default=None)

    def clients(self):
        """Of each node: living clients, open connections, bytes that clients hold of its budgets."""
        rows = []
        for node in self.nodes:
            page = urllib.request.urlopen(f"http://127.0.0.1:{node['http']}/metrics", timeout=20).read().decode()
            of = lambda *names: sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(names))
            rows.append([round(of(*names)) for names in CLIENT_METRICS])
        return rows

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def free_ports(count):
    """Below the range of connections' own ends, each with its neighbour free: a node serves `listenPort - 2` too."""
    found = []
    while len(found) < count:
        port = random.randrange(10_000, 31_000, 4)
        try:
            for at in (port, port - 2):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", at))
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


class Watch(threading.Thread):
    """Looks at the nodes' memory and files, ten times a second."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.over = pids, threading.Event()
        self.memory, self.files = [0] * len(pids), [0] * len(pids)
        for pid in pids:
            # From here on the kernel's own mark is of this attack.
            with open(f"/proc/{pid}/clear_refs", "w") as marks:
                marks.write("5")

    def run(self):
        while not self.over.wait(0.1):
            self.look()

    def look(self):
        for at, pid in enumerate(self.pids):
            try:
                lines = open(f"/proc/{pid}/status").read().splitlines()
                kib = max(int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "VmRSS")))
                self.memory[at] = max(self.memory[at], kib / 1024)
                self.files[at] = max(self.files[at], len(os.listdir(f"/proc/{pid}/fd")))
            except (OSError, ValueError):
                self.memory[at] = float("inf")

    def end(self):
        self.over.set()
        self.join()
        self.look()


def resident(pids):
    found = []
    for pid in pids:
        lines = open(f"/proc/{pid}/status").read().splitlines()
        found.append(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")))
    return found


def well_behaved(cluster, seconds):
    """The report of a client that sends on a schedule; None if it came to no end."""
    done = cluster.raftmq("-o", "json", "bench", "send", "--topic", "bench", "--rate", str(RATE), "--in-flight", "16",
                          "--connections", "3", "--threads", "1", "--warm-up", "1s", "--duration", f"{seconds}s", "--no-check", takes=seconds)
    try:
        return json.loads(done.stdout)
    except ValueError:
        print(done.stderr[-500:], file=sys.stderr)
        return None


def p99_of(report):
    return report["latency"]["p99_us"] / 1000.0


def failed_of(report):
    return sum(report["failures"].values())


def fill(cluster):
    """Messages for slow readers: small ones, each in a batch with large ones."""
    for name in ("greedy", "empty"):
        cluster.raftmq("topic", "create", name)
    for _ in range(12):
        data = grpc(b"".join(message(os.urandom(4 * MIB - 1)) for _ in range(3))
                    + b"".join(message(b"s" * 1024) for _ in range(96)))
        wire = Wire(cluster.nodes[0]["grpc"], own_window=1 << 30)
        wire.whole("SendMessage", "fills", data, time.time() + 20)
        wire.read_away(5)
        wire.close()


def polite(act, nice, *args):
    os.nice(nice)
    act(*args)


def attack(cluster, act, seconds, usual, nice):
    pids = [process.pid for process in cluster.processes]
    before = cluster.term()
    watch = Watch(pids)
    watch.start()
    attacker = multiprocessing.Process(target=polite, args=(act, nice, cluster.nodes, time.time() + seconds + 3), daemon=True)
    attacker.start()
    time.sleep(1)
    report = well_behaved(cluster, seconds)
    attacker.join(30)
    if attacker.is_alive():
        attacker.kill()
    watch.end()
    after = cluster.term()
    alive = all(process.poll() is None for process in cluster.processes)
    p99 = p99_of(report) if report else None
    refused = failed_of(report) if report else None
    bound = P99_BOUND * max(usual, P99_LEAST_MS)
    most_files = int(next(line.split()[3] for line in open(f"/proc/{pids[0]}/limits") if line.startswith("Max open files"))) if alive else 0
    broken = []
    if not alive:
        broken.append("a node ended")
    if max(watch.memory) > MEMORY_BOUND_MIB:
        broken.append(f"{max(watch.memory):.0f} MiB")
    if p99 is None or p99 > bound:
        broken.append(f"p99 above {bound:.0f} ms")
    if refused:
        broken.append(f"{refused} sends refused")
    if before is None or after is None or after != before:
        broken.append(f"term {before} to {after}")
    if max(watch.files) > most_files - FILES_LEFT:
        broken.append(f"{max(watch.files)} files")
    return {"attack": act.__name__, "what": act.__doc__, "memory_mib": [round(each) for each in watch.memory],
            "p99_ms": p99, "times_usual": p99 and round(p99 / usual, 1), "refused": refused, "elections": (after or 0) - (before or 0),
            "files": max(watch.files), "broken": broken}


def program():
    if os.environ.get("RAFTMQ_BIN"):
        return os.path.realpath(os.environ["RAFTMQ_BIN"])
    home = os.path.dirname(os.path.realpath(__file__))
    built = subprocess.run(["bash", "-c", f"source {home}/env.sh && raftmq_dist"], check=True, capture_output=True, text=True)
    return built.stdout.strip().splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--seconds", type=int, default=15, help="length of each attack")
    parser.add_argument("--only", default="", help="names of attacks")
    parser.add_argument("--after", type=int, default=0, help="seconds to wait in the end, to see what is left")
    parser.add_argument("--nice", type=int, default=19, help="priority of the attackers [19, the lowest]")
    parser.add_argument("--list", action="store_true", help="say which attacks there are")
    parser.add_argument("-D", dest="defined", action="append", default=[], help="a configuration key for the nodes")
    args = parser.parse_args()
    if args.list or not args.folder:
        for act in ATTACKS:
            print(f"{act.__name__:20} {act.__doc__}")
        return 0 if args.list else 2
    wanted = [act for act in ATTACKS if not args.only or act.__name__ in args.only.split(",")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.makedirs(args.folder, exist_ok=True)
    cluster = Cluster(program(), os.path.realpath(args.folder), args.defined)
    # After the nodes were started, which raise their own.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        cluster.wait()
        fill(cluster)
        usual = well_behaved(cluster, min(args.seconds, 15))
        if usual is None:
            return 2
        usual = p99_of(usual)
        pids = [process.pid for process in cluster.processes]
        print(f"usual p99 {usual:.1f} ms, memory {[round(each) for each in resident(pids)]} MiB", flush=True)
        print(f"{'attack':20} {'MiB':>5} {'p99 ms':>8} {'usual':>6} {'refused':>7} {'elections':>9} {'files':>6}", flush=True)
        rows = []
        for act in wanted:
            row = attack(cluster, act, args.seconds, usual, args.nice)
            rows.append(row)
            shown = [row["p99_ms"], row["times_usual"], row["refused"]]
            shown = ["-" if each is None else each for each in shown]
            print(f"{row['attack']:20} {max(row['memory_mib']):>5} {shown[0]:>8} {shown[1]:>6} {shown[2]:>7} "
                  f"{row['elections']:>9.0f} {row['files']:>6} {'; '.join(row['broken']) or 'ok'}", flush=True)
            if any(process.poll() is not None for process in cluster.processes):
                print("a node ended: see its log", flush=True)
                break
            time.sleep(3)
        if args.after:
            print(f"clients and connections: {cluster.clients()}; {args.after} s later:", flush=True)
            time.sleep(args.after)
            print(f"clients and connections: {cluster.clients()}")
        left = [round(each) for each in resident([process.pid for process in cluster.processes if process.poll() is None])]
        print(f"memory at the end {left} MiB")
        document = {"schema": "raftmq.greedy.v1", "seconds": args.seconds, "nice": args.nice, "usual_p99_ms": usual, "at_the_end_mib": left, "attacks": rows}
        with open(os.path.join(args.folder, "greedy.json"), "w") as out:
            json.dump(document, out, indent=1)
        return 1 if any(row["broken"] for row in rows) else 0
    finally:
        cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
