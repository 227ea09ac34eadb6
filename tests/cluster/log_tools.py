#!/usr/bin/env python3
"""kontiki log dump and verify on the log of a real node: whole, torn, and damaged in each place that can be damaged.
The tool must name the place, must change nothing, and must agree with what the node itself does with the folder."""
import hashlib
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, program  # noqa: E402

KEYS = 40
VALUE = kv.string("v" * 60000)  # large enough for several segments of 1 MiB


def tool(*words):
    done = subprocess.run([program("kontiki"), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def fingerprint(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            found[name] = (hashlib.sha256(file.read()).hexdigest(), os.stat(path).st_mtime_ns)
    return found


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        byte = file.read(1)[0]
    patch(path, offset, bytes([byte ^ 0x10]))


class Copies:
    """Damaged copies of one log; each verified twice, to see that verifying changes nothing."""

    def __init__(self, log, folder):
        self.log, self.folder, self.count = log, folder, 0

    def verify(self, damage):
        self.count += 1
        copy = os.path.join(self.folder, "copy%d" % self.count)
        shutil.copytree(self.log, copy)
        damage(copy)
        before = fingerprint(copy)
        code, text, said = tool("log", "verify", copy, "--json")
        assert tool("log", "verify", copy, "--json") == (code, text, said)
        dump_code, dumped, _ = tool("log", "dump", copy, "--json")
        plain_code, plain, _ = tool("log", "verify", copy)
        assert dump_code == plain_code == code, (dump_code, plain_code, code)
        assert fingerprint(copy) == before, "looking changed the folder"
        whole = lines(text)[0] if text else None
        return code, whole, lines(dumped)[1:] if dumped else [], plain + said


def check_whole(log, entries):
    code, text, _ = tool("log", "verify", log)
    assert code == 0 and "every record is valid" in text, (code, text)
    code, text, _ = tool("log", "dump", log, "--json")
    head, *found = lines(text)
    assert code == 0 and head["verdict"] == "whole", (code, head)
    assert [entry["index"] for entry in found] == list(range(head["first"], head["last"] + 1))
    puts = [entry for entry in found if entry.get("operation", "").startswith("kv.put")]
    assert len(puts) == entries, (len(puts), entries)
    for number, entry in enumerate(puts):
        assert "log-%d" % number in entry["operation"], entry["operation"][:200]
        assert entry["sequence"] > 0 and int(entry["origin"], 16) > 0 and entry["time"].startswith("20"), entry
    assert len(head["segments"]) >= 3, head["segments"]
    assert sum(segment["entries"] for segment in head["segments"]) == len(found)
    # A part of it, for people.
    middle = puts[entries // 2]["index"]
    code, text, _ = tool("log", "dump", log, "--from", str(middle), "--to", str(middle))
    shown = [line for line in text.splitlines() if line.lstrip().startswith("%d " % middle)]
    assert code == 0 and len(shown) == 1 and "kv.put" in shown[0], text[:2000]
    return head, found


def check_damage(log, folder, head, found):
    copies = Copies(log, folder)
    last, first = head["segments"][-1], head["segments"][0]
    files = {segment["file"]: segment for segment in head["segments"]}

    # Torn: bytes behind the last record that no record tells to be synced.
    def tear(copy):
        patch(os.path.join(copy, last["file"]), last["used"] + 16, b"half a record")
    code, whole, dumped, text = copies.verify(tear)
    assert code == 1 and whole["verdict"] == "torn", (code, whole)
    assert (whole["torn_file"], whole["torn_offset"]) == (last["file"], last["used"]), whole
    assert 0 < whole["torn_bytes"] < 64 and "TORN" in text, whole
    assert dumped == found

    # Damage in the record of an entry, header or payload: named with file and offset of that record.
    for number in (1, len(found) // 2, len(found) - 2):
        entry = found[number]
        for inside in (20, 48 + entry["bytes"] // 2):
            def hit(copy):
                flip(os.path.join(copy, entry["file"]), entry["offset"] + inside)
            if inside >= 48 + entry["bytes"]:
                continue
            code, whole, dumped, text = copies.verify(hit)
            place = "%s is damaged at offset %d" % (entry["file"], entry["offset"])
            assert code == 2 and place in whole["problem"], (code, whole, place)
            assert "DAMAGED" in text and place in text, text
            # Everything before it can still be seen.
            assert dumped == found[:number], (len(dumped), number)
            behind = [name for name in files if name > entry["file"]]
            assert whole["segments_left"] == len(behind), whole

    code, whole, _, _ = copies.verify(lambda copy: flip(os.path.join(copy, first["file"]), 30))
    assert code == 2 and "%s is damaged at offset 0" % first["file"] in whole["problem"], whole
    middle = head["segments"][1]["file"]
    code, whole, dumped, _ = copies.verify(lambda copy: os.remove(os.path.join(copy, middle)))
    assert code == 2 and "%s is missing" % middle in whole["problem"], whole
    assert len(dumped) == first["entries"], (len(dumped), first)
    code, whole, _, _ = copies.verify(lambda copy: os.remove(os.path.join(copy, last["file"])))
    assert code == 2 and "%s is missing" % last["file"] in whole["problem"], whole
    code, whole, _, _ = copies.verify(lambda copy: os.truncate(os.path.join(copy, last["file"]), last["used"]))
    assert code == 2 and last["file"] in whole["problem"] and str(last["used"]) in whole["problem"], whole

    # The vote: one slot is a note, both are damage; the entries are there all the same.
    code, whole, _, text = copies.verify(lambda copy: flip(os.path.join(copy, "vote"), 24))
    assert code == 0 and whole["vote_stale"] and "one of the two slots" in text, (code, whole)

    def both(copy):
        flip(os.path.join(copy, "vote"), 24)
        flip(os.path.join(copy, "vote"), 4096 + 24)
    code, whole, dumped, _ = copies.verify(both)
    assert code == 2 and "vote file is damaged" in whole["vote_problem"] and dumped == found, whole
    code, whole, dumped, _ = copies.verify(lambda copy: os.remove(os.path.join(copy, "vote")))
    assert code == 2 and "missing" in whole["vote_problem"] and dumped == found, whole
    return copies.count


def main():
    with Cluster(1, settings={"storage.wal_segment_size_mb": 1}) as cluster:
        node = cluster.nodes[0]
        data = os.path.join(node.folder, "data")
        log = os.path.join(data, "log")
        with node.kv() as client:
            for number in range(KEYS):
                client.set(b"log-%d" % number, VALUE)
        code, _, said = tool("log", "verify", data)
        assert code == 3 and "running node" in said, (code, said)
        code, _, said = tool("log", "dump", log)
        assert code == 3 and "running node" in said, (code, said)
        node.stop()

        before = fingerprint(log)
        assert tool("log", "verify", data)[0] == 0
        head, found = check_whole(log, KEYS)
        assert fingerprint(log) == before, "looking changed the folder"
        count = check_damage(log, cluster.folder, head, found)

        empty = os.path.join(cluster.folder, "empty")
        os.mkdir(empty)
        for folder, word in ((empty, "no log"), (os.path.join(cluster.folder, "nowhere"), "cannot open")):
            code, _, said = tool("log", "verify", folder)
            assert code == 3 and word in said, (code, said)
        assert os.listdir(empty) == []
        assert tool("log")[0] == 2 and tool("log", "verify", log, "--from", "3")[0] == 2

        # What is called torn the node cuts; what is called damaged it does not start on.
        last = head["segments"][-1]
        patch(os.path.join(log, last["file"]), last["used"] + 16, b"half a record")
        assert tool("log", "verify", log)[0] == 1
        node.start()
        with node.kv() as client:
            assert client.get(b"log-%d" % (KEYS - 1)) == VALUE
        node.stop()
        assert tool("log", "verify", log)[0] == 0
        flip(os.path.join(log, found[5]["file"]), found[5]["offset"] + 60)
        assert tool("log", "verify", log)[0] == 2
        node.start(wait=False)
        assert node.process.wait(60) != 0
        node.process = None
        print("%d entries, %d damaged copies" % (len(found), count))


main()
