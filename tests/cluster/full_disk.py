#!/usr/bin/env python3
"""Disks run out of space: each node's data folder is a small file system of its own (tmpfs; skipped where mounting is
not allowed). A leader that is short of space hands over and no client sees an error; when all are short, growth is
refused at once and deleting works; everything recovers by itself. A node on a disk without a free byte starts and
answers reads."""
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.load import Load  # noqa: E402

SKIPPED = 77
DISK_MB = 96
MIN_FREE_MB = 32
VALUE = kv.string("x" * 50000)
SETTINGS = {"storage.wal_segment_size_mb": 1, "storage.log_keep_mb": 1, "storage.min_free_mb": MIN_FREE_MB,
            "limits.request_timeout_ms": 20000}


class SmallDisks:
    """A file system below each data folder of a cluster that is not started yet."""

    def __init__(self, count, settings):
        self.cluster = Cluster(count, settings=settings)
        self.mounted = []

    def __enter__(self):
        for node in self.cluster.nodes:
            folder = os.path.join(node.folder, "data")
            os.makedirs(folder)
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=700" % DISK_MB, "kontiki-test", folder],
                                  capture_output=True, text=True, check=False)
            if done.returncode != 0:
                self.__exit__(None)
                print("skipped: no file system can be mounted here: %s" % done.stderr.strip())
                sys.exit(SKIPPED)
            self.mounted.append(folder)
        return self.cluster

    def __exit__(self, *_):
        for folder in self.mounted:
            subprocess.run(["umount", folder], check=False)
        shutil.rmtree(self.cluster.folder, ignore_errors=True)


def filler(node):
    return os.path.join(node.folder, "data", "filler")


def free(node):
    space = os.statvfs(os.path.join(node.folder, "data"))
    return space.f_bavail * space.f_frsize


def fill(node, leave):
    """Somebody else's file takes all but so many bytes."""
    size = free(node) - leave
    with open(filler(node), "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def make_room(node):
    os.remove(filler(node))


def disk_of(node):
    status = node.status()
    return status and status["disk"]


def wait_disk(node, word):
    wait_until(lambda: disk_of(node) == word, "node %d says that its disk is %s" % (node.id, word))


def refused(client, key):
    """The refusal of a write, and how long it took."""
    began = time.monotonic()
    try:
        client.set(key, VALUE)
    except kv.Refused as refusal:
        return refusal, time.monotonic() - began
    raise AssertionError("a write was carried out although the disk is short of space")


def check_refusing(node, name):
    with node.kv() as client, node.rcp() as machines:
        refusal, seconds = refused(client, b"more")
        assert b"disk space" in refusal.payload, refusal
        assert seconds < 1, "%s: refused after %.1f s" % (name, seconds)
        answer = machines.refusal("PUT_MACHINE", {"machine": "m", "version": 1, "definition": {
            "states": ["a"], "initial": "a", "transitions": []}})
        assert "WAL_IO_ERROR" in str(answer), answer
        # Reading works, and what frees space does.
        assert client.get(b"kept") == VALUE
        client.call(kv.DELETE, kv.short(b"gone-%d" % node.id))
        assert client.get(b"gone-%d" % node.id) is None


def one_leader_short():
    """Under load: the leader's disk runs low, then another one's; no client sees an error."""
    with SmallDisks(3, SETTINGS) as small, small as cluster:
        with Load(cluster, 6) as load:
            for _ in range(2):
                leader = cluster.leader()
                began = time.monotonic()
                fill(leader, (MIN_FREE_MB - 4) << 20)
                wait_disk(leader, "low")
                other = wait_until(lambda: cluster.leader() is not leader and cluster.leader(), "another node leads")
                moved = time.monotonic() - began
                load.wait_progress()
                assert disk_of(other) == "fine", other.status()
                gap = load.longest_gap(began, leader)
                make_room(leader)
                wait_disk(leader, "fine")
                load.wait_progress()
                print("node %d low on space: node %d led %.1f s later, %.0f ms without service"
                      % (leader.id, other.id, moved, gap * 1000), flush=True)
                # The next round takes the new leader.
        cluster.wait_caught_up()
        load.verify()


def all_short():
    with SmallDisks(3, SETTINGS) as small, small as cluster:
        with cluster.leader().kv() as client:
            client.set(b"kept", VALUE)
            for node in cluster.nodes:
                client.set(b"gone-%d" % node.id, VALUE)
        for node in cluster.nodes:
            fill(node, (MIN_FREE_MB - 4) << 20)
        for node in cluster.nodes:
            wait_disk(node, "low")
        # Leadership may have moved while one after another ran low. Now nobody can lead better: it stays where it is.
        wait_until(lambda: refuses(cluster.nodes[0]), "growth is refused")
        leader = cluster.leader()
        term = leader.status()["term"]
        for node in cluster.nodes:
            check_refusing(node, "node %d" % node.id)
        assert cluster.leader() is leader and leader.status()["term"] == term, "leadership went back and forth"
        # One gets room: it takes over, and everything is possible again.
        roomy = cluster.followers()[0]
        make_room(roomy)
        wait_until(lambda: cluster.leader() is roomy, "the one with room leads")
        for node in cluster.nodes:
            with node.kv() as client:
                client.set(b"again-%d" % node.id, VALUE)
        for node in cluster.nodes:
            if node is not roomy:
                make_room(node)
        for node in cluster.nodes:
            wait_disk(node, "fine")
        cluster.wait_caught_up()
        print("all short of space: growth refused at once, deleting works, recovered")


def refuses(node):
    with node.kv() as client:
        try:
            client.set(b"probe", VALUE)
        except kv.Refused as refusal:
            return b"disk space" in refusal.payload
    return False


def not_a_byte_left():
    """Nothing watches for space here, so the disk is filled to the brim; the node waits, restarts, reads, recovers."""
    with SmallDisks(1, {**SETTINGS, "storage.min_free_mb": 0, "limits.request_timeout_ms": 3000}) as small, \
            small as cluster:
        node = cluster.nodes[0]
        with node.kv() as client:
            client.set(b"kept", VALUE)
        fill(node, 0)
        written = 0
        with node.kv() as client:
            for number in range(400):
                try:
                    client.set(b"fill-%d" % number, VALUE)
                    written = number + 1
                except kv.Refused as refusal:
                    print("after %d writes: %s" % (written, refusal))
                    break
            else:
                raise AssertionError("a full disk took 20 MB")
            wait_disk(node, "full")
            refusal, seconds = refused(client, b"more")
            assert b"disk space" in refusal.payload and seconds < 1, (refusal, seconds)
            assert client.get(b"kept") == VALUE
        for how in ("kill", "stop", "kill"):
            node.kill() if how == "kill" else node.stop()
            assert free(node) < 1 << 16, free(node)
            node.start()
            with node.kv() as client:
                assert client.get(b"kept") == VALUE
                for number in range(written):
                    assert client.get(b"fill-%d" % number) == VALUE, number
        make_room(node)
        with node.kv() as client:
            wait_until(lambda: writes(client), "the node writes again")
            assert client.get(b"kept") == VALUE
        wait_disk(node, "fine")
        print("not a byte left: %d more writes, three restarts, all read, recovered" % written)


def state_cannot_grow():
    """A follower's log has room in its segment, its state has not: it waits, also through a restart, and catches up."""
    settings = {**SETTINGS, "storage.wal_segment_size_mb": 20, "storage.min_free_mb": 0}
    with SmallDisks(3, settings) as small, small as cluster:
        node = cluster.followers()[0]
        with cluster.leader().kv() as client:
            client.set(b"kept", VALUE)
            cluster.wait_caught_up()
            fill(node, 0)
            for number in range(200):
                client.set(b"fill-%d" % number, VALUE)
        wait_disk(node, "full")
        assert "the state cannot grow" in node.log_end(), node.log_end()
        node.stop()
        node.start(wait=False)
        wait_until(lambda: disk_of(node) == "full", "it waits again after a restart")
        behind = node.status()["applied"]
        with cluster.leader().kv() as client:
            client.set(b"fill-200", VALUE)
        assert node.status()["applied"] <= behind + 1, "a full state went on"
        make_room(node)
        wait_disk(node, "fine")
        cluster.wait_caught_up()
        with node.kv() as client:
            for number in range(201):
                assert client.get(b"fill-%d" % number) == VALUE, number
        # Enough entries that the nodes compare what their states are.
        with cluster.leader().kv() as client:
            for number in range(600):
                client.set(b"small", kv.string("%d" % number))
        cluster.wait_caught_up()
        assert node.alive() and "hash" not in node.log_end(), node.log_end()
        print("a state without room: waited through a restart, then caught up")


def writes(client):
    try:
        client.set(b"after", VALUE)
        return True
    except kv.Refused:
        return False


def main():
    wanted = sys.argv[1:] or ["one_leader_short", "all_short", "not_a_byte_left", "state_cannot_grow"]
    for name in wanted:
        globals()[name]()


main()
