#!/usr/bin/env python3
"""The acceptance checklist of the state-machine protocol's specification (section 22), item by item, on real nodes.

A test's name begins with the number of its item, in the order of the list; items that name several things have several
tests. Those of other programs here go deeper; this one shows that each item of the list holds.
"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, program, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open", "guard": "ctx.key"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}
SWING = {"states": ["shut", "open"], "initial": "shut",
         "transitions": [{"from": "shut", "event": "OPEN", "to": "open"},
                         {"from": "open", "event": "CLOSE", "to": "shut"}]}
OPERATIONS = [
    "HELLO", "AUTH", "PING", "BYE", "INFO", "PUT_MACHINE", "GET_MACHINE", "LIST_MACHINES", "CREATE_INSTANCE",
    "GET_INSTANCE", "LIST_INSTANCES", "DELETE_INSTANCE", "APPLY_EVENT", "BATCH", "WATCH_INSTANCE", "WATCH_ALL",
    "UNWATCH", "SNAPSHOT_INSTANCE", "WAL_READ", "WAL_STATS", "COMPACT", "FLUSH_ALL"]
# What each operation needs besides an empty object; the others do without.
NEEDS_PARAMS = {"HELLO", "AUTH", "PUT_MACHINE", "GET_MACHINE", "CREATE_INSTANCE", "GET_INSTANCE", "DELETE_INSTANCE",
                "APPLY_EVENT", "BATCH", "WATCH_INSTANCE", "UNWATCH", "SNAPSHOT_INSTANCE", "WAL_READ", "FLUSH_ALL"}
PING = bytes.fromhex("5243505800010001000000000033c32009c47b2274797065223a22726571"
                     "75657374222c226964223a2231222c226f7022"
                     "3a2250494e47222c22706172616d73223a7b7d7d")
# V1..V12 of section 1.5: the frame, and how the answer begins (without meta); None: the connection is closed behind it.
VECTORS = [
    ("V1", "52435058000100010000000000a222a3d7277b2274797065223a22726571"
           "75657374222c226964223a2231222c226f70223a2248454c4c"
           "4f222c22706172616d73223a7b2270726f746f636f6c5f76657273696f6e"
           "223a312c22636c69656e745f6e616d65223a227273746d6462"
           "2d7079222c22776972655f6d6f646573223a5b2262696e6172795f6a736f"
           "6e225d2c226665617475726573223a5b226964656d706f7465"
           "6e6379222c226261746368225d7d7d", b'{"type":"response","id":"1","status":"ok","result":{'),
    ("V2", "524350580001000100000000005edcc21e2c7b2274797065223a22726571"
           "75657374222c226964223a2232222c226f70223a2241555448"
           "222c22706172616d73223a7b226d6574686f64223a22626561726572222c"
           "22746f6b656e223a226d792d7365637265742d746f6b656e22"
           "7d7d", b'{"type":"response","id":"2","status":"ok","result":{"authenticated":true'),
    ("V3", PING.hex(), b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("V4", "5243505800010000000000000033000000007b2274797065223a22726571"
           "75657374222c226964223a2231222c226f70223a2250494e47"
           "222c22706172616d73223a7b7d7d", b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("V5", "5243505800010001000400000033c32009c4deadbeef7b2274797065223a"
           "2272657175657374222c226964223a2231222c226f70223a22"
           "50494e47222c22706172616d73223a7b7d7d", b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("V6", "524350580001000100000000002715f193b17b2274797065223a22726571"
           "75657374222c226964223a2231222c226f70223a2250494e47"
           "227d", b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("V7", "524350580001000100000000000d1ce5bab97b226f70223a2250494e47227d",
     b'{"type":"response","id":"","status":"ok","result":{"pong":true}'),
    ("V11", "524350580001000100000000004a265aee797b2274797065223a22726571"
            "75657374222c226964223a2234222c226f70223a22574154"
            "43485f414c4c222c22706172616d73223a7b22696e636c7564655f637478223a747275657d7d",
     b'{"type":"response","id":"4","status":"ok","result":{'),
    ("V12", "524350580001000100000000000000000000",
     b'{"type":"response","id":"","status":"error","error":{"code":"BAD_REQUEST",'),
]
# V8, V9 and V10: what a server sends. Payload, and its checksum.
SENT = [
    ('{"type":"response","id":"1","status":"ok","result":{"pong":true}}', 0x4B7B432F),
    ('{"type":"response","id":"3","status":"error","error":{"code":"UNAUTHORIZED","message":"authentication required",'
     '"retryable":false}}', 0x4249807C),
    ('{"type":"event","subscription_id":"sub-1","instance_id":"d1","machine":"door","version":1,"wal_offset":7,'
     '"from_state":"shut","to_state":"open","event":"OPEN","payload":null}', 0xACC4E66C),
]


def put(client, machine="door", version=1, definition=None):
    return client.call("PUT_MACHINE", {"machine": machine, "version": version, "definition": definition or DOOR})


def create(client, instance, ctx=None, machine="door", **more):
    put(client, machine, 1, DOOR if machine == "door" else SWING)
    params = {"machine": machine, "version": 1, "instance_id": instance, **more}
    if ctx is not None:
        params["initial_ctx"] = ctx
    return client.call("CREATE_INSTANCE", params)


def apply(client, instance, event, **more):
    return client.call("APPLY_EVENT", {"instance_id": instance, "event": event, **more})


def contents(client):
    """Everything that can be read of the state."""
    machines = {item["machine"]: [client.call("GET_MACHINE", {"machine": item["machine"], "version": version})
                                  for version in item["versions"]] for item in client.call("LIST_MACHINES")["items"]}
    listed, instances = client.call("LIST_INSTANCES", {"limit": 1000})["instances"], {}
    for entry in listed:
        instances[entry["id"]] = (entry, client.call("GET_INSTANCE", {"instance_id": entry["id"]}))
    return machines, [entry["id"] for entry in listed], instances


def no_event(client):
    """Nothing is pushed: what was before this request would have come before its answer."""
    client.call("PING")
    return not client.pushed


# ---- 1: vectors V1-V12 and the negative variants; two frames in one segment; a frame split at every byte boundary ----

def item01_vectors__v1_to_v12__byte_for_byte(node):
    with node.rcp(hello=False) as client:
        for name, data, wanted in VECTORS:
            client.send_bytes(bytes.fromhex(data))
            payload = client.receive_payload()
            assert payload.startswith(wanted), (name, payload)
        assert client.at_end()
    for payload, crc in SENT:
        assert rcp.crc32c(payload.encode()) == crc, payload
        rcp.check_response(json.loads(payload)) if '"response"' in payload else rcp.check_pushed(json.loads(payload))
    assert rcp.crc32c(b"123456789") == 0xE3069283 and rcp.crc32c(b"") == 0 and rcp.crc32c(b"{}") == 0x297BD0AA


def item01_vectors__negative_variants__close(node):
    def changed(at, text):
        data = bytearray(PING)
        data[at:at + len(text) // 2] = bytes.fromhex(text)
        return bytes(data)
    for name, data in (("magic", changed(3, "31")), ("version", changed(4, "0002")),
                       ("reserved bit", changed(6, "0011")), ("crc", changed(14, "c4")),
                       ("16 MiB + 1", changed(10, "01000001"))):
        with node.rcp(hello=False) as client:
            client.send_bytes(PING + data)
            assert client.receive()["result"] == {"pong": True}, name
            answer = client.receive()
            code = "UNSUPPORTED_PROTOCOL" if name == "version" else "BAD_REQUEST"
            assert answer["id"] == "" and answer["error"]["code"] == code, (name, answer)
            assert client.at_end(), name


def item01_vectors__two_frames_in_one_segment_and_split_everywhere__are_answered(node):
    with node.rcp(hello=False) as client:
        client.send_bytes(PING + PING)
        assert [client.receive()["result"] for _ in range(2)] == [{"pong": True}] * 2
        for at in range(1, len(PING)):
            client.send_bytes(PING[:at])
            client.send_bytes(PING[at:])
            assert client.receive()["result"] == {"pong": True}, at


# ---- 2: request without type/id/params; null params on every op; unknown op keeps the connection ----

def item02_requests__without_type_id_params__are_answered(node):
    with node.rcp() as client:
        for payload in (b'{"op":"PING"}', b'{"op":"LIST_MACHINES"}', b'{"op":"LIST_INSTANCES"}', b'{"op":"INFO"}'):
            client.send_bytes(rcp.frame(payload))
            answer = client.receive()
            assert answer["status"] == "ok" and answer["id"] == "", (payload, answer)


def item02_requests__null_or_no_params_on_every_op__mean_an_empty_object(node):
    for params in ('"params":null', '"x":1', '"params":{}'):
        for op in OPERATIONS:
            with node.rcp() as client:
                client.send_bytes(rcp.frame(('{"id":"n","op":"%s",%s}' % (op, params)).encode()))
                answer = client.receive()
                assert answer["id"] == "n", (op, answer)
                if op in NEEDS_PARAMS:
                    assert answer["error"]["code"] == "BAD_REQUEST" and not answer["error"]["retryable"], (op, answer)
                else:
                    assert answer["status"] == "ok", (op, answer)


def item02_requests__unknown_op__keeps_the_connection(node):
    with node.rcp() as client:
        for op in ("NO_SUCH_OP", "ping", ""):
            refused = client.refusal(op)
            assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        assert client.call("PING") == {"pong": True}


# ---- 3: HELLO union result; version 2 -> UNSUPPORTED_PROTOCOL; op before HELLO refused; PING cold works ----

def item03_hello__union_result_wrong_version_and_before_it__as_specified(node):
    with node.rcp(hello=False) as client:
        assert client.call("PING") == {"pong": True}
        for op in OPERATIONS:
            if op not in ("HELLO", "PING", "BYE"):
                assert client.refusal(op, {"token": "x"}).code == "BAD_REQUEST", op
        assert client.refusal("HELLO", {"protocol_version": 2}).code == "UNSUPPORTED_PROTOCOL"
        result = client.call("HELLO", {"protocol_version": 1, "wire_modes": ["jsonl", "binary_json"],
                                       "features": ["batch"]})
        assert result["protocol_version"] == 1 and result["wire_mode"] == "binary_json", result
        assert isinstance(result["server_name"], str) and isinstance(result["server_version"], str), result
        assert result["auth_required"] is False, result
        assert set(result["features"]) >= {"subscriptions", "batch", "idempotency", "wal_read"}, result
        assert result["limits"] == {"max_frame_size": 16777216, "max_instances_per_list": 1000,
                                    "max_subscriptions": 100}, result


# ---- 4: AUTH without method; permissions; WATCH_* refused before AUTH; PING/BYE allowed before AUTH ----

def item04_auth__without_method_permissions_and_what_is_allowed_before__as_specified(node):
    del node
    config = "auth: {required: true, token_hashes: [EA5ADD57437CBF20AF59034D7ED17968DCC56767B41965FCC5B376D45DB8B4A3]}"
    with Cluster(1, config=config) as cluster, cluster.nodes[0].rcp() as client:
        assert client.hello["auth_required"] is True
        for op in OPERATIONS:
            if op not in ("HELLO", "PING", "BYE", "AUTH"):
                assert client.refusal(op, {"instance_id": "x"}).code == "UNAUTHORIZED", op
        assert client.call("PING") == {"pong": True}
        assert client.refusal("AUTH", {"token": "wrong"}).code == "AUTH_FAILED"
        assert client.refusal("AUTH", {"token": "my-secret-token", "method": "basic"}).code == "AUTH_FAILED"
        result = client.call("AUTH", {"token": "my-secret-token"})
        assert result == {"authenticated": True, "permissions": ["read", "write", "admin"]}, result
        client.call("WATCH_ALL")
        with cluster.nodes[0].rcp() as other:
            assert other.call("BYE") == {"goodbye": True} and other.at_end()


# ---- 5: definition errors are BAD_REQUEST/false; re-put created:false; checksum vectors ----

def item05_definitions__invalid__are_bad_requests_that_are_not_retryable(node):
    good = {"states": ["a", "b"], "initial": "a", "transitions": []}
    bad = [
        {"states": ["a"], "transitions": []}, {"initial": "a", "transitions": []}, {"states": ["a"], "initial": "a"},
        {**good, "initial": "x"}, {**good, "states": []}, {**good, "states": "a"}, {**good, "states": [1]},
        {**good, "transitions": {}}, {**good, "transitions": [{"from": "a", "event": "E"}]},
        {**good, "transitions": [{"from": "a", "event": "E", "to": "x"}]},
        {**good, "transitions": [{"from": "x", "event": "E", "to": "a"}]},
        {**good, "transitions": [{"from": ["a", "x"], "event": "E", "to": "a"}]},
        {**good, "transitions": [{"from": "a", "event": "E", "to": "b", "guard": "true"}]},
        {**good, "transitions": [{"from": "a", "event": "E", "to": "b", "guard": ""}]},
        {**good, "transitions": [{"from": "a", "event": "E", "to": "b"}, {"from": "a", "event": "E", "to": "a"}]},
        [], "text", 5,
    ]
    with node.rcp() as client:
        for definition in bad:
            refused = client.refusal("PUT_MACHINE", {"machine": "bad", "version": 1, "definition": definition})
            assert refused.code == "BAD_REQUEST" and not refused.retryable, (definition, refused)
        refused = client.refusal("PUT_MACHINE", {"machine": "bad", "version": 1,
                                                 "definition": {**good, "initial": "x"}})
        assert "initial state 'x' not in states list" in refused.message, refused
        assert client.refusal("GET_MACHINE", {"machine": "bad", "version": 1}).code == "MACHINE_NOT_FOUND"


def item05_definitions__put_again_and_checksums__as_specified(node):
    vectors = [
        ({"states": ["a"], "initial": "a", "transitions": []}, "6b16bc3e"),
        ({"states": ["shut", "open"], "initial": "shut", "transitions": [], "meta": {"b": "x", "a": 1}}, "d509000e"),
        (DOOR, "d6840009"),
    ]
    with node.rcp() as client:
        for version, (definition, checksum) in enumerate(vectors, 1):
            params = {"machine": "checksums", "version": version, "definition": definition}
            assert client.call("PUT_MACHINE", params) == {
                "machine": "checksums", "version": version, "stored_checksum": checksum, "created": True}
            assert client.call("PUT_MACHINE", params)["created"] is False
        again = {**DOOR, "transitions": [{**one, "from": [one["from"]]} for one in DOOR["transitions"]], "extra": 1}
        assert put(client, "checksums", 3, again)["created"] is False
        refused = client.refusal("PUT_MACHINE", {"machine": "checksums", "version": 3, "definition": SWING})
        assert refused.code == "MACHINE_VERSION_EXISTS" and not refused.retryable, refused


# ---- 6: guard table rows 1-45; UTF-8 in guards; deep nesting refused ----

GUARDS = [
    (1, "ctx.a", {"a": True}, True), (2, "ctx.a", {}, False), (3, "ctx.a", {"a": 0}, False),
    (4, "ctx.a", {"a": "false"}, True), (5, "ctx.a", {"a": []}, False), (6, "ctx.a", {"a": [0]}, True),
    (7, "ctx.a", {"a": {}}, False), (8, "ctx.a", None, False), (9, "ctx.a.b.c", {"a": {"b": {"c": 1}}}, True),
    (10, "ctx.a.b", {"a": 5}, False), (11, "ctx.a.length", {"a": [1, 2]}, False),
    (12, "ctx.a.0", {"a": {"0": 1}}, True), (13, "ctx.a == null", {}, True),
    (14, "ctx.a == null", {"a": False}, False), (15, "ctx.a != null", {}, False), (16, "ctx.a == false", {}, False),
    (17, "ctx.a == 0", {}, False), (18, "ctx.a != 5", {}, True), (19, "ctx.a == true", {"a": 1}, False),
    (20, 'ctx.a == "5"', {"a": 5}, False), (21, "ctx.a == 5", {"a": 5.0}, True),
    (22, "ctx.a == 0.3", {"a": 0.30000000000000004}, True), (23, "ctx.a == 1", {"a": 1.0000000000000002}, False),
    (24, "ctx.a == 9007199254740992", {"a": 9007199254740993}, True), (25, "ctx.a < 5", {}, False),
    (26, "ctx.a <= 0", {"a": None}, False), (27, "ctx.a >= 5", {"a": "9"}, False), (28, "ctx.a>5", {"a": 6}, True),
    (29, "ctx.a > -5", {"a": 0}, True), (30, "ctx.a > .5", {"a": 0.6}, True),
    (31, "ctx.a || ctx.b && ctx.c", {"a": 1, "b": 0, "c": 0}, True),
    (32, "(ctx.a || ctx.b) && ctx.c", {"a": 1, "b": 0, "c": 0}, False), (33, "!ctx.a", {}, True),
    (34, "!!ctx.a", {"a": 1}, True), (35, "!ctx.a == 5", {"a": 5}, False), (36, "!ctx.a == 5", {"a": 6}, True),
    (37, "! ctx.a && ctx.b", {"a": 0, "b": 1}, True), (38, 'ctx.a == "x\\"y"', {"a": 'x\\"y'}, True),
    (39, "ctx..a", {"": {"a": 1}}, True),
]
BAD_GUARDS = [
    (40, 'ctx.a > "5"'), (40, "ctx.a == ctx.b"), (40, "ctx.a === 5"), (40, "ctx.a > +5"), (40, "ctx.a > - 5"),
    (40, "ctx.a == 'x'"), (40, "ctx.a == True"), (40, "ctx.a == [1]"), (41, "5 < ctx.a"), (41, "true"), (41, "CTX.a"),
    (41, "ctx"), (41, "ctx.a &&"), (41, "&& ctx.a"), (42, "ctx."), (42, "ctx. a"), (43, "(ctx.a"),
    (44, 'ctx.a == "x'), (45, ""), (45, "  "),
]


def guarded(guard):
    return {"states": ["a", "b"], "initial": "a",
            "transitions": [{"from": "a", "event": "E", "to": "b", "guard": guard}]}


def item06_guards__rows_1_to_39__decide_as_the_table_says(node):
    with node.rcp() as client:
        for row, guard, ctx, wanted in GUARDS:
            put(client, "guard", row, guarded(guard))
            params = {"machine": "guard", "version": row, "instance_id": "guard-%d" % row}
            client.call("CREATE_INSTANCE", params if ctx is None else {**params, "initial_ctx": ctx})
            try:
                taken = apply(client, "guard-%d" % row, "E")["to_state"] == "b"
            except rcp.Refused as refused:
                assert refused.code == "GUARD_FAILED" and not refused.retryable, (row, refused)
                taken = False
            assert taken is wanted, (row, guard, ctx)


def item06_guards__rows_40_to_45__are_parse_errors(node):
    with node.rcp() as client:
        for row, guard in BAD_GUARDS:
            refused = client.refusal("PUT_MACHINE", {"machine": "bad-guard", "version": 1,
                                                     "definition": guarded(guard)})
            assert refused.code == "BAD_REQUEST" and "invalid guard expression" in refused.message, (row, refused)


def item06_guards__utf8_and_deep_nesting__work_and_are_refused(node):
    with node.rcp() as client:
        put(client, "guard-utf8", 1, guarded('ctx.größe == "groß €" && ctx.n > 1'))
        client.call("CREATE_INSTANCE", {"machine": "guard-utf8", "version": 1, "instance_id": "utf8",
                                        "initial_ctx": {"größe": "groß €", "n": 2}})
        assert apply(client, "utf8", "E")["to_state"] == "b"
        for deep in ("(" * 100 + "ctx.a" + ")" * 100, "!" * 5000 + "ctx.a", "(" * 100000 + "ctx.a"):
            refused = client.refusal("PUT_MACHINE", {"machine": "deep", "version": 1, "definition": guarded(deep)})
            assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        for broken in ('ctx.a == "x\\', "ctx.a > " + "9" * 400):
            assert client.refusal("PUT_MACHINE", {"machine": "deep", "version": 1,
                                                  "definition": guarded(broken)}).code == "BAD_REQUEST", broken[:20]


# ---- 7: create without context, apply with payload, get: ctx is the payload ----

def item07_context__created_without_applied_with_payload__is_the_payload(node):
    with node.rcp() as client:
        for number, params in enumerate(({}, {"initial_ctx": None}, {"initial_ctx": {}})):
            name = "context-%d" % number
            create(client, name, machine="swing", **params)
            assert client.call("GET_INSTANCE", {"instance_id": name})["ctx"] == {}
            payload = {"by": "ada", "n": {"deep": [1, 2.0, None]}}
            assert apply(client, name, "OPEN", payload=payload)["ctx"] == payload
            assert client.call("GET_INSTANCE", {"instance_id": name})["ctx"] == payload


# ---- 8: guard sees the pre-merge context; expected_state, then expected_wal_offset, then transition, then guard ----

def item08_apply__guard_and_order_of_checks__as_specified(node):
    with node.rcp() as client:
        offset = create(client, "order")["wal_offset"]
        refused = client.refusal("APPLY_EVENT", {"instance_id": "order", "event": "OPEN", "payload": {"key": True}})
        assert refused.code == "GUARD_FAILED", refused
        assert client.call("GET_INSTANCE", {"instance_id": "order"})["ctx"] == {}
        wrong = {"instance_id": "order", "event": "CLOSE", "expected_state": "open", "expected_wal_offset": offset + 9}
        refused = client.refusal("APPLY_EVENT", wrong)
        assert refused.code == "CONFLICT" and refused.message.startswith("state conflict"), refused
        refused = client.refusal("APPLY_EVENT", {**wrong, "expected_state": "shut"})
        assert refused.code == "CONFLICT" and "offset" in refused.message and not refused.retryable, refused
        right = {"instance_id": "order", "expected_state": "shut", "expected_wal_offset": offset}
        assert client.refusal("APPLY_EVENT", {**right, "event": "CLOSE"}).code == "INVALID_TRANSITION"
        assert client.refusal("APPLY_EVENT", {**right, "event": "OPEN"}).code == "GUARD_FAILED"


# ---- 9: idempotent create (with and without id), apply, delete; across restart; no second event; other instance ----

def item09_idempotency__every_write__answers_the_first_result_also_after_a_restart(node):
    del node
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as client:
            put(client, "swing", 1, SWING)
            requests = [
                ("CREATE_INSTANCE", {"machine": "swing", "version": 1, "instance_id": "i", "idempotency_key": "k"}),
                ("CREATE_INSTANCE", {"machine": "swing", "version": 1, "idempotency_key": "k"}),
                ("APPLY_EVENT", {"instance_id": "i", "event": "OPEN", "event_id": "e", "idempotency_key": "k"}),
            ]
            client.call("WATCH_ALL")
            first = [client.call(*request) for request in requests]
            assert client.event()["event"] == "OPEN"
            assert [client.call(*request) for request in requests] == first
            assert no_event(client)
            total = client.call("LIST_INSTANCES")["total"]
            other = client.call("CREATE_INSTANCE", {"machine": "swing", "version": 1, "instance_id": "o"})
            done = client.call("APPLY_EVENT", {**requests[2][1], "instance_id": "o"})
            assert done["wal_offset"] > other["wal_offset"] and done != first[2], (done, first)
            requests.append(("DELETE_INSTANCE", {"instance_id": "o", "idempotency_key": "k"}))
            first.append(client.call(*requests[3]))
            assert client.call(*requests[3]) == first[3]
        for stop in (node.stop, node.kill):
            stop()
            node.start()
            with node.rcp() as client:
                assert [client.call(*request) for request in requests] == first
                assert client.call("LIST_INSTANCES")["total"] == total


# ---- 10: delete: get/apply/watch -> INSTANCE_NOT_FOUND; second delete ok; re-create works ----

def item10_delete__hides_repeats_and_makes_room__as_specified(node):
    with node.rcp() as client:
        create(client, "deleted", {"key": True}, machine="swing")
        first = client.call("DELETE_INSTANCE", {"instance_id": "deleted"})
        assert first["deleted"] is True, first
        for op, more in (("GET_INSTANCE", {}), ("APPLY_EVENT", {"event": "OPEN"}), ("WATCH_INSTANCE", {}),
                         ("SNAPSHOT_INSTANCE", {})):
            refused = client.refusal(op, {"instance_id": "deleted", **more})
            assert refused.code == "INSTANCE_NOT_FOUND" and "not found" in refused.message, (op, refused)
        assert client.call("DELETE_INSTANCE", {"instance_id": "deleted"}) == first
        assert client.refusal("DELETE_INSTANCE", {"instance_id": "never"}).code == "INSTANCE_NOT_FOUND"
        assert create(client, "deleted", machine="swing")["wal_offset"] > first["wal_offset"]
        assert client.call("GET_INSTANCE", {"instance_id": "deleted"})["ctx"] == {}


# ---- 11: list: clamp 1000, limit 0, has_more, stable order ----

def item11_list__clamp_limit_has_more_and_order__as_specified(node):
    with node.rcp() as client:
        put(client, "many", 1, SWING)
        for base in range(0, 1010, 101):
            client.call("BATCH", {"ops": [{"op": "CREATE_INSTANCE", "params": {
                "machine": "many", "version": 1, "instance_id": "many-%04d" % (1009 - number)}}
                for number in range(base, base + 100)]})
            client.call("CREATE_INSTANCE", {"machine": "many", "version": 1,
                                            "instance_id": "many-%04d" % (1009 - base - 100)})
        page = client.call("LIST_INSTANCES", {"machine": "many", "limit": 100000})
        assert len(page["instances"]) == 1000 and page["total"] == 1010 and page["has_more"] is True, page["total"]
        names = [entry["id"] for entry in page["instances"]]
        assert names == ["many-%04d" % (1009 - number) for number in range(1000)], names[:5]
        assert len(client.call("LIST_INSTANCES", {"machine": "many"})["instances"]) == 100
        page = client.call("LIST_INSTANCES", {"machine": "many", "limit": 0})
        assert page["instances"] == [] and page["has_more"] is True, page
        page = client.call("LIST_INSTANCES", {"machine": "many", "offset": 1000})
        assert len(page["instances"]) == 10 and page["has_more"] is False, page
        apply(client, names[5], "OPEN")
        again = client.call("LIST_INSTANCES", {"machine": "many", "limit": 1000})["instances"]
        assert [entry["id"] for entry in again] == names


# ---- 12: batch: 100 ok, 101 refused; best_effort mix; atomic failure leaves no trace and emits no event ----

def item12_batch__hundred_and_one_more__are_taken_and_refused(node):
    with node.rcp() as client:
        put(client, "swing", 1, SWING)
        ops = [{"op": "CREATE_INSTANCE", "params": {"machine": "swing", "version": 1}}] * 100
        results = client.call("BATCH", {"ops": ops})["results"]
        assert len(results) == 100 and all(result["status"] == "ok" for result in results)
        refused = client.refusal("BATCH", {"ops": ops + ops[:1]})
        assert refused.code == "BAD_REQUEST" and "101" in refused.message and "100" in refused.message, refused
        assert client.call("BATCH", {"ops": []})["results"] == []


def item12_batch__best_effort__runs_every_item(node):
    with node.rcp() as client:
        create(client, "mix", machine="swing")
        results = client.call("BATCH", {"mode": "best_effort", "ops": [
            {"op": "APPLY_EVENT", "params": {"instance_id": "mix", "event": "OPEN"}},
            {"op": "APPLY_EVENT", "params": {"instance_id": "mix", "event": "OPEN"}},
            {"op": "DELETE_INSTANCE", "params": {"instance_id": "no such"}},
            {"op": "APPLY_EVENT", "params": {"instance_id": "mix", "event": "CLOSE"}}]})["results"]
        assert [result["status"] for result in results] == ["ok", "error", "error", "ok"], results
        assert [result["error"]["code"] for result in results[1:3]] == ["INVALID_TRANSITION", "INSTANCE_NOT_FOUND"]
        assert results[0]["error"] is None and results[1]["result"] is None, results
        assert client.call("GET_INSTANCE", {"instance_id": "mix"})["state"] == "shut"


def item12_batch__atomic_that_fails__leaves_no_trace_and_no_event(node):
    with node.rcp() as client:
        create(client, "atomic", machine="swing")
        before = client.call("GET_INSTANCE", {"instance_id": "atomic"})
        last = client.call("WAL_STATS")["entry_count"]
        client.call("WATCH_ALL")
        ops = [{"op": "APPLY_EVENT", "params": {"instance_id": "atomic", "event": "OPEN", "idempotency_key": "a"}},
               {"op": "CREATE_INSTANCE", "params": {"machine": "swing", "version": 1, "instance_id": "atomic-2"}},
               {"op": "APPLY_EVENT", "params": {"instance_id": "atomic", "event": "OPEN"}}]
        refused = client.refusal("BATCH", {"mode": "atomic", "ops": ops})
        assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        assert refused.details["index"] == 2 and refused.details["code"] == "INVALID_TRANSITION", refused.details
        assert client.call("GET_INSTANCE", {"instance_id": "atomic"}) == before
        assert client.refusal("GET_INSTANCE", {"instance_id": "atomic-2"}).code == "INSTANCE_NOT_FOUND"
        assert client.call("WAL_STATS")["entry_count"] == last and no_event(client)
        results = client.call("BATCH", {"mode": "atomic", "ops": ops[:2]})["results"]
        assert [result["status"] for result in results] == ["ok", "ok"], results
        assert client.event()["to_state"] == "open"


# ---- 13: watch: filters; include_ctx; order; slow reader; 101st; Java's from_offset 0 ----

def item13_watch__filters_and_or_and_without_ctx__as_specified(node):
    with node.rcp() as client, node.rcp() as writer:
        for name in ("f-1", "f-2"):
            create(writer, name, machine="filter-a")
        create(writer, "f-3", machine="filter-b")
        client.call("WATCH_ALL", {"machines": ["filter-a", "none"], "events": ["OPEN"], "from_states": ["shut"],
                                  "to_states": ["open", "gone"], "include_ctx": False})
        client.call("WATCH_INSTANCE", {"instance_id": "f-3"})
        for name in ("f-1", "f-3", "f-2"):
            apply(writer, name, "OPEN", payload={"n": name})
            apply(writer, name, "CLOSE")
        events = client.events(4)
        assert [(event["instance_id"], event["event"]) for event in events] == [
            ("f-1", "OPEN"), ("f-3", "OPEN"), ("f-3", "CLOSE"), ("f-2", "OPEN")], events
        assert "ctx" not in events[0] and events[1]["ctx"] == {"n": "f-3"}, events
        assert events[0]["payload"] == {"n": "f-1"} and events[2]["payload"] is None, events
        assert no_event(client)


def item13_watch__response_before_events_and_after_the_own_request__in_order(node):
    with node.rcp() as client:
        create(client, "ordered", machine="swing")
        data = [rcp.frame(rcp.request("WATCH_INSTANCE", {"instance_id": "ordered"}, "w"))]
        data += [rcp.frame(rcp.request("APPLY_EVENT", {"instance_id": "ordered", "event": event}, "a"))
                 for event in ("OPEN", "CLOSE", "OPEN")]
        client.send_bytes(b"".join(data))
        seen = [client.receive_message() for _ in range(7)]
        assert seen[0]["id"] == "w" and seen[0]["result"]["current_state"] == "shut", seen[0]
        answers = [message["result"]["wal_offset"] for message in seen[1:] if message["type"] == "response"]
        for position, message in enumerate(seen):
            if message["type"] == "event":
                answered = [one["result"]["wal_offset"] for one in seen[1:position] if one["type"] == "response"]
                assert message["wal_offset"] in answered, seen
        assert [message["wal_offset"] for message in seen if message["type"] == "event"] == answers


def item13_watch__slow_reader__blocks_no_writer_and_loses_nothing(node):
    with node.rcp() as client, node.rcp() as writer:
        create(writer, "slow", machine="swing")
        client.call("WATCH_INSTANCE", {"instance_id": "slow"})
        offsets = [apply(writer, "slow", "CLOSE" if number % 2 else "OPEN", payload={"fill": "x" * 30000})["wal_offset"]
                   for number in range(400)]
        # Twelve megabytes and their contexts: far more than the sockets between the two take.
        assert [event["wal_offset"] for event in client.events(400)] == offsets


def item13_watch__101st_subscription__is_refused(node):
    with node.rcp() as client:
        ids = {client.call("WATCH_ALL")["subscription_id"] for _ in range(100)}
        assert len(ids) == 100
        refused = client.refusal("WATCH_ALL")
        assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        assert client.call("UNWATCH", {"subscription_id": ids.pop()})["removed"] is True
        client.call("WATCH_ALL")


def item13_watch__javas_from_offset_0_on_an_instance__gives_no_replay(node):
    with node.rcp() as client:
        create(client, "java", machine="swing")
        apply(client, "java", "OPEN")
        client.call("WATCH_INSTANCE", {"instance_id": "java", "include_ctx": False, "from_offset": 0})
        assert no_event(client)
        apply(client, "java", "CLOSE")
        assert client.event()["event"] == "CLOSE"
        with node.rcp() as other:
            other.call("WATCH_INSTANCE", {"instance_id": "java", "from_offset": 1})
            assert [event["event"] for event in other.events(2)] == ["OPEN", "CLOSE"]


# ---- 14: WAL_READ: every entry type; empty page omits next_offset; multi-page walk over more than 16 MiB ----

ENTRY_MEMBERS = {
    "put_machine": {"machine", "version", "definition_hash", "definition"},
    "create_instance": {"instance_id", "machine", "version", "initial_state", "initial_ctx"},
    "apply_event": {"instance_id", "event", "from_state", "to_state", "payload", "ctx"},
    "delete_instance": {"instance_id"},
    "flush_all": set(),
}


def item14_wal_read__every_entry_type_and_an_empty_page__as_specified(node):
    del node
    with Cluster(1, settings={"storage.allow_flush_all": "true"}) as cluster, cluster.nodes[0].rcp() as client:
        assert "next_offset" not in client.call("WAL_READ", {"from_offset": 0})
        create(client, "w", {"a": 1}, machine="swing", idempotency_key="c")
        apply(client, "w", "OPEN", payload={"b": 2}, event_id="e", idempotency_key="k")
        apply(client, "w", "CLOSE")
        client.call("DELETE_INSTANCE", {"instance_id": "w", "idempotency_key": "d"})
        client.call("FLUSH_ALL")
        page = client.call("WAL_READ", {"from_offset": 0})
        entries = [record["entry"] for record in page["records"]]
        assert [entry["type"] for entry in entries] == ["put_machine", "create_instance", "apply_event", "apply_event",
                                                        "delete_instance", "flush_all"], entries
        for entry in entries:
            assert ENTRY_MEMBERS[entry["type"]] <= set(entry), entry
            assert isinstance(entry["timestamp"], int) and entry["timestamp"] > 1600000000000, entry
        assert entries[1]["initial_ctx"] == {"a": 1} and entries[1]["idempotency_key"] == "c", entries[1]
        assert entries[2]["payload"] == {"b": 2} and entries[2]["ctx"] == {"a": 1, "b": 2}, entries[2]
        assert entries[2]["event_id"] == "e" and entries[2]["idempotency_key"] == "k", entries[2]
        assert entries[3]["payload"] is None and "event_id" not in entries[3], entries[3]
        assert [record["sequence"] for record in page["records"]] == [1, 2, 3, 4, 5, 6]
        offsets = [record["offset"] for record in page["records"]]
        assert offsets == sorted(set(offsets)) and page["next_offset"] == offsets[-1] + 1, page
        empty = client.call("WAL_READ", {"from_offset": page["next_offset"]})
        assert empty == {"records": []}, empty
        one = client.call("WAL_READ", {"from_offset": offsets[2], "limit": 1})
        assert [record["offset"] for record in one["records"]] == [offsets[2]], one
        for bad in ({}, {"from_offset": -1}, {"from_offset": "0"}, {"from_offset": 1.5}):
            assert client.refusal("WAL_READ", bad).code == "BAD_REQUEST", bad


def item14_wal_read__more_than_16_mib__is_walked_in_pages(node):
    with node.rcp(timeout=120) as client:
        start = create(client, "wal-big", machine="swing")["wal_offset"]
        written = []
        for number in range(25):
            fill = {"fill": ("%d" % (number % 10)) * 800000}
            written.append(apply(client, "wal-big", "CLOSE" if number % 2 else "OPEN", payload=fill)["wal_offset"])
        offset, found, pages = start, [], 0
        while True:
            page = client.call("WAL_READ", {"from_offset": offset, "limit": 10000})
            found += [record["offset"] for record in page["records"]]
            pages += 1
            if not page["records"]:
                break
            assert page["next_offset"] == found[-1] + 1, page["next_offset"]
            offset = page["next_offset"]
        assert found == [start] + written and pages >= 4, (len(found), pages)


# ---- 15: COMPACT then kill -9 then restart: identical state; torn tail survives two restarts ----

def item15_compact__then_killed_and_started__state_is_identical(node):
    del node
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as client:
            for number in range(20):
                create(client, "c-%d" % number, {"n": number}, machine="swing")
                apply(client, "c-%d" % number, "OPEN", payload={"m": number}, idempotency_key="k")
            client.call("DELETE_INSTANCE", {"instance_id": "c-3"})
            repeated = apply(client, "c-5", "OPEN", idempotency_key="k")
            before = contents(client)
            for force in (False, True):
                result = client.call("COMPACT", {"force_snapshot": force})
                for name in ("snapshots_created", "segments_deleted", "bytes_reclaimed", "total_snapshots",
                             "wal_segments"):
                    assert isinstance(result[name], int) and result[name] >= 0, result
            assert contents(client) == before
        for _ in range(2):
            node.kill()
            node.start()
            with node.rcp() as client:
                assert contents(client) == before
                assert apply(client, "c-5", "OPEN", idempotency_key="k") == repeated


def item15_torn_tail__survives_two_restarts__with_everything_acknowledged(node):
    del node
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as client:
            for number in range(50):
                create(client, "t-%d" % number, machine="swing")
            before = contents(client)
        for torn in range(2):
            node.kill()
            folder = os.path.join(node.folder, "data", "log")
            segment = max((os.path.join(folder, name) for name in os.listdir(folder) if os.path.getsize(
                os.path.join(folder, name)) > 4096), key=os.path.getmtime)
            with open(segment, "r+b") as file:
                data = file.read()
                end = len(data.rstrip(b"\0"))
                file.seek(end + (-end) % 8)
                file.write(data[max(0, end - 64):end][:20])
            node.start()
            with node.rcp() as client:
                assert contents(client) == before
                apply(client, "t-%d" % torn, "OPEN")
                before = contents(client)
        node.stop()
        node.start()
        with node.rcp() as client:
            assert contents(client) == before


# ---- 16: FLUSH_ALL disabled/enabled/after restart ----

def item16_flush_all__disabled__is_a_bad_request_that_names_the_setting(node):
    with node.rcp() as client:
        refused = client.refusal("FLUSH_ALL")
        assert refused.code == "BAD_REQUEST" and not refused.retryable, refused
        assert "disabled" in refused.message and "allow_flush_all" in refused.message, refused


def item16_flush_all__enabled__empties_for_good_also_after_a_restart(node):
    del node
    with Cluster(1, settings={"storage.allow_flush_all": "true"}) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as client:
            last = create(client, "flushed", machine="swing", idempotency_key="k")["wal_offset"]
            result = client.call("FLUSH_ALL")
            assert result["flushed"] is True and result["instances_removed"] == 1, result
            assert result["machines_removed"] == 1, result
        node.kill()
        node.start()
        with node.rcp() as client:
            assert contents(client) == ({}, [], {})
            assert client.refusal("GET_INSTANCE", {"instance_id": "flushed"}).code == "INSTANCE_NOT_FOUND"
            assert client.refusal("GET_MACHINE", {"machine": "swing", "version": 1}).code == "MACHINE_NOT_FOUND"
            assert create(client, "flushed", machine="swing", idempotency_key="k")["wal_offset"] > last


# ---- 17: all fsync_policy spellings; environment overrides; fatal start-up conditions exit 1 ----

def start(*words, environment=None, config=None):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KONTIKI_", "RSTMDB_"))}
    with tempfile.TemporaryDirectory() as folder:
        if config is not None:
            path = os.path.join(folder, "rstmdb.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(config)
            kept["RSTMDB_CONFIG"] = path
        return subprocess.run([program(), *words], capture_output=True, text=True, check=False, timeout=60, cwd=folder,
                              env={**kept, "RSTMDB_DATA": folder + "/data", **(environment or {})})


def item17_settings__all_fsync_policy_spellings__are_accepted(node):
    del node
    for text in ("every_write", "never", "every_n:100", "every_ms:100", "!every_n 100", "!every_ms 5", "{every_n: 100}",
                 "{every_ms: 100}", "\n    every_n: 100"):
        result = start("--print-config", config="storage:\n  fsync_policy: %s\n" % text)
        assert result.returncode == 0 and "storage.fsync_policy: \"every_write\"" in result.stdout, (text, result)
    for text in ("every_write", "everywrite", "never", "every_n:100", "every_ms:100"):
        result = start("--print-config", environment={"RSTMDB_FSYNC_POLICY": text})
        assert result.returncode == 0, (text, result)


def item17_settings__environment__overrides_the_file(node):
    del node
    rows = {
        "RSTMDB_BIND": ("127.0.0.1:7555", 'network.bind_addr: "127.0.0.1:7555"'),
        "RSTMDB_IDLE_TIMEOUT": ("17", "network.idle_timeout_secs: 17"),
        "RSTMDB_MAX_CONNECTIONS": ("18", "network.max_connections: 18"),
        "RSTMDB_DATA": ("/else/where", 'storage.data_dir: "/else/where"'),
        "RSTMDB_WAL_SEGMENT_SIZE_MB": ("19", "storage.wal_segment_size_mb: 19"),
        "RSTMDB_MAX_MACHINE_VERSIONS": ("20", "storage.max_machine_versions: 20"),
        "RSTMDB_ALLOW_FLUSH_ALL": ("1", "storage.allow_flush_all: true"),
        "RSTMDB_ALLOW_INSTANCE_RECREATE": ("false", "storage.allow_instance_recreate: false"),
        "RSTMDB_AUTH_REQUIRED": ("TRUE", "auth.required: true"),
        "RSTMDB_METRICS_ENABLED": ("true", "metrics.enabled: true"),
        "RSTMDB_METRICS_BIND": ("127.0.0.1:9555", 'metrics.bind_addr: "127.0.0.1:9555"'),
        "RUST_LOG": ("warn", 'log.level: "warn"'),
    }
    config = ("network: {bind_addr: '127.0.0.1:1', idle_timeout_secs: 1, max_connections: 1}\n"
              "storage: {wal_segment_size_mb: 1, max_machine_versions: 1, allow_flush_all: false}\n"
              "metrics: {enabled: false}\n")
    result = start("--print-config", config=config, environment={name: value for name, (value, _) in rows.items()})
    assert result.returncode == 0, result
    for name, (_, line) in rows.items():
        assert re.search(r"^%s # from the environment$" % re.escape(line), result.stdout, re.M), (name, result.stdout)
    for name in ("COMPACT_ENABLED", "COMPACT_EVENTS", "COMPACT_SIZE_MB", "COMPACT_INTERVAL"):
        result = start("--print-config", environment={"RSTMDB_" + name: "1"})
        assert result.returncode == 0 and "compaction" in result.stderr, (name, result)
    token = {"RSTMDB_AUTH_TOKEN_HASH": "a" * 64, "RSTMDB_AUTH_SECRETS_FILE": "/nonexistent"}
    assert start("--print-config", environment=token).returncode == 0


def item17_settings__applied__idle_timeout_and_connection_limit_close(node):
    del node
    with Cluster(1, settings={"network.max_connections": 2, "network.idle_timeout_secs": 1}) as cluster:
        node = cluster.nodes[0]
        with node.rcp() as idle, node.rcp() as watcher:
            with node.rcp(hello=False) as third:
                assert third.at_end()
            watcher.call("WATCH_ALL")
            idle.socket.settimeout(30)
            assert idle.at_end()
            assert watcher.call("PING") == {"pong": True}


def item17_start__fatal_conditions__exit_1(node):
    taken = {"network.bind_addr": "127.0.0.1:%d" % node.rcp_port}
    off = sum((["--set", "%s=off" % name] for name in ("listen.kv.address", "admin.address")), [])
    peers = ["--set", "cluster.listen=127.0.0.1:0"]
    for words, environment, config in (
            ([], {"RSTMDB_CONFIG": "/nonexistent"}, None),
            ([], {}, "network: [\n"),
            (["--set", "auth.required=true"], {}, None),
            (["--set", "auth.secrets_file=/nonexistent"], {}, None),
            (["--set", "storage.data_dir=/proc/none"], {}, None),
            (["--set", "network.bind_addr=%s" % taken["network.bind_addr"], *off, *peers], {}, None),
            (["--set", "storage.data_dir=%s/data" % node.folder, *off, *peers], {}, None),
            (["--set", "tls.enabled=true"], {}, None)):
        result = start(*words, environment=environment, config=config)
        assert result.returncode == 1 and result.stderr, (words, environment, result)


# ---- 18: every Grafana metric present from start-up; gauges return to 0 after clients vanish ----

GRAFANA = ["rstmdb_requests_total", "rstmdb_request_duration_seconds_bucket", "rstmdb_errors_total",
           "rstmdb_connections_active", "rstmdb_connections_total", "rstmdb_subscriptions_active",
           "rstmdb_events_forwarded_total", "rstmdb_instances_total", "rstmdb_machines_total", "rstmdb_wal_entries",
           "rstmdb_wal_segments", "rstmdb_wal_size_bytes", "rstmdb_wal_bytes_written_total",
           "rstmdb_wal_bytes_read_total", "rstmdb_wal_writes_total", "rstmdb_wal_reads_total",
           "rstmdb_wal_fsyncs_total",
           "process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes",
           "process_open_fds", "process_max_fds"]


def item18_metrics__every_name_of_the_dashboard__is_there_from_the_start(node):
    del node
    with Cluster(1) as cluster:
        text = cluster.nodes[0].http("/metrics")[1]
    for name in GRAFANA:
        assert re.search(r"^%s(\{.*\})? [0-9.e+]+$" % name, text, re.M), name


def item18_metrics__gauges_after_clients_vanish__are_zero(node):
    clients = [node.rcp() for _ in range(20)]
    for client in clients:
        client.call("WATCH_ALL")

    def gauges():
        text = node.http("/metrics")[1]
        return [float(re.search(r"^%s (.*)$" % re.escape(name), text, re.M).group(1))
                for name in ("rstmdb_connections_active", 'rstmdb_subscriptions_active{type="all"}')]
    assert min(gauges()) >= 20, gauges()
    for client in clients:
        # A reset, not an orderly end.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    wait_until(lambda: gauges() == [0, 0], "the gauges are zero")


# ---- what the list takes for granted: a stop by either signal ends well (section 17 of the specification) ----

def item19_signals__sigint_and_sigterm__stop_with_code_0(node):
    del node
    for number in (signal.SIGINT, signal.SIGTERM):
        with Cluster(1) as cluster:
            one = cluster.nodes[0]
            watcher = one.rcp()
            watcher.call("WATCH_ALL")
            closed = threading.Thread(target=watcher.at_end, daemon=True)
            closed.start()
            one.process.send_signal(number)
            assert one.process.wait(60) == 0, one.log_end()
            one.process = None
            closed.join(60)
            assert not closed.is_alive()
            watcher.close()


if __name__ == "__main__":
    with Cluster(1) as main_cluster:
        run(sys.modules[__name__], main_cluster.nodes[0])
