#!/usr/bin/env python3
"""One node under valgrind: a short conversation over every protocol and a planned stop, without an error or a leak."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import kv  # noqa: E402
from lib.cluster import Cluster  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}


def converse(node, number):
    with node.rcp() as client:
        client.call("PUT_MACHINE", {"machine": "door", "version": 1, "definition": DOOR})
        client.call("CREATE_INSTANCE", {"machine": "door", "version": 1, "instance_id": "d%d" % number})
        client.call("APPLY_EVENT", {"instance_id": "d%d" % number, "event": "OPEN", "payload": {"n": [1, 2.5, "x"]}})
        assert client.refusal("APPLY_EVENT", {"instance_id": "none", "event": "OPEN"}).code == "INSTANCE_NOT_FOUND"
        client.call("LIST_INSTANCES")
        client.call("INFO")
    with node.kv() as client:
        client.set("k", kv.string("v%d" % number))
        assert client.get("k") == kv.string("v%d" % number)
        client.set_ttl("t", kv.string("x"), 100)
        assert client.get("none") is None
    with node.rcp(hello=False) as client:
        client.send_bytes(b"no frame")
        client.receive()
    assert node.http("/metrics")[0] == 200 and node.http("/status")[0] == 200


def main():
    os.environ["KONTIKI_KONTIKID"] = os.path.abspath(sys.argv[1])
    wrapper = ["valgrind", "--quiet", "--error-exitcode=1", "--leak-check=full",
               "--errors-for-leak-kinds=definite,possible",
               "--suppressions=" + os.path.join(os.path.dirname(os.path.abspath(__file__)), "valgrind.suppressions")]
    # An election takes longer here than anywhere else.
    settings = {"storage.map_size_gb": 1, "cluster.election_ms": 2000, "cluster.heartbeat_ms": 200}
    with Cluster(1, settings=settings, wrapper=wrapper) as cluster:
        node = cluster.nodes[0]
        converse(node, 1)
        node.stop()
        node.start()
        converse(node, 2)
        node.stop()
        with open(node.log_path, encoding="utf-8") as file:
            text = file.read()
        assert "==" not in text, text
    print("no error, no leak")


main()
