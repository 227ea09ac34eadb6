"""Clients that write without pause and keep account of what was acknowledged.

Each client owns one instance and one key, so what the cluster must say is known exactly:

- State machine: every event names the offset of the one before it (expected_wal_offset) and carries an idempotency key.
  An acknowledged event that was lost, or one applied twice, breaks the chain and is answered with CONFLICT.
- Key: the only writer sets 1, 2, 3...; a read must give the last acknowledged number, or the one under way.

An error answered by the server is a failure of the test. A lost connection is allowed only where `may_lose` says so;
the client then goes to another node and repeats the same request with the same key.
"""
import random
import statistics
import struct
import threading
import time

from . import kv, rcp

MACHINE = {"states": ["on"], "initial": "on", "transitions": [{"from": "on", "event": "COUNT", "to": "on"}]}


def register(node):
    with node.rcp() as client:
        client.call("PUT_MACHINE", {"machine": "counter", "version": 1, "definition": MACHINE})


class LoadClient(threading.Thread):
    def __init__(self, cluster, number, node):
        super().__init__(daemon=True)
        self.cluster, self.number, self.node = cluster, number, node
        self.instance = "counter-%d" % number
        self.key = ("load-%d" % number).encode()
        self.done = threading.Event()
        self.failure = None
        self.acks = []  # (time acknowledged, node id)
        self.count, self.offset = 0, None
        self.reconnects = 0
        self.rcp = self.kv = None
        self.may_lose = set()  # ids of nodes whose connections may break

    def run(self):
        try:
            self.step(lambda: self.rcp_call("CREATE_INSTANCE", {
                "machine": "counter", "version": 1, "instance_id": self.instance,
                "idempotency_key": self.instance}, created=True))
            while not self.done.is_set():
                self.step(self.count_once)
                self.step(self.set_once)
                self.step(self.read_once)
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure
        finally:
            self.disconnect()

    def connect(self):
        if self.rcp is None:
            self.rcp = self.node.rcp()
        if self.kv is None:
            self.kv = self.node.kv()

    def disconnect(self):
        for client in (self.rcp, self.kv):
            if client is not None:
                client.close()
        self.rcp = self.kv = None

    def step(self, action):
        """Does the action until it is answered."""
        end = time.monotonic() + 60
        while True:
            try:
                self.connect()
                action()
                self.acks.append((time.monotonic(), self.node.id))
                return
            except (rcp.Lost, kv.Lost) as lost:
                self.disconnect()
                if self.node.id not in self.may_lose:
                    raise AssertionError("%s on node %d: %s" % (self.instance, self.node.id, lost)) from lost
                if time.monotonic() > end:
                    raise AssertionError("%s found no node within a minute" % self.instance) from lost
                self.reconnects += 1
                others = [node for node in self.cluster.running() if node.id != self.node.id]
                if others:
                    self.node = random.choice(others)
                else:
                    time.sleep(0.02)

    def rcp_call(self, op, params, created=False):
        result = self.rcp.call(op, params)
        if self.offset is not None:
            assert result["wal_offset"] > self.offset, (self.instance, result, self.offset)
        self.offset = result["wal_offset"]
        if not created:
            assert result["ctx"]["n"] == params["payload"]["n"], (self.instance, result, params)

    def count_once(self):
        wanted = self.count + 1
        self.rcp_call("APPLY_EVENT", {
            "instance_id": self.instance, "event": "COUNT", "payload": {"n": wanted},
            "expected_wal_offset": self.offset, "idempotency_key": "%s-%d" % (self.instance, wanted)})
        self.count = wanted

    def set_once(self):
        self.kv.set(self.key, b"\x08" + struct.pack(">q", self.count))

    def read_once(self):
        found = self.kv.get(self.key)
        assert found == b"\x08" + struct.pack(">q", self.count), (self.instance, found, self.count)
        instance = self.rcp.call("GET_INSTANCE", {"instance_id": self.instance})
        assert instance["ctx"]["n"] == self.count, (self.instance, instance, self.count)


class Load:
    """with Load(cluster, 6) as load: ...; at the end every client must have had no failure."""

    def __init__(self, cluster, count):
        register(cluster.leader())
        self.cluster = cluster
        self.clients = [LoadClient(cluster, number, cluster.nodes[number % len(cluster.nodes)])
                        for number in range(count)]

    def __enter__(self):
        for client in self.clients:
            client.start()
        self.wait_progress()
        return self

    def __exit__(self, kind, *_):
        for client in self.clients:
            client.done.set()
        for client in self.clients:
            client.join(90)
        if kind is None:
            self.check()

    def check(self):
        for client in self.clients:
            if client.failure is not None:
                raise client.failure
            assert client.is_alive() or client.done.is_set()

    def allow_loss(self, node):
        for client in self.clients:
            client.may_lose = {node.id} if node is not None else set()

    def allow_all_losses(self):
        for client in self.clients:
            client.may_lose = {node.id for node in self.cluster.nodes}

    def wait_progress(self, steps=6):
        """Every client has had so many more answers."""
        before = [len(client.acks) for client in self.clients]
        end = time.monotonic() + 60
        while any(len(client.acks) < old + steps for client, old in zip(self.clients, before)):
            self.check()
            if time.monotonic() > end:
                raise AssertionError("no progress: %r" % [len(client.acks) - old for client, old
                                                          in zip(self.clients, before)])
            time.sleep(0.005)

    def longest_gap(self, since, without):
        """Seconds in which no client of the other nodes got an answer, after `since`: the time without service."""
        times = sorted(when for client in self.clients for when, node in client.acks
                       if when >= since and node != without.id)
        edges = [since] + times
        return max(later - earlier for earlier, later in zip(edges, edges[1:]))

    def verify(self):
        """After the end: every node says what was acknowledged last."""
        for node in self.cluster.running():
            with node.rcp() as machines, node.kv() as keys:
                for client in self.clients:
                    found = machines.call("GET_INSTANCE", {"instance_id": client.instance})
                    assert found["ctx"].get("n", 0) == client.count, (node.id, client.instance, found, client.count)
                    assert found["last_wal_offset"] == client.offset, (node.id, client.instance, found, client.offset)
                    value = struct.unpack(">q", keys.get(client.key)[1:])[0]
                    assert value == client.count or value == client.count - 1, (node.id, client.key, value,
                                                                                client.count)

    def total(self):
        return sum(len(client.acks) for client in self.clients)


def milliseconds(values):
    values = sorted(values)
    return "median %.0f ms, least %.0f, most %.0f of %d" % (
        statistics.median(values) * 1000, values[0] * 1000, values[-1] * 1000, len(values))


def lose_leaders(cluster, rounds, lose):
    """lose(leader) ends the leader's process, so many times, under load; it comes back each time. Afterwards everything
    acknowledged must be there. Prints how long clients of the other nodes got no answer."""
    gaps = []
    with Load(cluster, 6) as load:
        for number in range(rounds):
            leader = cluster.leader()
            load.allow_loss(leader)
            load.wait_progress()
            began = time.monotonic()
            lose(leader)
            cluster.leader()
            load.wait_progress()
            gaps.append(load.longest_gap(began, leader))
            print("round %d: node %d lost, %.0f ms without service" % (number + 1, leader.id, gaps[-1] * 1000),
                  flush=True)
            leader.start()
            cluster.wait_caught_up_under_load(leader)
            load.allow_loss(None)
    cluster.wait_caught_up()
    load.verify()
    print("%d answers, %d moves to another node" % (load.total(), sum(client.reconnects for client in load.clients)))
    return milliseconds(gaps)
