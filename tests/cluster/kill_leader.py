#!/usr/bin/env python3
"""The leader is killed (SIGKILL) under load, KONTIKI_ROUNDS times: no acknowledged write is lost, none is applied
twice, and no client sees an error: those of other nodes not even a lost connection."""
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
            for number in range(ROUNDS):
                leader = cluster.leader()
                load.allow_loss(leader)
                load.wait_progress()
                began = time.monotonic()
                leader.kill()
                cluster.leader()
                load.wait_progress()
                gaps.append(load.longest_gap(began, leader))
                leader.start()
                cluster.wait_caught_up_under_load(leader)
                load.allow_loss(None)
                print("round %d: node %d killed, %.0f ms without service" % (number + 1, leader.id, gaps[-1] * 1000),
                      flush=True)
        cluster.wait_caught_up()
        load.verify()
        print("%d answers, %d moves to another node" % (load.total(), sum(c.reconnects for c in load.clients)))
    print("killed leader: time without service: " + milliseconds(gaps))


main()
