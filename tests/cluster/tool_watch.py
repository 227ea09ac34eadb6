#!/usr/bin/env python3
"""kontiki watch-all while the node that it watches at is killed, twice: each event is printed once, in order."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, program, wait_until  # noqa: E402

MACHINE = {"states": ["on"], "initial": "on", "transitions": [{"from": "on", "event": "COUNT", "to": "on"},
                                                             {"from": "on", "event": "OTHER", "to": "on"}]}
EVENTS = 300


class Watch:
    """The tool, its lines gathered by threads."""

    def __init__(self, cluster, *words):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("KONTIKI_", "RSTMDB_"))}
        endpoints = ",".join("127.0.0.1:%d" % node.rcp_port for node in cluster.nodes)
        self.process = subprocess.Popen([program("kontiki"), *words, "--endpoint", endpoints], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        self.events, self.notes = [], []
        self.readers = [threading.Thread(target=self.gather, args=pair, daemon=True) for pair in
                        ((self.process.stdout, self.events), (self.process.stderr, self.notes))]
        for reader in self.readers:
            reader.start()
        wait_until(lambda: self.notes, "the tool watches")

    @staticmethod
    def gather(stream, into):
        for line in stream:
            into.append(line)

    def port(self):
        """Of the node that is watched at now."""
        return int(self.notes[-1].split("127.0.0.1:")[1].split()[0].rstrip(":"))

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        code = self.process.wait(60)
        for reader in self.readers:
            reader.join(60)
        assert code == 0, (code, self.notes)


def apply(cluster, instance, event, number):
    """Through whatever node answers; a repetition is recognised by its key."""
    while True:
        for node in cluster.running():
            try:
                with node.rcp(timeout=10.0) as client:
                    client.call("APPLY_EVENT", {"instance_id": instance, "event": event, "payload": {"n": number},
                                                "idempotency_key": "%s-%d" % (event, number)})
                return
            except (rcp.Lost, rcp.Refused) as error:
                assert isinstance(error, rcp.Lost) or error.retryable, error


def main():
    with tempfile.TemporaryDirectory(), Cluster(3) as cluster:
        with cluster.leader().rcp() as client:
            client.call("PUT_MACHINE", {"machine": "m", "version": 1, "definition": MACHINE})
            for instance in ("a", "b"):
                client.call("CREATE_INSTANCE", {"machine": "m", "version": 1, "instance_id": instance})
        everything = Watch(cluster, "watch-all", "--events", "COUNT,NONE", "--machines", "m", "--no-ctx")
        one = Watch(cluster, "watch-instance", "b")
        for number in range(EVENTS):
            if number in (EVENTS // 3, 2 * EVENTS // 3):
                port = everything.port()
                node = next(node for node in cluster.nodes if node.rcp_port == port)
                cluster.leader()
                node.kill()
                killed = node
            if number == EVENTS // 2:
                killed.start()
            apply(cluster, "b" if number % 3 == 0 else "a", "COUNT", number)
            if number % 50 == 0:
                apply(cluster, "a", "OTHER", number)
        wait_until(lambda: len(everything.events) >= EVENTS, "all events are printed")
        wait_until(lambda: len(one.events) >= EVENTS // 3, "the instance's events are printed")
        everything.stop()
        one.stop(signal.SIGTERM)
        shown = [json.loads(line) for line in everything.events]
        assert [event["payload"]["n"] for event in shown] == list(range(EVENTS)), len(shown)
        assert all("ctx" not in event and event["event"] == "COUNT" for event in shown)
        offsets = [event["wal_offset"] for event in shown]
        assert offsets == sorted(set(offsets))
        shown = [json.loads(line) for line in one.events]
        assert [event["payload"]["n"] for event in shown] == list(range(0, EVENTS, 3)), len(shown)
        assert all(event["instance_id"] == "b" and "ctx" in event for event in shown)
        moves = len([note for note in everything.notes if note.endswith(" now\n")])
        assert moves >= 2, everything.notes
        print("%d events printed once and in order, over %d changes of node: nothing lost" % (EVENTS, moves))


if __name__ == "__main__":
    main()
