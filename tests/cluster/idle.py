#!/usr/bin/env python3
"""A cluster that nobody uses keeps its leader: over ten election timeouts the term does not change."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, wait_until  # noqa: E402


def main():
    with Cluster(3) as cluster:
        leader = cluster.leader()
        term = leader.status()["term"]
        end = time.monotonic() + 10 * 0.3

        def quiet_until_the_end():
            states = [node.status() for node in cluster.nodes]
            assert all(state["term"] == term and state["leader"] == leader.id for state in states), states
            return time.monotonic() > end
        wait_until(quiet_until_the_end, "ten election timeouts pass")
        print("the leader stays")


main()
