#!/usr/bin/env python3
"""The leader is stopped as planned under load: it exits with 0, another one leads, and no request fails: clients of
other nodes notice nothing, its own lose their connections only."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster  # noqa: E402
from lib.load import Load, milliseconds  # noqa: E402

ROUNDS = int(os.environ.get("KONTIKI_ROUNDS", "5"))


def main():
    gaps = []
    with Cluster(3) as cluster:
        with Load(cluster, 6) as load:
            for _ in range(ROUNDS):
                leader = cluster.leader()
                load.allow_loss(leader)
                load.wait_progress()
                began = time.monotonic()
                leader.stop()
                cluster.leader()
                load.wait_progress()
                gaps.append(load.longest_gap(began, leader))
                print("node %d stopped, %.0f ms without service" % (leader.id, gaps[-1] * 1000), flush=True)
                leader.start()
                cluster.wait_caught_up_under_load(leader)
                load.allow_loss(None)
        cluster.wait_caught_up()
        load.verify()
        print("%d answers" % load.total())
    print("stopped leader: time without service: " + milliseconds(gaps))


main()
