#!/usr/bin/env python3
"""A hundred watchers on all nodes of a cluster whose leader is killed (SIGKILL) KONTIKI_ROUNDS times under load: each
receives every event exactly once, in order, without gap. Watchers of a killed node go on at another one with nothing
but the offset of their last event."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.load import Load  # noqa: E402

ROUNDS = int(os.environ.get("KONTIKI_ROUNDS", "5"))
WATCHERS = int(os.environ.get("KONTIKI_WATCHERS", "100"))
INSTANCES = 6


class Watcher(threading.Thread):
    """Every third one watches one instance, the others all. What it received is a list of (offset, number)."""

    def __init__(self, cluster, number):
        super().__init__(daemon=True)
        self.cluster, self.number = cluster, number
        self.node = cluster.nodes[number % len(cluster.nodes)]
        self.instance = "counter-%d" % (number % INSTANCES) if number % 3 == 0 else None
        self.offsets, self.counts = [], {}
        self.started, self.done = threading.Event(), threading.Event()
        self.failure, self.moves, self.from_offset = None, 0, 1

    def run(self):
        try:
            while not self.done.is_set():
                try:
                    self.follow()
                except rcp.Lost:
                    self.moves += 1
                    others = [node for node in self.cluster.running() if node is not self.node]
                    if others:
                        self.node = random.choice(others)
                    time.sleep(0.02)
                except rcp.Refused as refused:
                    if not refused.retryable:
                        raise
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure

    def follow(self):
        with self.node.rcp(timeout=30) as client:
            client.socket.settimeout(30)
            params = {"from_offset": self.from_offset, "include_ctx": False}
            if self.instance:
                client.call("WATCH_INSTANCE", {"instance_id": self.instance, **params})
            else:
                client.call("WATCH_ALL", {"machines": ["counter"], **params})
            self.started.set()
            while not self.done.is_set():
                if client.wait_buffered(0.1):
                    self.take(client.event())

    def take(self, event):
        assert event["type"] == "event", (self.number, event)
        assert self.instance in (None, event["instance_id"]), (self.number, event)
        # Gaps and repetitions would show here: the load counts 1, 2, 3... on each instance.
        wanted = self.counts.get(event["instance_id"], 0) + 1
        assert event["payload"]["n"] == wanted, (self.number, event, wanted)
        assert not self.offsets or event["wal_offset"] > self.offsets[-1], (self.number, event, self.offsets[-1])
        self.counts[event["instance_id"]] = wanted
        self.offsets.append(event["wal_offset"])
        self.from_offset = event["wal_offset"] + 1


def check(watchers):
    for watcher in watchers:
        if watcher.failure is not None:
            raise watcher.failure


def all_events(node):
    """Offsets of the instances' events, out of the change log."""
    found, at = {}, 0
    with node.rcp() as client:
        while True:
            page = client.call("WAL_READ", {"from_offset": at})
            for record in page["records"]:
                if record["entry"]["type"] == "apply_event":
                    found.setdefault(record["entry"]["instance_id"], []).append(record["offset"])
            if "next_offset" not in page:
                return found
            at = page["next_offset"]


def main():
    with Cluster(3) as cluster:
        with Load(cluster, INSTANCES) as load:
            load.wait_progress(2)
            watchers = [Watcher(cluster, number) for number in range(WATCHERS)]
            for watcher in watchers:
                watcher.start()
            wait_until(lambda: check(watchers) or all(watcher.started.is_set() for watcher in watchers),
                       "all watchers have begun")
            for number in range(ROUNDS):
                leader = cluster.leader()
                load.allow_loss(leader)
                load.wait_progress()
                leader.kill()
                cluster.leader()
                load.wait_progress()
                leader.start()
                cluster.wait_caught_up_under_load(leader)
                load.allow_loss(None)
                check(watchers)
                print("round %d: node %d killed" % (number + 1, leader.id), flush=True)
        cluster.wait_caught_up()
        load.verify()
        logs = [all_events(node) for node in cluster.running()]
        assert all(log == logs[0] for log in logs), "the nodes' change logs differ"
        everything = sorted(offset for offsets in logs[0].values() for offset in offsets)
        for watcher in watchers:
            wanted = logs[0][watcher.instance] if watcher.instance else everything
            wait_until(lambda w=watcher, count=len(wanted): check(watchers) or len(w.offsets) >= count,
                       "watcher %d has %d events of %d" % (watcher.number, len(watcher.offsets), len(wanted)))
        for watcher in watchers:
            watcher.done.set()
        for watcher in watchers:
            watcher.join(60)
            wanted = logs[0][watcher.instance] if watcher.instance else everything
            assert watcher.offsets == wanted, (watcher.number, len(watcher.offsets), len(wanted))
        check(watchers)
    print("%d watchers, %d leaders killed, %d events: %d delivered, each once and in order; %d moves" % (
        len(watchers), ROUNDS, len(everything), sum(len(w.offsets) for w in watchers), sum(w.moves for w in watchers)))


main()
