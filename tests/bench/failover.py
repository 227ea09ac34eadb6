#!/usr/bin/env python3
"""Fail-over: the leader of three nodes is killed (SIGKILL) while a few clients write to each node, at the default
timeouts. Measured is the time from the kill to the first acknowledged answer, on the other nodes, of a write that was
sent after it.

    failover.py [ROUNDS]        50 if not given; KONTIKI_KONTIKID names the program, else the newest build
"""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster  # noqa: E402

WRITERS_PER_NODE = 3
PAUSE = 0.005  # seconds between two writes of one client: a trickle


class Writer(threading.Thread):
    """Sets its own key again and again at one node; reconnects when the node is back."""

    def __init__(self, node, number):
        super().__init__(daemon=True)
        self.node, self.key = node, b"writer-%d-%d" % (node.id, number)
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.acknowledged = []  # (sent, answered)
        self.failure = None

    def run(self):
        client, number = None, 0
        while not self.ending.is_set():
            try:
                client = client or self.node.kv(timeout=20)
                number += 1
                sent = time.monotonic()
                client.set(self.key, kv.string("%d" % number))
                with self.lock:
                    self.acknowledged.append((sent, time.monotonic()))
            except kv.Lost:
                client = client and client.close()
            except kv.Refused as refused:
                self.failure = refused
                return
            self.ending.wait(PAUSE)

    def first_after(self, moment):
        """When the first write that was sent after the moment was answered; None: none was yet."""
        with self.lock:
            return min((answered for sent, answered in self.acknowledged if sent > moment), default=None)

    def forget(self):
        with self.lock:
            self.acknowledged.clear()


def check(writers):
    for writer in writers:
        if writer.failure is not None:
            raise AssertionError("node %d refused a write: %s" % (writer.node.id, writer.failure))


def one_round(cluster, writers):
    """Kills the leader; seconds until the others acknowledge."""
    leader = cluster.leader()
    for writer in writers:
        writer.forget()
    time.sleep(random.uniform(0.1, 0.3))  # so that the kill meets any moment between two heartbeats
    killed = time.monotonic()
    leader.kill()
    others = [writer for writer in writers if writer.node is not leader]
    while True:
        check(writers)
        answers = [answer for answer in (writer.first_after(killed) for writer in others) if answer is not None]
        if answers:
            break
        assert time.monotonic() < killed + 30, "nobody took over"
        time.sleep(0.002)
    leader.start()
    cluster.wait_caught_up_under_load(leader)
    return min(answers) - killed


def quantile(values, share):
    return sorted(values)[round((len(values) - 1) * share)]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    times = []
    with Cluster(3) as cluster:
        writers = [Writer(node, number) for node in cluster.nodes for number in range(WRITERS_PER_NODE)]
        for writer in writers:
            writer.start()
        for number in range(rounds):
            times.append(one_round(cluster, writers))
            print("round %d: %.0f ms" % (number + 1, times[-1] * 1000), file=sys.stderr, flush=True)
        for writer in writers:
            writer.ending.set()
        for writer in writers:
            writer.join(30)
        check(writers)
    print("| kills | min ms | p50 ms | p90 ms | max ms |\n|---|---|---|---|---|")
    print("| %d | %.0f | %.0f | %.0f | %.0f |" % (rounds, min(times) * 1000, quantile(times, 0.5) * 1000,
                                                  quantile(times, 0.9) * 1000, max(times) * 1000))


main()
