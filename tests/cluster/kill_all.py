#!/usr/bin/env python3
"""All nodes are killed at once under load and started again: everything acknowledged is there."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster  # noqa: E402
from lib.load import Load  # noqa: E402

ROUNDS = int(os.environ.get("KONTIKI_ROUNDS", "5"))


def main():
    with Cluster(3) as cluster:
        with Load(cluster, 6) as load:
            for _ in range(ROUNDS):
                load.allow_all_losses()
                load.wait_progress()
                for node in cluster.nodes:
                    node.process.kill()
                for node in cluster.nodes:
                    node.kill()
                for node in cluster.nodes:
                    node.start(wait=False)
                for node in cluster.nodes:
                    node.wait_ready()
                load.wait_progress()
        cluster.wait_caught_up()
        load.verify()
        print("%d rounds, %d answers, nothing lost" % (ROUNDS, load.total()))


main()
