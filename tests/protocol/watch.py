#!/usr/bin/env python3
"""Subscriptions of the state-machine protocol against a real node: sections 10 and 3.7 of the specification."""
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}
LAMP = {"states": ["off", "on"], "initial": "off",
        "transitions": [{"from": "off", "event": "OPEN", "to": "on"}, {"from": "on", "event": "OFF", "to": "off"},
                        {"from": "on", "event": "BLINK", "to": "on"}]}


def create(client, instance, machine="door", **more):
    client.call("PUT_MACHINE", {"machine": "door", "version": 1, "definition": DOOR})
    client.call("PUT_MACHINE", {"machine": "lamp", "version": 1, "definition": LAMP})
    return client.call("CREATE_INSTANCE", {"machine": machine, "version": 1, "instance_id": instance, **more})


def apply(client, instance, event, payload=None, **more):
    params = {"instance_id": instance, "event": event, **more}
    if payload is not None:
        params["payload"] = payload
    return client.call("APPLY_EVENT", params)


def quiet(client):
    """Nothing is pushed: a round trip later there is still nothing."""
    client.call("PING")
    return not client.pushed and not client.wait_buffered(0.05)


def watch_instance__events__have_every_member_at_the_top(node):
    with node.rcp() as client, node.rcp() as writer:
        created = create(writer, "members", initial_ctx={"a": 1})
        result = client.call("WATCH_INSTANCE", {"instance_id": "members"})
        assert result["subscription_id"].startswith("sub-") and len(result["subscription_id"]) == 40, result
        assert result["instance_id"] == "members" and result["current_state"] == "shut", result
        assert result["current_wal_offset"] == created["wal_offset"], result
        applied = apply(writer, "members", "OPEN", {"b": [1, 2.5, "x"]})
        event = client.event()
        assert event == {"type": "event", "subscription_id": result["subscription_id"], "instance_id": "members",
                         "machine": "door", "version": 1, "wal_offset": applied["wal_offset"], "from_state": "shut",
                         "to_state": "open", "event": "OPEN", "payload": {"b": [1, 2.5, "x"]},
                         "ctx": {"a": 1, "b": [1, 2.5, "x"]}}, event
        apply(writer, "members", "CLOSE")
        assert client.event()["payload"] is None


def watch_instance__without_ctx__leaves_it_out(node):
    with node.rcp() as client:
        create(client, "no-ctx", initial_ctx={"a": 1})
        client.call("WATCH_INSTANCE", {"instance_id": "no-ctx", "include_ctx": False})
        apply(client, "no-ctx", "OPEN")
        assert "ctx" not in client.event()


def watch_instance__missing_deleted_or_malformed__is_refused(node):
    with node.rcp() as client:
        assert client.refusal("WATCH_INSTANCE", {"instance_id": "nobody"}).code == "INSTANCE_NOT_FOUND"
        create(client, "gone")
        client.call("DELETE_INSTANCE", {"instance_id": "gone"})
        assert client.refusal("WATCH_INSTANCE", {"instance_id": "gone"}).code == "INSTANCE_NOT_FOUND"
        for params in ({}, {"instance_id": ""}, {"instance_id": 1}, {"instance_id": "x", "include_ctx": 1},
                       {"instance_id": "x", "from_offset": -1}, {"instance_id": "x", "from_offset": "1"}):
            assert client.refusal("WATCH_INSTANCE", params).code == "BAD_REQUEST", params
        for params in ({"machines": "door"}, {"events": [1]}, {"to_states": [None]}, {"from_states": {}},
                       {"from_offset": -1}, {"from_offset": 1.5}, {"include_ctx": "no"}):
            assert client.refusal("WATCH_ALL", params).code == "BAD_REQUEST", params


def watch_instance__created_again__sees_the_new_one(node):
    with node.rcp() as client:
        create(client, "again")
        client.call("WATCH_INSTANCE", {"instance_id": "again"})
        client.call("DELETE_INSTANCE", {"instance_id": "again"})
        create(client, "again")
        applied = apply(client, "again", "OPEN")
        assert client.event()["wal_offset"] == applied["wal_offset"]


def watch__only_events__creates_deletes_and_refusals_are_silent(node):
    with node.rcp() as client:
        create(client, "silent")
        client.call("WATCH_ALL")
        create(client, "silent-2")
        client.refusal("APPLY_EVENT", {"instance_id": "silent", "event": "CLOSE"})
        client.call("DELETE_INSTANCE", {"instance_id": "silent-2"})
        assert quiet(client)


def watch__repeated_request__is_told_once(node):
    with node.rcp() as client:
        create(client, "once")
        client.call("WATCH_INSTANCE", {"instance_id": "once"})
        first = apply(client, "once", "OPEN", idempotency_key="k")
        assert apply(client, "once", "OPEN", idempotency_key="k") == first
        assert client.event()["wal_offset"] == first["wal_offset"]
        assert quiet(client)


def watch_all__filters__and_between_lists_or_within(node):
    cases = [({}, [0, 1, 2, 3, 4]), ({"machines": ["lamp"]}, [1, 2, 3]),
             ({"machines": ["lamp", "door"]}, [0, 1, 2, 3, 4]),
             ({"machines": []}, [0, 1, 2, 3, 4]), ({"machines": ["nobody"]}, []), ({"machines": ["Door"]}, []),
             ({"events": ["OPEN"]}, [0, 1]), ({"events": ["OPEN", "BLINK"]}, [0, 1, 2]),
             ({"from_states": ["on"]}, [2, 3]), ({"to_states": ["shut", "off"]}, [3, 4]),
             ({"machines": ["lamp"], "events": ["OPEN"]}, [1]), ({"machines": ["door"], "events": ["BLINK"]}, []),
             ({"from_states": ["on"], "to_states": ["on"]}, [2]), ({"from_states": None, "events": ["CLOSE"]}, [4])]
    with node.rcp() as client, node.rcp() as writer:
        create(writer, "filter-door")
        create(writer, "filter-lamp", "lamp")
        ids = {client.call("WATCH_ALL", params)["subscription_id"]: wanted for params, wanted in cases}
        offsets = [apply(writer, instance, event)["wal_offset"] for instance, event in (
            ("filter-door", "OPEN"), ("filter-lamp", "OPEN"), ("filter-lamp", "BLINK"), ("filter-lamp", "OFF"),
            ("filter-door", "CLOSE"))]
        got = {subscription: [] for subscription in ids}
        for event in client.events(sum(len(wanted) for wanted in ids.values())):
            got[event["subscription_id"]].append(offsets.index(event["wal_offset"]))
        assert got == ids, (got, ids)
        assert quiet(client)


def watch_all__without_params__and_with_an_unknown_member__works(node):
    with node.rcp() as client:
        assert isinstance(client.call("WATCH_ALL")["wal_offset"], int)
        assert isinstance(client.call("WATCH_ALL", {"whatever": 1})["wal_offset"], int)


def order__event_of_the_own_request__follows_its_response(node):
    with node.rcp() as client:
        create(client, "order")
        data = b""
        for number in range(40):
            data += rcp.frame(rcp.request("APPLY_EVENT", {"instance_id": "order",
                                                          "event": "CLOSE" if number % 2 else "OPEN"}, str(number)))
        watch = rcp.frame(rcp.request("WATCH_INSTANCE", {"instance_id": "order"}, "w"))
        client.send_bytes(watch + data)
        answered, told = [], []
        while len(told) < 40:
            message = client.receive_message()
            if message["type"] == "response":
                if message["id"] == "w":
                    assert not answered and not told
                else:
                    answered.append(message["result"]["wal_offset"])
            else:
                told.append(message["wal_offset"])
                assert answered[:len(told)] == told, (answered, told)
        assert answered == told


def from_offset__watch_all__replays_and_goes_on_without_gap(node):
    with node.rcp() as writer, node.rcp() as client:
        create(writer, "replay")
        offsets = [apply(writer, "replay", "CLOSE" if n % 2 else "OPEN", {"n": n})["wal_offset"] for n in range(50)]
        begun = client.call("WATCH_ALL", {"from_offset": offsets[10], "machines": ["door"]})
        assert begun["wal_offset"] > offsets[-1], begun
        for number in range(50, 60):
            offsets.append(apply(writer, "replay", "CLOSE" if number % 2 else "OPEN", {"n": number})["wal_offset"])
        told = client.events(50)
        assert [event["wal_offset"] for event in told] == offsets[10:]
        assert [event["ctx"]["n"] for event in told] == list(range(10, 60))
        assert quiet(client)


def from_offset__watch_instance__zero_means_none_and_others_replay(node):
    with node.rcp() as client:
        create(client, "zero")
        offsets = [apply(client, "zero", "CLOSE" if n % 2 else "OPEN")["wal_offset"] for n in range(4)]
        client.call("WATCH_INSTANCE", {"instance_id": "zero", "include_ctx": False, "from_offset": 0})
        assert quiet(client)
        other = client.call("WATCH_INSTANCE", {"instance_id": "zero", "from_offset": 1})["subscription_id"]
        assert [event["wal_offset"] for event in client.events(4)] == offsets
        last = client.call("WATCH_INSTANCE", {"instance_id": "zero", "from_offset": offsets[2] + 1})["subscription_id"]
        event = client.event()
        assert (event["subscription_id"], event["wal_offset"]) == (last, offsets[3]), (event, other)
        client.call("WATCH_INSTANCE", {"instance_id": "zero", "from_offset": offsets[3] + 100})
        assert quiet(client)


def from_offset__in_the_future__waits_until_then(node):
    with node.rcp() as client:
        offset = create(client, "future")["wal_offset"]
        client.call("WATCH_INSTANCE", {"instance_id": "future", "from_offset": offset + 2})
        apply(client, "future", "OPEN")
        second = apply(client, "future", "CLOSE")
        assert client.event()["wal_offset"] == second["wal_offset"]


def batch__events_of_one_entry__are_told_apart_and_can_be_resumed_between(node):
    with node.rcp() as client, node.rcp() as writer:
        create(writer, "batch")
        first = client.call("WATCH_INSTANCE", {"instance_id": "batch"})["subscription_id"]
        writer.call("BATCH", {"mode": "atomic", "ops": [
            {"op": "APPLY_EVENT", "params": {"instance_id": "batch", "event": event}} for event in
            ("OPEN", "CLOSE", "OPEN")]})
        told = client.events(3)
        assert [event["event"] for event in told] == ["OPEN", "CLOSE", "OPEN"], told
        assert len({event["wal_offset"] for event in told}) == 1, told
        assert [event.get("number", 0) for event in told] == [0, 1, 2], told
        client.call("UNWATCH", {"subscription_id": first})
        client.call("WATCH_INSTANCE", {"instance_id": "batch", "from_offset": told[1]["wal_offset"],
                                       "from_number": told[1]["number"] + 1})
        assert client.event()["number"] == 2
        assert quiet(client)
        failed = writer.refusal("BATCH", {"mode": "atomic", "ops": [
            {"op": "APPLY_EVENT", "params": {"instance_id": "batch", "event": event}} for event in ("CLOSE", "NO")]})
        assert failed.code == "BAD_REQUEST"
        assert quiet(client)


def unwatch__known_and_unknown__say_whether_there_was_one(node):
    with node.rcp() as client, node.rcp() as other:
        create(client, "unwatch")
        name = client.call("WATCH_INSTANCE", {"instance_id": "unwatch"})["subscription_id"]
        assert other.call("UNWATCH", {"subscription_id": name}) == {"subscription_id": name, "removed": False}
        assert client.call("UNWATCH", {"subscription_id": name}) == {"subscription_id": name, "removed": True}
        assert client.call("UNWATCH", {"subscription_id": name}) == {"subscription_id": name, "removed": False}
        assert client.call("UNWATCH", {"subscription_id": "x"}) == {"subscription_id": "x", "removed": False}
        assert client.refusal("UNWATCH").code == "BAD_REQUEST"
        assert client.refusal("UNWATCH", {"subscription_id": 1}).code == "BAD_REQUEST"
        apply(client, "unwatch", "OPEN")
        assert quiet(client)


def subscriptions__hundred__are_the_limit_and_one_less_makes_room(node):
    with node.rcp() as client:
        create(client, "limit")
        names = [client.call("WATCH_INSTANCE", {"instance_id": "limit"})["subscription_id"] for _ in range(99)]
        # A refused one does not count, and one whose answer is under way does.
        assert client.refusal("WATCH_INSTANCE", {"instance_id": "nobody"}).code == "INSTANCE_NOT_FOUND"
        client.send("WATCH_ALL")
        client.send("WATCH_ALL")
        assert client.receive()["status"] == "ok"
        refused = client.receive()
        assert refused["error"]["code"] == "BAD_REQUEST" and not refused["error"]["retryable"], refused
        client.call("UNWATCH", {"subscription_id": names[0]})
        client.call("WATCH_ALL")
        assert client.refusal("WATCH_ALL").code == "BAD_REQUEST"
        apply(client, "limit", "OPEN")
        assert len({event["subscription_id"] for event in client.events(100)}) == 100
        assert quiet(client)


def bye__with_subscriptions__answers_and_nothing_follows(node):
    with node.rcp() as client, node.rcp() as writer:
        create(writer, "bye")
        client.call("WATCH_INSTANCE", {"instance_id": "bye"})
        client.send("BYE")
        assert client.receive()["result"] == {"goodbye": True}
        apply(writer, "bye", "OPEN")
        assert client.at_end() and not client.pushed


def lines__negotiated__events_are_lines(node):
    with socket.create_connection(node.rcp_address) as client, node.rcp() as writer:
        create(writer, "lines")
        file = client.makefile("rwb")

        def ask(op, params):
            file.write(json.dumps({"id": op, "op": op, "params": params}).encode() + b"\n")
            file.flush()
            return json.loads(file.readline())["result"]
        ask("HELLO", {"protocol_version": 1, "wire_modes": ["jsonl"]})
        name = ask("WATCH_INSTANCE", {"instance_id": "lines"})["subscription_id"]
        apply(writer, "lines", "OPEN")
        event = json.loads(file.readline())
        assert event["type"] == "event" and event["subscription_id"] == name, event


def slow_reader__of_megabytes__delays_nobody_and_gets_everything(node):
    with node.rcp() as writer, node.rcp() as slow, node.rcp() as quick:
        create(writer, "slow")
        slow.call("WATCH_INSTANCE", {"instance_id": "slow"})
        quick.call("WATCH_INSTANCE", {"instance_id": "slow", "include_ctx": False})
        text, offsets = "x" * 20000, []
        for number in range(500):
            applied = apply(writer, "slow", "CLOSE" if number % 2 else "OPEN", {"text": text, "n": number})
            offsets.append(applied["wal_offset"])
        assert [event["wal_offset"] for event in quick.events(500)] == offsets
        told = slow.events(500)
        assert [event["wal_offset"] for event in told] == offsets
        assert [event["payload"]["n"] for event in told] == list(range(500))
        # It was behind, and is not any more.
        offsets.append(apply(writer, "slow", "OPEN")["wal_offset"])
        assert slow.event()["wal_offset"] == offsets[-1]
        assert quiet(slow)


def idle__with_a_subscription__stays_and_without_is_closed(_):
    with Cluster(1, settings={"network.idle_timeout_secs": 1}) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as watcher, node.rcp() as idle:
            with node.rcp() as writer:
                create(writer, "idle")
            watcher.call("WATCH_INSTANCE", {"instance_id": "idle"})
            assert idle.at_end()
            with node.rcp() as writer:
                apply(writer, "idle", "OPEN")
            assert watcher.event()["event"] == "OPEN"
            watcher.call("UNWATCH", {"subscription_id": "none"})
        with node.rcp() as watcher:
            watcher.call("WATCH_ALL")
            node.stop()
            assert watcher.at_end()


def dropped_sockets__with_subscriptions__are_forgotten(node):
    with node.rcp() as client:
        create(client, "dropped")
        before = client.call("INFO")["stats"]["connections"]
        others = [node.rcp() for _ in range(20)]
        for other in others:
            for _ in range(5):
                other.call("WATCH_INSTANCE", {"instance_id": "dropped"})
        for other in others:
            other.close()
        apply(client, "dropped", "OPEN")
        wait_until(lambda: client.call("INFO")["stats"]["connections"] == before, "their connections are gone")
        apply(client, "dropped", "CLOSE")


def largest_event__of_both_halves__still_fits_a_message(node):
    with node.rcp() as client, node.rcp() as writer:
        create(writer, "large")
        client.call("WATCH_INSTANCE", {"instance_id": "large"})
        text = "y" * (8 * 1024 * 1024 - 100)
        apply(writer, "large", "OPEN", {"text": text})
        event = client.event()
        assert event["ctx"] == {"text": text}
        assert event["payload"] == {"text": text} or (event["payload"] is None and event["omitted"] is True)


def main():
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])


main()
