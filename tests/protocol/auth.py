#!/usr/bin/env python3
"""Required authentication: what works without, with a wrong and with a right token or login; and refused starts."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, free_ports, program  # noqa: E402
from lib.run import run  # noqa: E402

TOKEN = "my-secret-token"
CONFIG = """
auth:
  required: true
  token_hashes: [EA5ADD57437CBF20AF59034D7ED17968DCC56767B41965FCC5B376D45DB8B4A3]
  users:
    - {name: reader, api_key: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", role: read}
"""


def rcp__without_token__only_session_operations(node):
    with node.rcp(hello=False) as client:
        hello = client.call("HELLO", {"protocol_version": 1})
        assert hello["auth_required"] is True, hello
        assert client.call("PING") == {"pong": True}
        for op in ("INFO", "LIST_MACHINES", "GET_INSTANCE", "WATCH_ALL", "WATCH_INSTANCE", "APPLY_EVENT"):
            refused = client.refusal(op, {"instance_id": "x"})
            assert refused.code == "UNAUTHORIZED" and not refused.retryable, (op, refused)
        for token in ("wrong", "", TOKEN + " "):
            assert client.refusal("AUTH", {"token": token}).code == "AUTH_FAILED", token
        assert client.refusal("LIST_MACHINES").code == "UNAUTHORIZED"
        assert client.call("AUTH", {"token": TOKEN})["permissions"] == ["read", "write", "admin"]
        client.call("LIST_MACHINES")
        assert client.refusal("AUTH", {"token": "wrong"}).code == "AUTH_FAILED"
        client.call("LIST_MACHINES")


def rcp__before_hello__auth_is_refused(node):
    with node.rcp(hello=False) as client:
        assert client.refusal("AUTH", {"token": TOKEN}).code == "BAD_REQUEST"


def kv__without_login_and_as_reader__only_what_is_allowed(node):
    with node.kv() as client:
        assert client.ping() == b"pong"
        assert client.refusal(kv.AUTH_STATUS).status == kv.UNAUTHORIZED
        for command in (kv.GET, kv.SET, kv.SET_TTL):
            assert client.refusal(command, b"").status == kv.UNAUTHORIZED, command
        assert client.refusal(9999).status == kv.UNKNOWN_COMMAND
        client.login_key("hello")
        client.call(kv.AUTH_STATUS)
        assert client.get("k") is None
        refused = client.refusal(kv.SET, kv.short("k") + b"\x00")
        assert refused.status == kv.UNAUTHORIZED, refused


def start__open_listener_without_authentication__is_refused(node):
    del node
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([program(), "--set", "network.bind_addr=0.0.0.0:0", "--set",
                                 "storage.data_dir=" + folder], capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 1 and "auth.insecure" in result.stderr, result


def start__required_without_any_credentials__is_refused(node):
    del node
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([program(), "--set", "auth.required=true", "--set", "storage.data_dir=" + folder],
                                capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 1 and "cannot start" in result.stderr, result


def start__folder_in_use__is_refused(node):
    result = subprocess.run([program(), "--set", "storage.data_dir=%s/data" % node.folder],
                            capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1 and "in use by process %d" % node.process.pid in result.stderr, result


def start__port_in_use__is_refused(node):
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([program(), "--set", "network.bind_addr=127.0.0.1:%d" % node.rcp_port, "--set",
                                 "storage.data_dir=" + folder,
                                 "--set", "cluster.members=1@127.0.0.1:%d" % free_ports(1)[0],
                                 "--set", "admin.address=off", "--set", "listen.kv.address=off"],
                                capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 1 and "cannot start" in result.stderr, result


def log__after_all_this__holds_no_secret(node):
    with open(node.log_path, encoding="utf-8") as file:
        text = file.read()
    assert TOKEN not in text and "2cf24d" not in text, text


if __name__ == "__main__":
    with Cluster(1, config=CONFIG) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
