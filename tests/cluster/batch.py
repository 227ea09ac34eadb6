#!/usr/bin/env python3
"""Batches and idempotency keys across nodes, fail-over and restart. Atomic batches are sent by several clients, each
with a key of its own, and sent again to another node whenever the answer is lost, while the leader is killed
KONTIKI_ROUNDS times: each took effect exactly once, as a whole. The answers that were given are given again, word for
word, by every node, after fail-over, and after all nodes were killed and started again."""
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402

ROUNDS = int(os.environ.get("KONTIKI_ROUNDS", "3"))
CLIENTS = 4
MACHINE = {"states": ["made", "done"], "initial": "made",
           "transitions": [{"from": "made", "event": "FINISH", "to": "done", "guard": "ctx.ready"}]}


def batch(number, key):
    """Two instances whose ids the server makes, one of a given name, and its event; the last item has its own key."""
    name = "named-" + key
    create = {"machine": "job", "version": 1, "initial_ctx": {"ready": number % 10 != 0}}
    return {"mode": "atomic", "idempotency_key": key, "ops": [
        {"op": "CREATE_INSTANCE", "params": create},
        {"op": "CREATE_INSTANCE", "params": create},
        {"op": "CREATE_INSTANCE", "params": {**create, "instance_id": name}},
        {"op": "APPLY_EVENT", "params": {"instance_id": name, "event": "FINISH", "idempotency_key": "item-" + key}},
    ]}


class Sender(threading.Thread):
    def __init__(self, cluster, number):
        super().__init__(daemon=True)
        self.cluster, self.number = cluster, number
        self.answers, self.refused, self.sent, self.repeats = {}, 0, 0, 0
        self.done, self.failure, self.client = threading.Event(), None, None

    def run(self):
        try:
            while not self.done.is_set():
                self.send_one()
        except BaseException as failure:  # pylint: disable=broad-except
            self.failure = failure

    def connect(self):
        if self.client is None:
            # At first every node has a client, so that whoever leads is missed when it is killed.
            node = random.choice(self.cluster.running()) if self.sent else self.cluster.nodes[self.number % 3]
            self.client = node.rcp(timeout=10)
        return self.client

    def send_one(self):
        key = "%d-%d" % (self.number, self.sent)
        params = batch(self.sent, key)
        while True:
            try:
                self.answers[key] = self.connect().call("BATCH", params)
                assert self.sent % 10 != 0, "a guard that fails lets nothing of its batch happen"
                break
            except rcp.Lost:
                self.client = None
                self.repeats += 1
            except rcp.Refused as refused:
                if refused.retryable:
                    self.repeats += 1
                    continue
                assert refused.code == "BAD_REQUEST" and self.sent % 10 == 0, refused
                assert refused.details["index"] == 3 and refused.details["code"] == "GUARD_FAILED", refused.details
                self.refused += 1
                break
        self.sent += 1


def verify(node, senders):
    """Every answered batch is there once; its answer comes again; refused ones left nothing."""
    answered = sum(len(sender.answers) for sender in senders)
    with node.rcp() as client:
        listed = client.call("LIST_INSTANCES", {"machine": "job", "limit": 0})
        assert listed["total"] == 3 * answered, "%d instances of %d batches" % (listed["total"], answered)
        done = client.call("LIST_INSTANCES", {"machine": "job", "state": "done", "limit": 0})
        assert done["total"] == answered, done
        for sender in senders:
            for key in random.sample(sorted(sender.answers), min(20, len(sender.answers))):
                number = int(key.split("-")[1])
                assert client.call("BATCH", batch(number, key)) == sender.answers[key], key
                again = client.call("APPLY_EVENT", {"instance_id": "named-" + key, "event": "FINISH",
                                                    "idempotency_key": "item-" + key})
                assert again == sender.answers[key]["results"][3]["result"], key
        listed = client.call("LIST_INSTANCES", {"machine": "job", "limit": 0})
        assert listed["total"] == 3 * answered, "repetitions made instances: %r" % listed
    return answered


def main():
    with Cluster(3) as cluster:
        with cluster.leader().rcp() as client:
            client.call("PUT_MACHINE", {"machine": "job", "version": 1, "definition": MACHINE})
        senders = [Sender(cluster, number) for number in range(CLIENTS)]
        for sender in senders:
            sender.start()

        def progress(least):
            failed = [sender.failure for sender in senders if sender.failure]
            assert not failed, failed
            return all(len(sender.answers) >= least for sender in senders)

        for number in range(ROUNDS):
            least = min(len(sender.answers) for sender in senders) + 30
            wait_until(lambda: progress(least), "batches are answered")
            leader = cluster.leader()
            leader.kill()
            wait_until(lambda: progress(least + 30), "batches are answered after the leader is gone")
            leader.start()
            print("round %d: node %d killed" % (number + 1, leader.id), flush=True)
        for sender in senders:
            sender.done.set()
        for sender in senders:
            sender.join(60)
            assert not sender.is_alive() and sender.failure is None, sender.failure
        cluster.wait_caught_up()
        for node in cluster.nodes:
            answered = verify(node, senders)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start(wait=False)
        for node in cluster.nodes:
            node.wait_ready()
        verify(random.choice(cluster.nodes), senders)
        print("%d batches answered, %d refused as they must be, %d sent again" % (
            answered, sum(sender.refused for sender in senders), sum(sender.repeats for sender in senders)))
        assert sum(sender.repeats for sender in senders) > 0, "nothing was ever sent again: this shows nothing"


main()
