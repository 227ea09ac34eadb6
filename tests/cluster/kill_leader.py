#!/usr/bin/env python3
"""The leader is killed (SIGKILL) under load, KONTIKI_ROUNDS times: no acknowledged write is lost, none is applied
twice, and no client sees an error: those of other nodes not even a lost connection."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster  # noqa: E402
from lib.load import lose_leaders  # noqa: E402

with Cluster(3) as cluster:
    print("killed leader: time without service: " +
          lose_leaders(cluster, int(os.environ.get("KONTIKI_ROUNDS", "5")), lambda node: node.kill()))
