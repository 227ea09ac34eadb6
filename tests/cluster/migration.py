#!/usr/bin/env python3
"""Instances move to another version while they are used and the leader is killed (SIGKILL); and back again. Nothing is
lost or moved twice: what comes back is what was, but for the instances that were used meanwhile."""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402

COUNT = int(os.environ.get("KONTIKI_INSTANCES", "5000"))
V1 = {"states": ["open", "held", "done"], "initial": "open", "transitions": [
    {"from": "open", "event": "HOLD", "to": "held"}, {"from": "open", "event": "TOUCH", "to": "open"}]}
V2 = {"states": ["active", "done"], "initial": "active",
      "transitions": [{"from": "active", "event": "TOUCH", "to": "active"}]}
MAPPING = {"machine": "ticket", "from_version": 1, "to_version": 2, "states": {"open": "active"},
           "ctx_defaults": {"team": "first"}, "ctx_renames": {"n": "number"}}


def call(cluster, op, params):
    """At any node, again when the answer is lost: everything that is sent here may come twice."""
    def answer():
        try:
            with cluster.running()[0].rcp(timeout=10) as client:
                return client.call(op, params)
        except rcp.Lost:
            return None
        except rcp.Refused as refused:
            if refused.retryable:
                return None
            raise
    return wait_until(answer, op)


def states(cluster):
    """Of every instance its version, state and context."""
    found = {}
    with cluster.leader().rcp() as client:
        names = ["t-%d" % number for number in range(COUNT)]
        for at in range(0, COUNT, 100):
            ops = [{"op": "GET_INSTANCE", "params": {"instance_id": name}} for name in names[at:at + 100]]
            for name, result in zip(names[at:], client.call("BATCH", {"ops": ops})["results"]):
                instance = result["result"]
                found[name] = (instance["version"], instance["state"], instance["ctx"])
    return found


def wait_phase(cluster, migration, phase):
    def reached():
        found = call(cluster, "GET_MIGRATION", {"migration_id": migration, "limit": 0})
        return found if found["phase"] == phase else None
    return wait_until(reached, "the migration is %s" % phase)


class User(threading.Thread):
    """Sends an event to some instances again and again, whatever version they have."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.done, self.failure, self.count = cluster, threading.Event(), None, 0

    def run(self):
        try:
            while not self.done.is_set():
                call(self.cluster, "APPLY_EVENT", {"instance_id": "t-%d" % (10 * (self.count % 50) + 1),
                                                   "event": "TOUCH", "payload": {"touched": self.count}})
                self.count += 1
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure


def main():
    with Cluster(3) as cluster:
        with cluster.leader().rcp() as client:
            for version, definition in ((1, V1), (2, V2)):
                client.call("PUT_MACHINE", {"machine": "ticket", "version": version, "definition": definition})
            for at in range(0, COUNT, 100):
                client.call("BATCH", {"mode": "atomic", "ops": [
                    {"op": "CREATE_INSTANCE", "params": {"machine": "ticket", "version": 1,
                                                         "instance_id": "t-%d" % number, "initial_ctx": {"n": number}}}
                    for number in range(at, at + 100)]})
            for number in range(0, COUNT, 100):
                client.call("APPLY_EVENT", {"instance_id": "t-%d" % number, "event": "HOLD"})
            tried = client.call("MIGRATE_INSTANCES", {**MAPPING, "dry_run": True, "limit": 1000})
            held = COUNT // 100
            assert (tried["moved"], tried["left"], tried["has_more"]) == (COUNT - held, held, False), tried
            assert {entry["instance_id"] for entry in tried["instances"]} == {
                "t-%d" % number for number in range(0, COUNT, 100)}
        before = states(cluster)
        user = User(cluster)
        user.start()
        wait_until(lambda: user.count > 20, "events")

        migration = call(cluster, "MIGRATE_INSTANCES", {**MAPPING, "idempotency_key": "once"})["migration_id"]
        leader = cluster.leader()

        def moved():
            return call(cluster, "GET_MIGRATION", {"migration_id": migration, "limit": 0})["moved"]
        wait_until(lambda: moved() > COUNT // 10, "a part has moved")
        leader.kill()
        assert call(cluster, "MIGRATE_INSTANCES", {**MAPPING, "idempotency_key": "once"})["migration_id"] == migration
        found = wait_phase(cluster, migration, "moved")
        assert (found["moved"], found["left"]) == (COUNT - held, held), found
        leader.start()
        after = states(cluster)
        for name, (version, state, ctx) in before.items():
            number = int(name[2:])
            if number % 100 == 0:
                assert after[name] == (version, state, ctx), after[name]
                continue
            assert after[name][:2] == (2, "active"), (name, after[name])
            ctx_now = {key: value for key, value in after[name][2].items() if key != "touched"}
            assert ctx_now == {"number": number, "team": "first"}, (name, after[name])
        print("%d moved, %d left, %d events meanwhile" % (found["moved"], found["left"], user.count), flush=True)

        touched = user.count
        wait_until(lambda: user.count > touched + 50, "every used instance is used once more")
        user.done.set()
        user.join(30)
        assert user.failure is None, user.failure
        call(cluster, "UNDO_MIGRATION", {"migration_id": migration})
        leader = cluster.leader()
        leader.kill()
        found = wait_phase(cluster, migration, "undone")
        assert found["restored"] == COUNT - held - 50, found
        leader.start()
        cluster.wait_caught_up()
        after = states(cluster)
        changed = {"t-%d" % (10 * number + 1) for number in range(50)}
        for name, was in before.items():
            if name in changed:
                assert after[name][0] == 2, after[name]
            else:
                assert after[name] == was, (name, was, after[name])
        print("%d moved back, %d used meanwhile" % (found["restored"], len(changed)))


main()
