#!/usr/bin/env python3
"""What once broke the library's own log and transport, done to a cluster of real nodes.

Delay: 5 ms one way between the nodes; writes at a steady rate must be acknowledged after about one round trip, none
left waiting. Stopped follower: a follower is stopped with SIGSTOP while the leader takes many megabytes; the leader's
memory must not grow by what the follower does not take."""
import asyncio
import os
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, free_ports, wait_until  # noqa: E402

DELAY = 0.005
RATE = int(os.environ.get("KONTIKI_RATE", "200"))
SECONDS = float(os.environ.get("KONTIKI_SECONDS", "3"))
MEGABYTES = int(os.environ.get("KONTIKI_MEGABYTES", "192"))
CHUNK = 64 << 10


class DelayedPeers(threading.Thread):
    """A door before each node's peer port: what goes through it, in either direction, comes out DELAY later."""

    def __init__(self, doors):
        super().__init__(daemon=True)
        self.doors = doors  # port of the door -> port of the node
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()

    def run(self):
        asyncio.set_event_loop(self.loop)
        for door, node in self.doors.items():
            self.loop.run_until_complete(asyncio.start_server(
                lambda reader, writer, node=node: self.guest(reader, writer, node), "127.0.0.1", door))
        self.ready.set()
        self.loop.run_forever()

    async def guest(self, reader, writer, node):
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", node)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self.carry(reader, inner_writer), self.carry(inner_reader, writer))

    async def carry(self, reader, writer):
        queue = asyncio.Queue()

        async def deliver():
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0, due - self.loop.time()))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        delivery = asyncio.ensure_future(deliver())
        try:
            while True:
                data = await reader.read(CHUNK)
                queue.put_nowait((self.loop.time() + DELAY, data))
                if not data:
                    break
        except OSError:
            queue.put_nowait((self.loop.time(), b""))
        await delivery


def steady_writes(node, rate, seconds):
    """Latencies of writes that begin at fixed times, whether those before are answered or not."""
    latencies, sent = [], []
    with node.kv() as client:
        def answers():
            for _ in range(int(rate * seconds)):
                client.answer()
                latencies.append(time.monotonic() - sent[len(latencies)])
        reader = threading.Thread(target=answers)
        reader.start()
        began = time.monotonic()
        for i in range(int(rate * seconds)):
            time.sleep(max(0, began + i / rate - time.monotonic()))
            sent.append(time.monotonic())
            client.send_bytes(kv.frame(kv.body(kv.SET, kv.short("key-%d" % (i % 100)) + kv.string(str(i)),
                                               client.database, client.collection)))
        reader.join(30)
        assert len(latencies) == len(sent), "%d of %d writes were answered" % (len(latencies), len(sent))
    return latencies


def delay():
    doors, nodes = free_ports(3), free_ports(3)
    proxy = DelayedPeers(dict(zip(doors, nodes)))
    proxy.start()
    proxy.ready.wait()
    members = ",".join("%d@127.0.0.1:%d" % (i + 1, door) for i, door in enumerate(doors))
    cluster = Cluster(3, settings={"cluster.members": members})
    for node, port in zip(cluster.nodes, nodes):
        node.settings["cluster.listen"] = "127.0.0.1:%d" % port
    with cluster:
        steady_writes(cluster.leader(), RATE, 0.5)
        latencies = sorted(steady_writes(cluster.leader(), RATE, SECONDS))
        median, worst = 1000 * statistics.median(latencies), 1000 * latencies[-1]
        print("5 ms one way, %d writes a second: all %d answered, p50 %.1f ms, most %.1f ms"
              % (RATE, len(latencies), median, worst))
        assert median >= 2000 * DELAY, "faster than the network: the delay is not in the way"


def fill(node, megabytes):
    data = b"\x0b" + CHUNK.to_bytes(4, "big") + bytes(CHUNK)
    with node.kv(timeout=120) as client:
        for start in range(0, megabytes * 16, 32):
            for i in range(start, start + 32):
                client.send_bytes(kv.frame(kv.body(kv.SET, kv.short("big-%d" % (i % 64)) + data, client.database,
                                                   client.collection)))
            for _ in range(32):
                client.answer()


def stopped_follower():
    with Cluster(3) as cluster:
        leader, follower = cluster.leader(), cluster.followers()[0]
        fill(leader, 64)
        before = leader.anonymous_kib()
        follower.pause()
        fill(leader, MEGABYTES)
        grown = (leader.anonymous_kib() - before) >> 10
        follower.resume()
        commit = leader.status()["commit"]
        wait_until(lambda: (follower.status() or {"applied": 0})["applied"] >= commit, "the follower to catch up", 120)
        print("stopped follower, %d MB written: the leader grew by %d MiB; the follower has caught up"
              % (MEGABYTES, grown))
        assert grown < 96, "the leader keeps what the follower does not take"


delay()
stopped_follower()
