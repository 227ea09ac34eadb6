#!/usr/bin/env python3
"""A follower that is away (stopped as planned, then killed) while many writes happen catches up and serves them."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402

WRITES = int(os.environ.get("KONTIKI_WRITES", "3000"))
WINDOW = 100  # requests sent before their answers are read


def write(node, first, count):
    with node.kv() as client:
        for start in range(first, first + count, WINDOW):
            numbers = range(start, min(start + WINDOW, first + count))
            client.send_bytes(b"".join(
                kv.frame(kv.body(kv.SET, kv.short("key-%d" % i) + kv.string("value-%d" % i), client.database,
                                 client.collection)) for i in numbers))
            for _ in numbers:
                client.answer()


def main():
    with Cluster(3, settings={"storage.wal_segment_size_mb": 1}) as cluster:
        written = 0
        for leave in ("stop", "kill"):
            follower = cluster.followers()[0]
            getattr(follower, leave)()
            write(cluster.leader(), written, WRITES)
            written += WRITES
            commit = cluster.leader().status()["commit"]
            follower.start()
            wait_until(lambda node=follower, index=commit: node.status()["applied"] >= index, "caught up")
            with follower.kv() as client:
                for i in range(0, written, 97):
                    assert client.get("key-%d" % i) == kv.string("value-%d" % i), i
                assert client.get("key-%d" % (written - 1)) == kv.string("value-%d" % (written - 1))
        cluster.wait_caught_up()
        print("%d writes, the absent node has them all" % written)


main()
