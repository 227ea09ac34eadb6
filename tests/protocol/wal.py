#!/usr/bin/env python3
"""The change log of a real node as clients see it: sections 11.1 to 11.6 of the specification."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}


def create(client, instance, **more):
    client.call("PUT_MACHINE", {"machine": "door", "version": 1, "definition": DOOR})
    return client.call("CREATE_INSTANCE", {"machine": "door", "version": 1, "instance_id": instance, **more})


def everything(client, **params):
    records, at, pages = [], 0, 0
    while True:
        page = client.call("WAL_READ", {"from_offset": at, **params})
        if not page["records"]:
            assert "next_offset" not in page, page
            return records, pages
        records += page["records"]
        assert page["next_offset"] == page["records"][-1]["offset"] + 1, page["next_offset"]
        at, pages = page["next_offset"], pages + 1


def wal_read__every_entry__has_its_shape(cluster):
    with cluster.nodes[0].rcp() as client:
        before = client.call("WAL_STATS")["latest_offset"]
        client.call("PUT_MACHINE", {"machine": "shapes", "version": 3, "definition": DOOR})
        checksum = client.call("GET_MACHINE", {"machine": "shapes"})["checksum"]
        client.call("PUT_MACHINE", {"machine": "shapes", "version": 3, "definition": DOOR})  # changes nothing
        offsets = [client.call(op, params)["wal_offset"] for op, params in (
            ("CREATE_INSTANCE", {"machine": "shapes", "version": 3, "instance_id": "s", "initial_ctx": {"a": 1},
                                 "idempotency_key": "k1"}),
            ("CREATE_INSTANCE", {"machine": "shapes", "version": 3, "instance_id": "t"}),
            ("APPLY_EVENT", {"instance_id": "s", "event": "OPEN", "payload": {"b": 2}, "event_id": "e1",
                             "idempotency_key": "k2"}),
            ("APPLY_EVENT", {"instance_id": "s", "event": "CLOSE"}),
            ("DELETE_INSTANCE", {"instance_id": "s", "idempotency_key": "k3"}),
            ("DELETE_INSTANCE", {"instance_id": "t"}))]
        client.call("DELETE_INSTANCE", {"instance_id": "t"})  # once more changes nothing
        records = client.call("WAL_READ", {"from_offset": before})["records"]
        entries = [record["entry"] for record in records]
        for entry in entries:
            stamp = entry.pop("timestamp")
            assert 1500000000000 < stamp < 10000000000000, stamp
        assert [record["offset"] for record in records[1:]] == offsets, (records, offsets)
        names = {"machine": "shapes", "version": 3}
        definition = client.call("GET_MACHINE", {"machine": "shapes"})["definition"]
        assert entries == [
            {"type": "put_machine", **names, "definition_hash": checksum, "definition": definition},
            {"type": "create_instance", **names, "instance_id": "s", "initial_state": "shut", "initial_ctx": {"a": 1},
             "idempotency_key": "k1"},
            {"type": "create_instance", **names, "instance_id": "t", "initial_state": "shut", "initial_ctx": {}},
            {"type": "apply_event", **names, "instance_id": "s", "event": "OPEN", "from_state": "shut",
             "to_state": "open", "payload": {"b": 2}, "ctx": {"a": 1, "b": 2}, "event_id": "e1",
             "idempotency_key": "k2"},
            {"type": "apply_event", **names, "instance_id": "s", "event": "CLOSE", "from_state": "open",
             "to_state": "shut", "payload": None, "ctx": {"a": 1, "b": 2}},
            {"type": "delete_instance", **names, "instance_id": "s", "idempotency_key": "k3"},
            {"type": "delete_instance", **names, "instance_id": "t"}], entries
        sequences = [record["sequence"] for record in records]
        assert sequences == list(range(sequences[0], sequences[0] + 7)), sequences


def wal_read__limits_and_offsets__page_through_everything(cluster):
    with cluster.nodes[0].rcp() as client:
        create(client, "pages")
        for number in range(40):
            client.call("APPLY_EVENT", {"instance_id": "pages", "event": "CLOSE" if number % 2 else "OPEN"})
        whole, _ = everything(client)
        assert [record["sequence"] for record in whole] == list(range(whole[0]["sequence"],
                                                                      whole[0]["sequence"] + len(whole)))
        for limit in (1, 7, 10000, 2 ** 40):
            assert everything(client, limit=limit)[0] == whole, limit
        assert client.call("WAL_READ", {"from_offset": 0, "limit": 0}) == {"records": []}
        one = client.call("WAL_READ", {"from_offset": whole[5]["offset"], "limit": 1})
        assert one["records"] == [whole[5]] and one["next_offset"] == whole[5]["offset"] + 1, one
        for params in ({}, {"from_offset": -1}, {"from_offset": 1.0}, {"from_offset": "0"}, {"from_offset": None},
                       {"from_offset": 0, "limit": -1}):
            assert client.refusal("WAL_READ", params).code == "BAD_REQUEST", params


def wal_read__batch__stays_together(cluster):
    with cluster.nodes[0].rcp() as client:
        create(client, "batched")
        before = client.call("WAL_STATS")["latest_offset"]
        client.call("BATCH", {"mode": "best_effort", "ops": [
            {"op": "APPLY_EVENT", "params": {"instance_id": "batched", "event": event}}
            for event in ("OPEN", "NO", "CLOSE")]})
        page = client.call("WAL_READ", {"from_offset": before, "limit": 1})
        assert [(record["offset"], record.get("number", 0)) for record in page["records"]] == [(before, 0), (before, 1)]
        assert page["next_offset"] == before + 1, page


def wal_read__more_than_a_message__comes_in_pages(cluster):
    with cluster.nodes[0].rcp() as client:
        create(client, "many")
        for number in range(12):
            client.call("APPLY_EVENT", {"instance_id": "many", "event": "CLOSE" if number % 2 else "OPEN",
                                        "payload": {"text": chr(97 + number) * (1 << 20)}})
        records, pages = everything(client)
        ours = [record["entry"] for record in records if record["entry"].get("instance_id") == "many"][1:]
        assert [entry["payload"]["text"][0] for entry in ours] == [chr(97 + n) for n in range(12)]
        assert pages >= 2, pages


def wal_read__record_larger_than_a_message__is_told_without_its_large_members(cluster):
    with cluster.nodes[0].rcp() as client:
        create(client, "huge")
        applied = client.call("APPLY_EVENT", {"instance_id": "huge", "event": "OPEN",
                                              "payload": {"text": "z" * (8 * 1024 * 1024 - 100)}})
        page = client.call("WAL_READ", {"from_offset": applied["wal_offset"], "limit": 1})
        entry = page["records"][0]["entry"]
        assert entry["omitted"] is True and entry["payload"] is None and entry["ctx"] == {}, entry
        assert entry["to_state"] == "open" and page["next_offset"] == applied["wal_offset"] + 1


def wal_stats__figures__are_true_and_grow(cluster):
    with cluster.nodes[0].rcp() as client:
        create(client, "stats")
        before = client.call("WAL_STATS")
        applied = client.call("APPLY_EVENT", {"instance_id": "stats", "event": "OPEN", "payload": {"x": "y" * 5000}})
        after = client.call("WAL_STATS")
        assert after["entry_count"] == before["entry_count"] + 1, (before, after)
        assert after["latest_offset"] > applied["wal_offset"] >= before["latest_offset"], (before, after)
        for name in ("bytes_written", "writes", "fsyncs"):
            assert after["io_stats"][name] > before["io_stats"][name], (name, before, after)
        assert after["io_stats"]["bytes_written"] - before["io_stats"]["bytes_written"] >= 5000
        assert set(after["io_stats"]) == {"bytes_written", "bytes_read", "writes", "reads", "fsyncs"}
        log = os.path.join(cluster.nodes[0].folder, "data", "log")
        files = [os.path.getsize(os.path.join(log, name)) for name in os.listdir(log) if name.endswith(".seg")]
        assert after["segment_count"] == len(files) and after["total_size_bytes"] == sum(files), (after, files)


def snapshot_instance__any__has_size_and_checksum(cluster):
    with cluster.nodes[0].rcp() as client:
        offset = create(client, "snap", initial_ctx={"a": 1})["wal_offset"]
        result = client.call("SNAPSHOT_INSTANCE", {"instance_id": "snap"})
        assert set(result) == {"instance_id", "snapshot_id", "wal_offset", "size_bytes", "checksum"}, result
        assert result["instance_id"] == "snap" and result["wal_offset"] == offset and result["size_bytes"] > 50
        assert re.fullmatch(r"snap-[0-9a-f-]{36}", result["snapshot_id"]), result
        assert re.fullmatch(r"[0-9a-f]{8}", result["checksum"]), result
        again = client.call("SNAPSHOT_INSTANCE", {"instance_id": "snap"})
        assert again["checksum"] == result["checksum"] and again["snapshot_id"] != result["snapshot_id"]
        client.call("APPLY_EVENT", {"instance_id": "snap", "event": "OPEN"})
        assert client.call("SNAPSHOT_INSTANCE", {"instance_id": "snap"})["checksum"] != result["checksum"]
        assert client.refusal("SNAPSHOT_INSTANCE", {"instance_id": "nobody"}).code == "INSTANCE_NOT_FOUND"
        assert client.refusal("SNAPSHOT_INSTANCE").code == "BAD_REQUEST"
        assert client.refusal("SNAPSHOT_INSTANCE", {"instance_id": 1}).code == "BAD_REQUEST"


def view(client):
    """All that a client can see of machines and instances."""
    instances = client.call("LIST_INSTANCES", {"limit": 1000})
    return (client.call("LIST_MACHINES"), client.call("GET_MACHINE", {"machine": "door"}), instances,
            [client.call("GET_INSTANCE", {"instance_id": item["id"]}) for item in instances["instances"]])


def compact__then_killed_and_started__nothing_but_old_changes_is_gone(cluster):
    node = cluster.nodes[0]
    with node.rcp() as client:
        create(client, "compact")
        first = client.call("APPLY_EVENT", {"instance_id": "compact", "event": "OPEN", "payload": {"n": 1},
                                            "idempotency_key": "kept"})
        before = view(client)
        records = len(everything(client)[0])
        sequence = client.call("WAL_STATS")["entry_count"]
        result = client.call("COMPACT")
        assert result["bytes_reclaimed"] == 0, result  # nothing is a minute old

        def compacted():
            found = client.call("COMPACT", {"force_snapshot": True})
            assert all(isinstance(value, int) and not isinstance(value, bool) for value in found.values()), found
            assert {"snapshots_created", "segments_deleted", "bytes_reclaimed", "total_snapshots",
                    "wal_segments"} <= set(found), found
            return found["bytes_reclaimed"] > 0
        wait_until(compacted, "changes are older than two seconds")
        # What is young goes with the next call, when it has aged.
        wait_until(lambda: compacted() or not everything(client)[0], "all changes are cut off")
        assert records > 5
        assert view(client) == before
    node.kill()
    node.start()
    with node.rcp() as client:
        assert view(client) == before
        assert everything(client)[0] == []
        assert client.call("WAL_STATS")["entry_count"] == sequence
        assert client.call("APPLY_EVENT", {"instance_id": "compact", "event": "OPEN", "payload": {"n": 1},
                                           "idempotency_key": "kept"}) == first
        client.call("APPLY_EVENT", {"instance_id": "compact", "event": "CLOSE"})
        left = everything(client)[0]
        assert len(left) == 1 and left[0]["sequence"] == sequence + 1, left


def watch__from_what_was_cut_off__is_told_and_goes_on(cluster):
    with cluster.nodes[0].rcp() as client:
        old = create(client, "behind")["wal_offset"]

        def compacted():
            client.call("COMPACT", {"force_snapshot": True})
            return client.call("WAL_STATS")["change_log"]["oldest_offset"] > old
        wait_until(compacted, "the creation is cut off")
        watch = client.call("WATCH_INSTANCE", {"instance_id": "behind", "from_offset": old})["subscription_id"]
        applied = client.call("APPLY_EVENT", {"instance_id": "behind", "event": "OPEN"})
        notice, event = client.events(2)
        assert notice["type"] == "lagging" and notice["subscription_id"] == watch, notice
        assert old < notice["resumes_at"] <= applied["wal_offset"] and notice["reason"], notice
        assert event["wal_offset"] == applied["wal_offset"], event
        client.call("WATCH_ALL", {"from_offset": 0, "machines": ["door"]})
        assert client.event()["wal_offset"] == applied["wal_offset"]


def flush_all__not_allowed__names_the_setting(cluster):
    with cluster.nodes[0].rcp() as client:
        create(client, "flush")
        refused = client.refusal("FLUSH_ALL")
        assert refused.code == "BAD_REQUEST" and not refused.retryable
        assert "disabled" in refused.message and "storage.allow_flush_all" in refused.message, refused
        client.call("GET_INSTANCE", {"instance_id": "flush"})


def flush_all__allowed__is_complete_and_survives_a_restart(_):
    with Cluster(1, settings={"storage.allow_flush_all": "true"}) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as client:
            for number in range(5):
                create(client, "flush-%d" % number, idempotency_key="k%d" % number)
            client.call("PUT_MACHINE", {"machine": "door", "version": 2, "definition": DOOR})
            client.call("DELETE_INSTANCE", {"instance_id": "flush-4"})
            watch = client.call("WATCH_ALL")["subscription_id"]
            before = client.call("WAL_STATS")
            assert client.call("FLUSH_ALL", {}) == {"flushed": True, "instances_removed": 4, "machines_removed": 2}
            assert client.refusal("GET_INSTANCE", {"instance_id": "flush-1"}).code == "INSTANCE_NOT_FOUND"
            assert client.refusal("GET_MACHINE", {"machine": "door"}).code == "MACHINE_NOT_FOUND"
            assert client.call("LIST_INSTANCES")["total"] == 0
            assert client.call("LIST_INSTANCES", {"machine": "door", "state": "shut"})["total"] == 0
            assert client.call("LIST_MACHINES")["items"] == []
            last = client.call("WAL_READ", {"from_offset": before["latest_offset"]})["records"]
            assert [record["entry"]["type"] for record in last] == ["flush_all"], last
            # The ids, the deleted one too, and the idempotency keys are free; the subscription is still there.
            for number in range(5):
                made = create(client, "flush-%d" % number, idempotency_key="k%d" % number)
                assert made["wal_offset"] > before["latest_offset"], made
            client.call("APPLY_EVENT", {"instance_id": "flush-0", "event": "OPEN"})
            assert client.event()["subscription_id"] == watch
            client.call("FLUSH_ALL")
        node.kill()
        node.start()
        with node.rcp() as client:
            assert client.call("LIST_INSTANCES")["total"] == 0 and client.call("LIST_MACHINES")["items"] == []
            assert client.call("INFO")["stats"]["machines"] == 0


def retention__by_size__cuts_off_the_oldest_on_every_node(_):
    with Cluster(3, settings={"storage.change_log_mb": 1}) as cluster:
        with cluster.leader().rcp() as client:
            create(client, "kept")
            for number in range(60):
                client.call("APPLY_EVENT", {"instance_id": "kept", "event": "CLOSE" if number % 2 else "OPEN",
                                            "payload": {"text": "x" * 50000}})

            def cut():
                stats = client.call("WAL_STATS")
                return stats["change_log"]["bytes"] <= 1 << 20 and stats
            wait_until(cut, "the change log is as small as it may be")
        cluster.wait_caught_up()
        logs = []
        for node in cluster.nodes:
            with node.rcp() as client:
                logs.append((everything(client)[0], client.call("WAL_STATS")["change_log"]))
        assert all(log == logs[0] for log in logs), [log[1] for log in logs]
        assert 5 <= len(logs[0][0]) <= 12, len(logs[0][0])
        assert logs[0][0][-1]["entry"]["type"] == "apply_event"


def main():
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster)


main()
