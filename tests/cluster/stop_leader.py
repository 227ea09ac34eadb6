#!/usr/bin/env python3
"""The leader is stopped as planned under load: it exits with 0, another one leads, and no request fails: clients of
other nodes notice nothing, its own lose their connections only."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster  # noqa: E402
from lib.load import lose_leaders  # noqa: E402

with Cluster(3) as cluster:
    print("stopped leader: time without service: " +
          lose_leaders(cluster, int(os.environ.get("KONTIKI_ROUNDS", "5")), lambda node: node.stop()))
