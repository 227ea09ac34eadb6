#!/usr/bin/env python3
"""One conversation per operation of the state-machine protocol, against a real node, as the specification words it."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster  # noqa: E402
from lib.run import run  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open", "guard": "ctx.key"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}


def put_door(client, name="door", version=1):
    return client.call("PUT_MACHINE", {"machine": name, "version": version, "definition": DOOR})


def create(client, instance, ctx=None, **more):
    put_door(client)
    params = {"machine": "door", "version": 1, "instance_id": instance, **more}
    if ctx is not None:
        params["initial_ctx"] = ctx
    return client.call("CREATE_INSTANCE", params)

# Section 1.5 of the specification: requests as existing clients send them, and how their answers begin (without meta).
VECTORS = [
    ("52435058000100010000000000a222a3d7277b2274797065223a2272657175657374222c226964223a2231222c226f70223a2248454c"
     "4c4f222c22706172616d73223a7b2270726f746f636f6c5f76657273696f6e223a312c22636c69656e745f6e616d65223a227273746d"
     "64622d7079222c22776972655f6d6f646573223a5b2262696e6172795f6a736f6e225d2c226665617475726573223a5b226964656d70"
     "6f74656e6379222c226261746368225d7d7d",
     b'{"type":"response","id":"1","status":"ok","result":{'),
    ("524350580001000100000000005edcc21e2c7b2274797065223a2272657175657374222c226964223a2232222c226f70223a22415554"
     "48222c22706172616d73223a7b226d6574686f64223a22626561726572222c22746f6b656e223a226d792d7365637265742d746f6b65"
     "6e227d7d",
     b'{"type":"response","id":"2","status":"ok","result":{'),
    ("5243505800010001000000000033c32009c47b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e"
     "47222c22706172616d73223a7b7d7d",
     b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("5243505800010000000000000033000000007b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e"
     "47222c22706172616d73223a7b7d7d",
     b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("5243505800010001000400000033c32009c4deadbeef7b2274797065223a2272657175657374222c226964223a2231222c226f70223a"
     "2250494e47222c22706172616d73223a7b7d7d",
     b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("524350580001000100000000002715f193b17b2274797065223a2272657175657374222c226964223a2231222c226f70223a2250494e"
     "47227d",
     b'{"type":"response","id":"1","status":"ok","result":{"pong":true}'),
    ("524350580001000100000000000d1ce5bab97b226f70223a2250494e47227d",
     b'{"type":"response","id":"","status":"ok","result":{"pong":true}'),
    ("524350580001000100000000004a265aee797b2274797065223a2272657175657374222c226964223a2234222c226f70223a22574154"
     "43485f414c4c222c22706172616d73223a7b22696e636c7564655f637478223a747275657d7d",
     b'{"type":"response","id":"4","status":"ok","result":{"wal_offset":'),
    ("524350580001000100000000000000000000",
     b'{"type":"response","id":"","status":"error","error":{"code":"BAD_REQUEST",'),
]


def vectors__of_the_specification__byte_for_byte(node):
    with node.rcp(hello=False) as client:
        for data, wanted in VECTORS:
            client.send_bytes(bytes.fromhex(data))
        for data, wanted in VECTORS:
            payload = client.receive_payload()
            assert payload.startswith(wanted), (data, payload)
        assert client.at_end()


def hello__first__answers_the_union_of_all_shapes(node):
    with node.rcp(hello=False) as client:
        result = client.call("HELLO", {"protocol_version": 1, "client_name": "t", "wire_modes": ["binary_json"],
                                       "features": ["batch"]})
        assert result["protocol_version"] == 1 and result["wire_mode"] == "binary_json", result
        assert result["auth_required"] is False and isinstance(result["server_name"], str), result
        assert isinstance(result["server_version"], str) and isinstance(result["features"], list), result
        assert result["limits"] == {"max_frame_size": 16777216, "max_instances_per_list": 1000,
                                    "max_subscriptions": 100}, result


def hello__wrong_or_missing_version__is_refused_and_may_be_repeated(node):
    with node.rcp(hello=False) as client:
        assert client.refusal("HELLO", {"protocol_version": 2}).code == "UNSUPPORTED_PROTOCOL"
        assert client.refusal("HELLO", {"protocol_version": 70000}).code == "UNSUPPORTED_PROTOCOL"
        assert client.refusal("HELLO", {}).code == "BAD_REQUEST"
        assert client.refusal("HELLO", {"protocol_version": "1"}).code == "BAD_REQUEST"
        assert client.refusal("INFO").code == "BAD_REQUEST"
        client.call("HELLO", {"protocol_version": 1})
        client.call("HELLO", {"protocol_version": 1})
        client.call("INFO")


def session__before_hello__only_ping_and_bye_work(node):
    with node.rcp(hello=False) as client:
        assert client.call("PING") == {"pong": True}
        for op in ("INFO", "GET_INSTANCE", "LIST_MACHINES", "PUT_MACHINE", "AUTH"):
            assert client.refusal(op, {"instance_id": "x"}).code == "BAD_REQUEST", op
        assert client.call("BYE") == {"goodbye": True}
        assert client.at_end()


def ping__every_frame_form__is_answered(node):
    with node.rcp(hello=False) as client:
        client.send_bytes(rcp.frame(rcp.request("PING", {})) + rcp.frame(rcp.request("PING"), flags=0) +
                          rcp.frame(rcp.request("PING"), extension=b"\xde\xad\xbe\xef") +
                          rcp.frame(b'{"op":"PING"}'))
        for wanted in ("1", "1", "1", ""):
            answer = client.receive()
            assert answer["result"] == {"pong": True} and answer["id"] == wanted, answer


def ping__split_at_every_byte__is_answered(node):
    data = rcp.frame(rcp.request("PING", {}))
    with node.rcp(hello=False) as client:
        for at in range(1, len(data)):
            client.send_bytes(data[:at])
            client.send_bytes(data[at:])
            assert client.receive()["result"] == {"pong": True}


def bye__with_requests_behind_it__answers_closes_and_ignores_them(node):
    with node.rcp() as client:
        client.send("BYE")
        client.send("PING")
        assert client.receive()["result"] == {"goodbye": True}
        assert client.at_end()


def envelope__strange_members__are_answered_and_the_connection_stays(node):
    with node.rcp() as client:
        for payload, wanted in ((b'{"type":"request","id":7,"op":"PING"}', 7),
                                (b'{"id":"a","op":"PING","params":null,"extra":[1]}', "a")):
            client.send_bytes(rcp.frame(payload))
            answer = client.receive()
            assert answer["status"] == "ok" and answer["id"] == wanted, answer
        for payload in (b'{"id":"a","op":"NO_SUCH_OP"}', b'{"id":"a","op":"ping"}', b'{"id":"a"}',
                        b'{"id":"a","op":5}', b'{"id":"a","op":"PING","params":5}'):
            client.send_bytes(rcp.frame(payload))
            answer = client.receive()
            assert answer["error"]["code"] == "BAD_REQUEST" and not answer["error"]["retryable"], (payload, answer)
        assert client.call("PING") == {"pong": True}


def meta__every_answer__has_time_leader_offset_and_trace(node):
    with node.rcp() as client:
        created = create(client, "meta-1")
        meta = client.meta
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", meta["server_time"]), meta
        assert meta["leader"] is True and meta["wal_offset"] == created["wal_offset"], meta
        assert isinstance(meta["trace_id"], str) and meta["trace_id"], meta
        client.call("GET_INSTANCE", {"instance_id": "meta-1"})
        assert client.meta["wal_offset"] >= created["wal_offset"], client.meta
        client.send_bytes(rcp.frame(b'{"id":"t","op":"PING","meta":{"trace_id":"abc-1"}}'))
        assert client.receive()["meta"]["trace_id"] == "abc-1"


def info__asked__answers_the_union_of_all_shapes(node):
    with node.rcp() as client:
        before = client.call("INFO")
        create(client, "info-1")
        info = client.call("INFO")
        for name, kind in (("version", str), ("protocol_version", int), ("uptime_secs", int), ("features", list),
                           ("server_name", str), ("server_version", str), ("max_frame_bytes", int),
                           ("max_batch_ops", int)):
            assert isinstance(info[name], kind), (name, info)
        assert info["stats"]["instances"] == before["stats"]["instances"] + 1, (before, info)
        assert info["stats"]["machines"] >= 1 and info["stats"]["connections"] >= 1, info
        assert info["stats"]["wal_offset"] > 0 and info["stats"]["wal_size_bytes"] > 0, info
        assert info["config"] == {"auth_required": False, "max_connections": 1000, "fsync_policy": "every_write"}, info


def auth__not_required__takes_any_token_but_an_empty_one(node):
    with node.rcp() as client:
        result = client.call("AUTH", {"token": "anything"})
        assert result == {"authenticated": True, "permissions": ["read", "write", "admin"]}, result
        assert client.refusal("AUTH", {"token": ""}).code == "AUTH_FAILED"
        assert client.refusal("AUTH", {"token": "x", "method": "basic"}).code == "AUTH_FAILED"
        assert client.refusal("AUTH", {}).code == "BAD_REQUEST"


def put_machine__new_same_other__created_repeated_refused(node):
    with node.rcp() as client:
        first = put_door(client, "put")
        assert first == {"machine": "put", "version": 1, "stored_checksum": "d6840009", "created": True}, first
        assert put_door(client, "put") == {**first, "created": False}
        other = {**DOOR, "initial": "open"}
        refused = client.refusal("PUT_MACHINE", {"machine": "put", "version": 1, "definition": other})
        assert refused.code == "MACHINE_VERSION_EXISTS" and not refused.retryable, refused
        for definition in ({}, {"states": ["a"], "initial": "b", "transitions": []},
                           {"states": ["a"], "initial": "a", "transitions": [{"from": "a", "event": "E", "to": "z"}]},
                           {"states": ["a"], "initial": "a",
                            "transitions": [{"from": "a", "event": "E", "to": "a", "guard": "ctx.a >"}]}):
            refused = client.refusal("PUT_MACHINE", {"machine": "put", "version": 2, "definition": definition})
            assert refused.code == "BAD_REQUEST" and not refused.retryable, (definition, refused)
        for params in ({}, {"machine": "put"}, {"machine": 5, "version": 1, "definition": DOOR},
                       {"machine": "put", "version": "1", "definition": DOOR},
                       {"machine": "put", "version": -1, "definition": DOOR}):
            assert client.refusal("PUT_MACHINE", params).code == "BAD_REQUEST", params


def get_machine__known_and_unknown__definition_or_not_found(node):
    with node.rcp() as client:
        put_door(client, "get", 1)
        put_door(client, "get", 3)
        found = client.call("GET_MACHINE", {"machine": "get", "version": 1})
        assert found["checksum"] == "d6840009", found
        assert found["definition"]["transitions"][0]["from"] == ["shut"], found
        assert client.call("GET_MACHINE", {"machine": "get"})["version"] == 3
        refused = client.refusal("GET_MACHINE", {"machine": "get", "version": 2})
        assert refused.code == "MACHINE_NOT_FOUND", refused
        assert client.refusal("GET_MACHINE", {"machine": "nothing", "version": 1}).code == "MACHINE_NOT_FOUND"


def list_machines__several__sorted_with_versions(node):
    with node.rcp() as client:
        for version in (10, 2, 1):
            put_door(client, "list", version)
        items = client.call("LIST_MACHINES")["items"]
        names = [item["machine"] for item in items]
        assert names == sorted(names), names
        assert {"machine": "list", "versions": [1, 2, 10]} in items, items


def create_instance__every_case__as_specified(node):
    with node.rcp() as client:
        created = create(client, "create-1", {"key": True})
        assert created["instance_id"] == "create-1" and created["state"] == "shut", created
        assert client.refusal("CREATE_INSTANCE", {"machine": "door", "version": 1,
                                                  "instance_id": "create-1"}).code == "INSTANCE_EXISTS"
        generated = client.call("CREATE_INSTANCE", {"machine": "door", "version": 1, "idempotency_key": "create-k"})
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
                            generated["instance_id"]), generated
        again = client.call("CREATE_INSTANCE", {"machine": "door", "version": 1, "idempotency_key": "create-k"})
        assert again == generated, (again, generated)
        assert client.refusal("CREATE_INSTANCE", {"machine": "none", "version": 1}).code == "MACHINE_NOT_FOUND"
        for ctx in (5, [1], "x"):
            assert client.refusal("CREATE_INSTANCE", {"machine": "door", "version": 1,
                                                      "initial_ctx": ctx}).code == "BAD_REQUEST", ctx
        create(client, "create-null", initial_ctx=None)
        assert client.call("GET_INSTANCE", {"instance_id": "create-null"})["ctx"] == {}


def get_instance__numbers__keep_every_digit(node):
    ctx = ('{"a":9007199254740993,"b":-9223372036854775808,"c":18446744073709551615,"d":1.0,"e":-0.0,'
           '"f":"\\u0000\\u20ac"}')
    with node.rcp() as client:
        put_door(client)
        client.send_bytes(rcp.frame(('{"id":"n","op":"CREATE_INSTANCE","params":{"machine":"door","version":1,'
                                     '"instance_id":"numbers","initial_ctx":%s}}' % ctx).encode()))
        assert client.receive()["status"] == "ok"
        client.send("GET_INSTANCE", {"instance_id": "numbers"})
        text = client.receive_payload().decode()
        for part in ("9007199254740993", "-9223372036854775808", "18446744073709551615", '"d":1.0', '"e":-0.0'):
            assert part in text, (part, text)
        assert json.loads(text)["result"]["ctx"]["f"] == "\x00\u20ac", text


def delete_instance__twice_and_again__as_specified(node):
    with node.rcp() as client:
        create(client, "delete-1")
        gone = client.call("DELETE_INSTANCE", {"instance_id": "delete-1"})
        assert gone["deleted"] is True and gone["instance_id"] == "delete-1", gone
        assert client.call("DELETE_INSTANCE", {"instance_id": "delete-1"}) == gone
        refused = client.refusal("GET_INSTANCE", {"instance_id": "delete-1"})
        assert refused.code == "INSTANCE_NOT_FOUND" and "not found" in refused.message, refused
        assert client.refusal("APPLY_EVENT", {"instance_id": "delete-1", "event": "OPEN"}).code == "INSTANCE_NOT_FOUND"
        assert client.refusal("DELETE_INSTANCE", {"instance_id": "never"}).code == "INSTANCE_NOT_FOUND"
        create(client, "delete-1", {"key": True})
        assert client.call("GET_INSTANCE", {"instance_id": "delete-1"})["ctx"] == {"key": True}


def list_instances__filters_and_pages__as_specified(node):
    with node.rcp() as client:
        put_door(client, "listed")
        for number in range(7):
            client.call("CREATE_INSTANCE", {"machine": "listed", "version": 1, "instance_id": "l-%d" % number,
                                            "initial_ctx": {"key": True}})
        client.call("APPLY_EVENT", {"instance_id": "l-3", "event": "OPEN"})
        page = client.call("LIST_INSTANCES", {"machine": "listed", "limit": 3, "offset": 5})
        assert [entry["id"] for entry in page["instances"]] == ["l-5", "l-6"], page
        assert page["total"] == 7 and page["has_more"] is False, page
        page = client.call("LIST_INSTANCES", {"machine": "listed", "limit": 3})
        assert [entry["id"] for entry in page["instances"]] == ["l-0", "l-1", "l-2"] and page["has_more"], page
        for name in ("machine", "version", "state", "created_at", "updated_at", "last_wal_offset"):
            assert name in page["instances"][0], page
        page = client.call("LIST_INSTANCES", {"machine": "listed", "state": "open"})
        assert [entry["id"] for entry in page["instances"]] == ["l-3"] and page["total"] == 1, page
        assert client.call("LIST_INSTANCES", {"machine": "listed", "limit": 0})["has_more"] is True
        assert client.call("LIST_INSTANCES", {"machine": "none"}) == {"instances": [], "total": 0, "has_more": False}
        assert client.refusal("LIST_INSTANCES", {"limit": -1}).code == "BAD_REQUEST"
        client.call("LIST_INSTANCES")
        client.call("LIST_INSTANCES", {"limit": 100000})


def apply_event__every_case__in_the_specified_order(node):
    with node.rcp() as client:
        start = create(client, "apply-1")["wal_offset"]
        apply = {"instance_id": "apply-1", "event": "OPEN"}
        refused = client.refusal("APPLY_EVENT", {**apply, "payload": {"key": True}})
        assert refused.code == "GUARD_FAILED", refused
        assert client.call("GET_INSTANCE", {"instance_id": "apply-1"})["ctx"] == {}
        refused = client.refusal("APPLY_EVENT", {**apply, "event": "CLOSE"})
        assert refused.code == "INVALID_TRANSITION", refused
        assert refused.message == "invalid transition: cannot apply 'CLOSE' in state 'shut'", refused
        refused = client.refusal("APPLY_EVENT", {**apply, "expected_state": "open", "expected_wal_offset": 1})
        assert refused.code == "CONFLICT" and refused.message.startswith("state conflict"), refused
        refused = client.refusal("APPLY_EVENT", {**apply, "event": "CLOSE", "expected_wal_offset": start + 1})
        assert refused.code == "CONFLICT" and "offset" in refused.message, refused
        assert client.refusal("APPLY_EVENT", {**apply, "instance_id": "none"}).code == "INSTANCE_NOT_FOUND"
        assert client.refusal("APPLY_EVENT", {**apply, "payload": [1]}).code == "BAD_REQUEST"
        create(client, "apply-2", {"key": True, "a": {"b": 1}})
        done = client.call("APPLY_EVENT", {"instance_id": "apply-2", "event": "OPEN", "event_id": "e-1",
                                           "payload": {"a": {"c": 2}, "n": None}, "expected_state": "shut"})
        assert done["from_state"] == "shut" and done["to_state"] == "open" and done["applied"] is True, done
        assert done["ctx"] == {"key": True, "a": {"c": 2}, "n": None} and done["event_id"] == "e-1", done
        found = client.call("GET_INSTANCE", {"instance_id": "apply-2"})
        assert found["last_event_id"] == "e-1" and found["last_wal_offset"] == done["wal_offset"], found
        client.call("APPLY_EVENT", {"instance_id": "apply-2", "event": "CLOSE"})
        assert "last_event_id" not in client.call("GET_INSTANCE", {"instance_id": "apply-2"})


def apply_event__repeated_with_its_key__answers_the_first_result(node):
    with node.rcp() as client:
        create(client, "repeat-1", {"key": True})
        request = {"instance_id": "repeat-1", "event": "OPEN", "payload": {"n": 1}, "idempotency_key": "k"}
        first = client.call("APPLY_EVENT", request)
        assert client.call("APPLY_EVENT", {**request, "payload": {"n": 2}}) == first
        create(client, "repeat-2", {"key": True})
        assert client.call("APPLY_EVENT", {**request, "instance_id": "repeat-2"}) != first


def pipeline__hundreds_of_requests__answered_in_order_and_reads_see_earlier_writes(node):
    with node.rcp() as client:
        create(client, "pipe", {"key": True})
        data, wanted = [], []
        for number in range(300):
            data.append(rcp.frame(rcp.request("APPLY_EVENT", {
                "instance_id": "pipe", "event": "CLOSE" if number % 2 else "OPEN", "payload": {"n": number}},
                "w%d" % number)))
            data.append(rcp.frame(rcp.request("GET_INSTANCE", {"instance_id": "pipe"}, "r%d" % number)))
            wanted += ["w%d" % number, "r%d" % number]
        client.send_bytes(b"".join(data))
        for request_id in wanted:
            answer = client.receive()
            assert answer["id"] == request_id and answer["status"] == "ok", (answer, request_id)
            assert answer["result"]["ctx"]["n"] == int(request_id[1:]), answer


def jsonl__lines__are_answered_as_lines(node):
    with node.rcp(hello=False) as client:
        client.send_bytes(b'{"id":"1","op":"HELLO","params":{"protocol_version":1,"wire_modes":["jsonl"]}}\n'
                          b'{"id":"2","op":"PING"}\n')
        line = b""
        while line.count(b"\n") < 2:
            line += client.read_exactly(1)
        answers = [json.loads(part) for part in line.split(b"\n")[:2]]
        assert answers[0]["result"]["wire_mode"] == "jsonl" and answers[1]["result"] == {"pong": True}, answers


def half_closed__client_that_sends_no_more__still_gets_its_answers(node):
    with node.rcp() as client:
        create(client, "half")
        for _ in range(20):
            client.send("GET_INSTANCE", {"instance_id": "half"})
        client.socket.shutdown(1)
        for _ in range(20):
            assert client.receive()["status"] == "ok"
        assert client.at_end()


if __name__ == "__main__":
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
