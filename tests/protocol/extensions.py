#!/usr/bin/env python3
"""Batches, and what goes beyond the original protocol: explanations, timers, migrations. Against a real node."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open", "guard": "ctx.key"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}


def put(client, name, definition, version=1):
    return client.call("PUT_MACHINE", {"machine": name, "version": version, "definition": definition})


def create(name, machine="door", ctx=None):
    return {"op": "CREATE_INSTANCE", "params": {"machine": machine, "version": 1, "instance_id": name,
                                                "initial_ctx": ctx or {}}}


def event(name, what):
    return {"op": "APPLY_EVENT", "params": {"instance_id": name, "event": what}}


def batch__best_effort__results_in_order_with_both_members(node):
    with node.rcp() as client:
        put(client, "door", DOOR)
        result = client.call("BATCH", {"ops": [create("b1"), event("b1", "OPEN"), {"op": "GET_INSTANCE"},
                                               {"op": "GET_INSTANCE", "params": {"instance_id": "b1"}}]})
        made, failed, wrong, got = result["results"]
        assert made == {"status": "ok", "error": None,
                        "result": {"instance_id": "b1", "state": "shut", "wal_offset": result["wal_offset"]}}, made
        assert failed["status"] == "error" and failed["result"] is None, failed
        assert failed["error"]["code"] == "GUARD_FAILED" and failed["error"]["retryable"] is False, failed
        assert failed["error"]["details"] == {"guard": "ctx.key"}, failed
        assert wrong["error"]["code"] == "BAD_REQUEST" and "instance_id" in wrong["error"]["message"], wrong
        assert got["result"]["last_wal_offset"] == result["wal_offset"], got
        assert client.meta["wal_offset"] == result["wal_offset"], client.meta


def batch__atomic_fails__no_trace_and_no_event(node):
    with node.rcp() as client, node.rcp() as watcher:
        put(client, "door", DOOR)
        watcher.call("WATCH_ALL", {"machines": ["door"]})
        before = client.call("WAL_STATS")["entry_count"]
        refused = client.refusal("BATCH", {"mode": "atomic", "ops": [
            create("a1", ctx={"key": True}), event("a1", "OPEN"), event("a1", "OPEN")]})
        assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        assert refused.details["index"] == 2 and refused.details["code"] == "INVALID_TRANSITION", refused.details
        assert client.refusal("GET_INSTANCE", {"instance_id": "a1"}).code == "INSTANCE_NOT_FOUND"
        assert client.call("WAL_STATS")["entry_count"] == before
        result = client.call("BATCH", {"mode": "atomic", "ops": [
            create("a1", ctx={"key": True}), event("a1", "OPEN"), event("a1", "CLOSE")]})
        first, second = watcher.events(2)
        assert [message["event"] for message in (first, second)] == ["OPEN", "CLOSE"], (first, second)
        assert first["wal_offset"] == second["wal_offset"] == result["wal_offset"], (first, second)


def batch__limits__as_the_original(node):
    with node.rcp() as client:
        put(client, "door", DOOR)
        result = client.call("BATCH", {"ops": [create("l-%d" % number) for number in range(100)]})
        assert all(item["status"] == "ok" for item in result["results"]) and len(result["results"]) == 100
        refused = client.refusal("BATCH", {"ops": [create("m-%d" % number) for number in range(101)]})
        assert refused.code == "BAD_REQUEST" and refused.message == "batch size 101 exceeds limit 100", refused
        assert client.refusal("GET_INSTANCE", {"instance_id": "m-0"}).code == "INSTANCE_NOT_FOUND"
        assert client.call("BATCH", {"ops": []})["results"] == []
        for op in ("HELLO", "AUTH", "BYE", "BATCH", "WATCH_ALL", "WATCH_INSTANCE", "UNWATCH", "COMPACT", "FLUSH_ALL",
                   "NO_SUCH", "MIGRATE_INSTANCES", "EXPLAIN_EVENT"):
            assert client.refusal("BATCH", {"ops": [{"op": op}]}).code == "BAD_REQUEST", op


def definition__refused__tells_where(node):
    wrong = {**DOOR, "transitions": DOOR["transitions"] + [{"from": "open", "event": "SLAM", "to": "broken"}]}
    with node.rcp() as client:
        refused = client.refusal("PUT_MACHINE", {"machine": "wrong", "version": 1, "definition": wrong})
        assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        assert refused.message.startswith("invalid machine definition: transition target 'broken' not in states list")
        assert refused.details == {"transition": 2, "event": "SLAM", "field": "to", "state": "broken"}, refused.details


def explain__event__told_and_not_applied(node):
    with node.rcp() as client:
        put(client, "door", DOOR)
        client.call("BATCH", {"ops": [create("e1", ctx={"key": 0})]})
        told = client.call("EXPLAIN_EVENT", {"instance_id": "e1", "event": "OPEN", "payload": {"key": 1}})
        assert told["outcome"] == "GUARD_FAILED" and told["events"] == ["OPEN"], told
        assert told["transitions"] == [{"transition": 0, "to": "open", "guard": "ctx.key", "result": "guard_failed",
                                        "fields": [{"field": "key", "value": 0}]}], told
        client.call("EXPLAIN_EVENT", {"instance_id": "e1", "event": "OPEN", "consistency": "stale"})
        assert client.call("GET_INSTANCE", {"instance_id": "e1"})["ctx"] == {"key": 0}


def timer__due__seen_like_any_event(node):
    with node.rcp() as client, node.rcp() as watcher:
        put(client, "egg", {"states": ["raw", "soft", "hard"], "initial": "raw", "transitions": [
            {"from": "raw", "event": "COOKED", "to": "soft", "after_ms": 300},
            {"from": "soft", "event": "COOKED", "to": "hard", "after_ctx": "hard_at"}]})
        watcher.call("WATCH_ALL", {"machines": ["egg"]})
        hard_at = int(time.time() * 1000) + 700
        made = client.call("BATCH", {"ops": [create("egg-1", "egg", {"hard_at": hard_at})]})
        instance = client.call("GET_INSTANCE", {"instance_id": "egg-1"})
        assert instance["timers"] == [{"event": "COOKED", "due": instance["created_at"] + 300}], instance
        soft, hard = watcher.events(2)
        assert (soft["to_state"], soft["payload"], hard["to_state"]) == ("soft", None, "hard"), (soft, hard)
        assert made["wal_offset"] < soft["wal_offset"] < hard["wal_offset"], (soft, hard)
        instance = client.call("GET_INSTANCE", {"instance_id": "egg-1"})
        assert instance["state"] == "hard" and "timers" not in instance, instance
        assert 0 <= instance["updated_at"] - hard_at < 1000, instance


def migration__and_back__as_documented(node):
    v2 = {"states": ["closed", "open"], "initial": "closed", "transitions": []}
    mapping = {"machine": "gate", "from_version": 1, "to_version": 2, "states": {"shut": "closed"},
               "ctx_defaults": {"colour": "red"}}
    with node.rcp() as client:
        put(client, "gate", DOOR)
        put(client, "gate", v2, 2)
        client.call("BATCH", {"ops": [create("g-%d" % number, "gate") for number in range(100)]})
        tried = client.call("MIGRATE_INSTANCES", {**mapping, "dry_run": True})
        assert (tried["moved"], tried["left"], tried["instances"]) == (100, 0, []), tried
        migration = client.call("MIGRATE_INSTANCES", mapping)["migration_id"]

        def phase(wanted):
            return client.call("GET_MIGRATION", {"migration_id": migration})["phase"] == wanted
        wait_until(lambda: phase("moved"), "moved")
        instance = client.call("GET_INSTANCE", {"instance_id": "g-99"})
        assert (instance["version"], instance["state"], instance["ctx"]) == (2, "closed", {"colour": "red"}), instance
        client.call("UNDO_MIGRATION", {"migration_id": migration})
        wait_until(lambda: phase("undone"), "undone")
        instance = client.call("GET_INSTANCE", {"instance_id": "g-99"})
        assert (instance["version"], instance["state"], instance["ctx"]) == (1, "shut", {}), instance
        listed = client.call("LIST_MIGRATIONS", {"machine": "gate"})["migrations"]
        assert [entry["migration_id"] for entry in listed] == [migration], listed
        assert client.refusal("CONFIRM_MIGRATION", {"migration_id": migration}).code == "CONFLICT"
        assert client.refusal("GET_MIGRATION", {"migration_id": 1}).code == "NOT_FOUND"


if __name__ == "__main__":
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
