#!/usr/bin/env python3
"""A node that lost its data, beside a cluster whose log no longer reaches back, fetches the state and votes again.

Prints how long that took, the peak memory of both sides, and what clients of the others felt meanwhile.
KONTIKI_STATE_MB is the size of the state (default: small, for every test run); KONTIKI_RATE_MB the rate of the transfer
(0: no limit)."""
import os
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402

STATE_MB = int(os.environ.get("KONTIKI_STATE_MB", "24"))
RATE_MB = int(os.environ.get("KONTIKI_RATE_MB", "0"))
VALUE = 64 << 10
WINDOW = 32


def value(i):
    return b"\x0b" + VALUE.to_bytes(4, "big") + (b"%08d" % i) * (VALUE // 8)


def fill(node, count):
    with node.kv(timeout=120) as client:
        for start in range(0, count, WINDOW):
            numbers = range(start, min(start + WINDOW, count))
            client.send_bytes(b"".join(
                kv.frame(kv.body(kv.SET, kv.short("key-%d" % i) + value(i), client.database, client.collection))
                for i in numbers))
            for _ in numbers:
                client.answer()


class Watch(threading.Thread):
    """Peak memory of some nodes, and the latencies of a trickle of small writes through one of them."""

    def __init__(self, nodes, writer):
        super().__init__(daemon=True)
        self.nodes, self.writer = nodes, writer
        self.peak = {node.id: 0 for node in nodes}
        self.latencies = []
        self.error = None
        self.ending = threading.Event()

    def run(self):
        try:
            with self.writer.kv() as client:
                i = 0
                while not self.ending.is_set():
                    began = time.monotonic()
                    client.set("trickle", kv.string(str(i)))
                    self.latencies.append(time.monotonic() - began)
                    i += 1
                    for node in self.nodes:
                        if node.alive():
                            self.peak[node.id] = max(self.peak[node.id], node.anonymous_kib())
        except Exception as error:  # told by the test
            self.error = error

    def end(self):
        self.ending.set()
        self.join()
        assert self.error is None, self.error

    def p99_ms(self):
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def is_back(cluster, node, index):
    """The leader counts it as a voter that has the entry, and it shows the entry itself."""
    status, leader = node.status(), cluster.leader().status()
    if not status or not leader:
        return False
    member = [member for member in leader["members"] if member["id"] == node.id][0]
    return status["applied"] >= index and member["voter"] and member["match"] >= index


def main():
    settings = {"storage.wal_segment_size_mb": 4, "storage.log_keep_mb": 8, "cluster.transfer_mb_per_s": RATE_MB}
    with Cluster(3, settings=settings) as cluster:
        count = STATE_MB * 1024 * 1024 // VALUE
        leader = cluster.leader()
        fill(leader, count)
        wait_until(lambda: cluster.leader().status()["first"] > 1, "the log to be trimmed")
        lost, other = cluster.followers()[0], cluster.followers()[1]
        calm = Watch([], other)
        calm.start()
        time.sleep(1)
        calm.end()
        lost.kill()
        shutil.rmtree(os.path.join(lost.folder, "data"))
        watch = Watch([lost, leader], other)
        watch.start()
        commit = leader.status()["commit"]
        began = time.monotonic()
        lost.start(wait=False)
        wait_until(lambda: is_back(cluster, lost, commit), "the lost node to be back", 900)
        took = time.monotonic() - began
        watch.end()
        with lost.kv() as client:
            for i in range(0, count, max(1, count // 50)):
                assert client.get("key-%d" % i) == value(i), i
        print("state of %d MB: back after %.2f s; memory at most %d MiB there, %d MiB at the leader; "
              "writes meanwhile p99 %.1f ms of %d, before %.1f ms of %d"
              % (STATE_MB, took, watch.peak[lost.id] >> 10, watch.peak[leader.id] >> 10, watch.p99_ms(),
                 len(watch.latencies), calm.p99_ms(), len(calm.latencies)))


main()
