#!/usr/bin/env python3
"""Timers fire once, about when they are due: without trouble within a quarter of a second, and exactly once also when
the leader is killed (SIGKILL) while they wait, or all nodes are and start again after they were due."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, wait_until  # noqa: E402

COUNT = 300
MACHINE = {"states": ["idle", "waiting", "late"], "initial": "idle", "transitions": [
    {"from": "idle", "event": "START", "to": "waiting"},
    {"from": "waiting", "event": "TIMEOUT", "to": "late", "after_ctx": "due"},
    {"from": "waiting", "event": "CANCEL", "to": "idle"},
]}


def batches(client, ops):
    for at in range(0, len(ops), 100):
        for result in client.call("BATCH", {"ops": ops[at:at + 100]})["results"]:
            assert result["status"] == "ok", result


def start(client, prefix, due):
    """Instances that wait, every tenth cancelled again. Their names."""
    names = ["%s-%d" % (prefix, number) for number in range(COUNT)]
    batches(client, [{"op": "CREATE_INSTANCE", "params": {"machine": "task", "version": 1, "instance_id": name,
                                                          "initial_ctx": {"due": due(number)}}}
                     for number, name in enumerate(names)])
    batches(client, [{"op": "APPLY_EVENT", "params": {"instance_id": name, "event": "START"}} for name in names])
    instance = client.call("GET_INSTANCE", {"instance_id": names[-1]})
    assert [timer["event"] for timer in instance["timers"]] == ["TIMEOUT"], instance
    batches(client, [{"op": "APPLY_EVENT", "params": {"instance_id": name, "event": "CANCEL"}} for name in names[::10]])
    return names


def now_ms():
    return int(time.time() * 1000)


def wait_fired(cluster, names):
    def fired():
        with cluster.leader().rcp() as client:
            listed = client.call("LIST_INSTANCES", {"machine": "task", "state": "waiting", "limit": 0})
            return listed["total"] == 0
    wait_until(fired, "all timers fired")
    return check(cluster.leader(), names)


def check(node, names):
    """Of each instance its one TIMEOUT, none of the cancelled ones; how late they were, in ms, sorted."""
    known, found, lateness, offset = set(names), {}, [], 0
    wanted = known - set(names[::10])
    with node.rcp() as client:
        while True:
            page = client.call("WAL_READ", {"from_offset": offset, "limit": 10000})
            if not page["records"]:
                break
            for record in page["records"]:
                entry = record["entry"]
                if (entry["type"], entry.get("event")) == ("apply_event", "TIMEOUT") and entry["instance_id"] in known:
                    found[entry["instance_id"]] = found.get(entry["instance_id"], 0) + 1
                    lateness.append(entry["timestamp"] - entry["ctx"]["due"])
            offset = page["next_offset"]
    assert set(found) == wanted, "%d fired, %d should have" % (len(found), len(wanted))
    assert all(count == 1 for count in found.values()), "fired twice: %r" % [n for n in found if found[n] > 1]
    assert min(lateness) >= 0, "fired before its time: %r" % min(lateness)
    return sorted(lateness)


def show(what, lateness):
    print("%s: %d timers, late by median %d ms, at most %d ms" % (
        what, len(lateness), lateness[len(lateness) // 2], lateness[-1]), flush=True)


def main():
    with Cluster(3) as cluster:
        with cluster.leader().rcp() as client:
            client.call("PUT_MACHINE", {"machine": "task", "version": 1, "definition": MACHINE})
            base = now_ms() + 2000
            names = start(client, "calm", lambda number: base + 5 * number)
        lateness = wait_fired(cluster, names)
        show("nothing happens", lateness)
        assert lateness[len(lateness) // 2] < 250, "half of them were later than a quarter of a second"

        leader = cluster.leader()
        with leader.rcp() as client:
            base = now_ms() + 1500
            names = start(client, "killed", lambda number: base + 5 * number)
        wait_until(lambda: now_ms() > base + 500, "some of the timers are due")
        leader.kill()
        show("leader killed", wait_fired(cluster, names))
        leader.start()

        with cluster.leader().rcp() as client:
            base = now_ms() + 1500
            names = start(client, "all", lambda number: base + 5 * number)
        for node in cluster.nodes:
            node.kill()
        wait_until(lambda: now_ms() > base + 5 * COUNT, "all timers are due")
        for node in cluster.nodes:
            node.start(wait=False)
        for node in cluster.nodes:
            node.wait_ready()
        show("all nodes down when they were due", wait_fired(cluster, names))
        cluster.wait_caught_up()
        for node in cluster.nodes:
            check(node, names)


main()
