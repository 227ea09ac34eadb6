#!/usr/bin/env python3
"""APPLY_EVENT on three nodes: 1, 64 and 1,000 on the way, each with a guard that is evaluated, and one subscriber on
every node that is sent every event. In the same run, in turn, the same without guard and subscribers.

    events.py [--seconds S] [--rounds N] [--profile DIR]

--profile: perf records the leader in the last round of each case, into DIR. KONTIKI_KONTIKID and KONTIKI_BENCH_EVENTS
name the programs, else the newest build.
"""
import argparse
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, program  # noqa: E402

CASES = (1, 64, 1000)


def definition(guard):
    transition = {"from": "on", "event": "TURN", "to": "on"}
    if guard:
        transition["guard"] = "ctx.limit > 10 && ctx.enabled"
    return {"states": ["on"], "initial": "on", "transitions": [transition]}


def prepare(node, guard):
    with node.rcp() as client:
        version = 2 if guard else 1
        client.call("PUT_MACHINE", {"machine": "turn", "version": version, "definition": definition(guard)})
        for number in range(max(CASES)):
            client.send("CREATE_INSTANCE", {"machine": "turn", "version": version, "instance_id": "i%d" % number,
                                            "initial_ctx": {"limit": 20, "enabled": True}})
            if number % 50 == 49:
                for _ in range(50):
                    assert client.receive()["status"] == "ok"


def forget(node):
    with node.rcp() as client:
        for number in range(max(CASES)):
            client.call("DELETE_INSTANCE", {"instance_id": "i%d" % number})


def measure(cluster, in_flight, seconds, watched):
    ports = [str(node.rcp_port) for node in [cluster.leader()] + cluster.followers()]
    command = [bench(), "--in-flight", str(in_flight), "--ms", str(round(seconds * 1000))]
    for port in ports if watched else []:
        command += ["--watch", port]
    rate, p50, p99, _ = subprocess.run(command + ports, check=True, stdout=subprocess.PIPE).stdout.split()
    return float(rate), float(p50) / 1000, float(p99) / 1000


def bench():
    return os.environ.get("KONTIKI_BENCH_EVENTS") or os.path.join(
        os.path.dirname(program()), "tests", "bench", "bench_events")


def profiled(cluster, path, call):
    perf = subprocess.Popen(["perf", "record", "-q", "-g", "-o", path, "-p", str(cluster.leader().process.pid)],
                            stderr=subprocess.DEVNULL)
    try:
        return call()
    finally:
        perf.terminate()
        perf.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile")
    options = parser.parse_args()
    results = {}
    with Cluster(3) as cluster:
        for guarded in (False, True):
            prepare(cluster.leader(), guarded)
            for number in range(options.rounds):
                for in_flight in CASES:
                    def call():
                        return measure(cluster, in_flight, options.seconds, guarded)
                    if options.profile and guarded and number == options.rounds - 1:
                        result = profiled(cluster, os.path.join(options.profile, "events-%d.perf" % in_flight), call)
                    else:
                        result = call()
                    results.setdefault((in_flight, guarded), []).append(result)
            forget(cluster.leader())
    print("| in flight | plain | guard and 3 subscribers | ratio | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for in_flight in CASES:
        plain, full = ([statistics.median(column) for column in zip(*results[in_flight, guarded])]
                       for guarded in (False, True))
        print("| %d | %.0f | %.0f | %.2f | %.2f | %.2f |" % (
            in_flight, plain[0], full[0], full[0] / plain[0], full[1], full[2]))


main()
