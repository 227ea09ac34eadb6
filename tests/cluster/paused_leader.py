#!/usr/bin/env python3
"""A leader that was stopped (SIGSTOP) while another one took over serves nothing stale when it goes on: neither to a
read that waited in its socket, nor to one that comes right after, nor to a write."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster  # noqa: E402
from lib.load import register  # noqa: E402

ROUNDS = int(os.environ.get("KONTIKI_ROUNDS", "5"))


def main():
    with Cluster(3) as cluster:
        register(cluster.leader())
        with cluster.nodes[0].rcp() as client:
            client.call("CREATE_INSTANCE", {"machine": "counter", "version": 1, "instance_id": "c"})
        for number in range(1, ROUNDS + 1):
            leader = cluster.leader()
            other = cluster.nodes[leader.id % 3]
            before, after, keys = leader.rcp(), leader.rcp(), leader.kv()
            # While it still leads and knows it: caches and leases, if there were any, are warm now.
            before.call("GET_INSTANCE", {"instance_id": "c"})
            keys.get("c")
            leader.pause()
            waiting = before.send("GET_INSTANCE", {"instance_id": "c"})
            keys.send_bytes(kv.frame(kv.body(kv.GET, kv.short("c"), keys.database, keys.collection)))
            cluster.leader()
            with other.rcp() as client, other.kv() as writer:
                offset = client.call("APPLY_EVENT", {"instance_id": "c", "event": "COUNT",
                                                     "payload": {"n": number}})["wal_offset"]
                writer.set("c", kv.string(str(number)))
            leader.resume()
            right_after = after.call("GET_INSTANCE", {"instance_id": "c"})
            assert right_after["ctx"]["n"] == number, (right_after, number)
            waited = before.answer(waiting)
            # It was sent before the write, so the value before is right as well; anything older is not.
            assert waited["ctx"].get("n", 0) in (number - 1, number), (waited, number)
            assert keys.answer() in (kv.string(str(number)), kv.string(str(number - 1)))
            assert keys.get("c") == kv.string(str(number))
            # And a write through it continues what the others wrote.
            refused = after.refusal("APPLY_EVENT", {"instance_id": "c", "event": "COUNT", "payload": {"n": -1},
                                                    "expected_wal_offset": offset - 1})
            assert refused.code == "CONFLICT", refused
            for client in (before, after, keys):
                client.close()
            cluster.wait_caught_up()
        print("%d rounds, nothing stale" % ROUNDS)


main()
