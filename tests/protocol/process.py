#!/usr/bin/env python3
"""kontikid as a process: its command line, signals, exit codes, and what a planned stop does to requests under way."""
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, free_ports, program, wait_until  # noqa: E402
from lib.run import run  # noqa: E402


def start(*words, environment=None):
    return subprocess.run([program(), *words], capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, **(environment or {})})


def command_line__information__is_printed_with_exit_0():
    assert start("--version").stdout.startswith("kontikid ")
    assert "network.bind_addr" in start("--help").stdout
    printed = start("--print-config", "--set", "node.id=7", environment={"RSTMDB_DATA": "/somewhere"}).stdout
    assert "node.id: 7 # from the command line" in printed, printed
    assert 'storage.data_dir: "/somewhere" # from the environment' in printed, printed


def command_line__wrong__exit_2_and_settings_wrong_exit_1():
    for words, code in ((["--nonsense"], 2), (["--set"], 2), (["--config"], 2), (["--set", "x"], 1),
                        (["--set", "network.bind_adr=x"], 1), (["--config", "/nonexistent"], 1),
                        (["--set", "storage.fsync_policy=sometimes"], 1), (["--set", "storage.data_dir=/proc/x"], 1)):
        result = start(*words)
        assert result.returncode == code and result.stderr, (words, result)
    assert "did you mean network.bind_addr" in start("--set", "network.bind_adr=x").stderr


def data_folder__of_another_node__is_refused():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.stop()
        result = start("--set", "node.id=2", "--set", "storage.data_dir=%s/data" % node.folder)
        assert result.returncode == 1 and "belongs to another node" in result.stderr, result


def hangup__received__says_that_a_restart_is_needed():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        node.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "received SIGHUP" in node.log_end(), "the log says so")
        assert node.http("/healthz")[0] == 200


def stop__requests_under_way__are_all_answered():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as client:
            client.call("PUT_MACHINE", {"machine": "m", "version": 1, "definition": {
                "states": ["a"], "initial": "a", "transitions": []}})
            sent = [client.send("CREATE_INSTANCE", {"machine": "m", "version": 1}) for _ in range(200)]
            # All bytes are with the node: it has applied the first of them.
            assert client.answer(sent[0])["state"] == "a"
            node.process.send_signal(signal.SIGTERM)
            answered = 1
            try:
                for request in sent[1:]:
                    client.answer(request)
                    answered += 1
            except rcp.Lost:
                pass
            assert node.process.wait(60) == 0, node.log_end()
        node.process = None
        node.start()
        with node.rcp() as client:
            total = client.call("LIST_INSTANCES", {"limit": 1})["total"]
        assert total == answered, "%d were created, %d were acknowledged" % (total, answered)


class Lonely:
    """One node of three, whose others do not exist: whatever needs a majority stays under way."""

    def __init__(self, stop_timeout_ms):
        self.folder = tempfile.TemporaryDirectory()
        ports = free_ports(4)
        self.port = ports[3]
        settings = {"cluster.members": ",".join("%d@127.0.0.1:%d" % (i + 1, port) for i, port in enumerate(ports[:3])),
                    "node.stop_timeout_ms": stop_timeout_ms, "storage.data_dir": self.folder.name + "/data",
                    "network.bind_addr": "127.0.0.1:%d" % self.port, "listen.kv.address": "off",
                    "admin.address": "off", "limits.request_timeout_ms": 600000}
        self.log_path = self.folder.name + "/log.txt"
        with open(self.log_path, "wb") as log:
            words = sum((["--set", "%s=%s" % item] for item in settings.items()), [])
            self.process = subprocess.Popen([program(), *words], stderr=log)
        self.client = wait_until(self.connect, "the listener is open")
        self.request = self.client.send("GET_INSTANCE", {"instance_id": "x"})
        # Answered at once, so the request before it was taken.
        with rcp.Client(("127.0.0.1", self.port)) as other:
            other.call("PING")

    def connect(self):
        try:
            return rcp.Client(("127.0.0.1", self.port))
        except rcp.Lost:
            return None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def log(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def stop__no_majority__ends_in_time_and_the_request_is_told():
    with Lonely(stop_timeout_ms=500) as node:
        node.terminate()
        message = node.client.receive()
        assert message["id"] == node.request and message["error"]["retryable"] is True, message
        assert node.process.wait(60) == 0, node.log()


def second_signal__while_stopping__ends_at_once():
    with Lonely(stop_timeout_ms=600000) as node:
        node.terminate()
        wait_until(lambda: "1 requests under way" in node.log(), "the node is stopping")
        assert node.process.poll() is None
        node.terminate()
        assert node.process.wait(60) == 128 + signal.SIGTERM, node.log()


if __name__ == "__main__":
    run(sys.modules[__name__])
