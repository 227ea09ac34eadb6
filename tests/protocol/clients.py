#!/usr/bin/env python3
"""A conversation in the manner of each shipped client of rstmdb (section 20 of the specification): what it sends, with
the members in the order of its encoder, and what it needs in return to stay alive.

Each client is a class that sends in its own way and reads as strictly as the original: where the original would raise
or die, the class fails the test. The conversations are transcripts: the same life of a door with each client.
"""
import json
import os
import re
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

TOKEN = "my-secret-token"
CONFIG = """
auth: {required: true, token_hashes: [ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3]}
storage: {allow_flush_all: true}
"""
DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open", "guard": "ctx.key"},
                        {"from": "open", "event": "CLOSE", "to": "shut"}]}
ABSENT = object()
CODES = rcp.CODES
OFFSET_MAX = 2 ** 53


class Died(AssertionError):
    """What came would have ended the original's connection, or made its call raise."""


def need(condition, what, message):
    if not condition:
        raise Died("%s in %r" % (what, message))


class Client:
    """Frames, ids "1", "2", ...; params always an object; one request at a time."""

    hello = {"protocol_version": 1}
    auth = {"method": "bearer", "token": TOKEN}
    hello_result = None

    def __init__(self, node, greet=True):
        self.stream = rcp.Client(node.rcp_address, hello=False)
        self.count, self.events = 0, []
        if greet:
            self.greet()

    def greet(self):
        self.hello_result = self.call("HELLO", self.hello)
        self.call("AUTH", self.auth)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def envelope(self, op, params):
        message = {"type": "request", "id": str(self.count), "op": op}
        message["params"] = {} if params is ABSENT else params
        return message

    def send(self, op, params):
        self.count += 1
        text = json.dumps(self.envelope(op, params), separators=(",", ":"), ensure_ascii=False)
        self.stream.send_bytes(rcp.frame(text.encode()))

    def decode(self, payload):
        return json.loads(payload.decode("utf-8"))

    def read(self):
        message = self.decode(self.stream.receive_payload())
        self.check(message)
        return message

    def check(self, message):
        """Section 20.1: what every client needs of every message."""
        need(message.get("type") in ("response", "event"), "type", message)
        if message["type"] == "event":
            for name in ("subscription_id", "instance_id", "machine", "version", "wal_offset", "from_state", "to_state",
                         "event", "payload"):
                need(name in message, name, message)
            need(isinstance(message["payload"], (dict, type(None))), "payload", message)
            need(isinstance(message.get("ctx", {}), dict), "ctx", message)
            return
        need(isinstance(message.get("id"), str), "id", message)
        need(message.get("status") in ("ok", "error"), "status", message)
        need(message.get("meta", {}) is not None, "meta", message)
        need(all(value is not None for value in message.get("meta", {}).values()), "null in meta", message)
        if message["status"] == "ok":
            need(isinstance(message.get("result"), dict), "result", message)
            return
        error = message["error"]
        need(error.get("code") in CODES, "code", message)
        need(isinstance(error.get("message"), str) and isinstance(error.get("retryable"), bool), "error", message)
        need("details" not in error or isinstance(error["details"], dict), "details", message)

    def call(self, op, params=ABSENT, requires=()):
        """The result; requires: members without which the original's result type does not decode."""
        self.send(op, params)
        while True:
            message = self.read()
            if message["type"] == "event":
                self.events.append(message)
                continue
            need(message["id"] == str(self.count), "another id than %d" % self.count, message)
            if message["status"] == "error":
                raise rcp.Refused(message)
            for name in requires:
                need(message["result"].get(name) is not None, "no %s" % name, message)
            return message["result"]

    def refusal(self, op, params=ABSENT):
        try:
            result = self.call(op, params)
        except rcp.Refused as refused:
            return refused
        raise AssertionError("%s was answered with %r" % (op, result))

    def event(self):
        while not self.events:
            message = self.read()
            need(message["type"] == "event", "expected an event", message)
            self.events.append(message)
        return self.events.pop(0)


class Rust(Client):
    """0.1.1, also inside Studio and the command line. A message that does not decode ends its read loop."""

    hello = {"protocol_version": 1, "client_name": None, "wire_modes": ["binary_json"],
             "features": ["idempotency", "batch"]}

    def check(self, message):
        super().check(message)
        time = message.get("meta", {}).get("server_time")
        need(time is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", time),
             "server_time", message)
        need("result" not in message or "error" not in message, "both", message)


class Python(Client):
    """0.2.0 (pydantic)."""

    hello = {"protocol_version": 1, "client_name": "rstmdb-py", "wire_modes": ["binary_json"],
             "features": ["idempotency", "batch"]}


class Java(Client):
    """Jackson: nothing is required but what is used; an undecodable message closes. params are left out when empty."""

    hello = {"protocol_version": 1, "wire_mode": "binary_json", "client_name": "rstmdb-java", "features": ["batch"]}
    auth = {"token": TOKEN}

    def envelope(self, op, params):
        message = {"type": "request", "id": str(self.count), "op": op}
        if params is not ABSENT:
            message["params"] = params
        return message

    def check(self, message):
        super().check(message)
        if message["type"] == "event":
            need(0 <= message["version"] < 2 ** 31, "version", message)


class TypeScript(Client):
    """Everything that becomes a BigInt must be an integer and there."""

    hello = {"protocol_version": 1, "wire_modes": ["binary_json"], "features": ["idempotency", "batch"],
             "client_name": "rstmdb-js"}
    bare = {"PING", "INFO", "WAL_STATS", "LIST_MACHINES"}

    def envelope(self, op, params):
        message = {"type": "request", "id": str(self.count), "op": op}
        if not (op in self.bare and params is ABSENT):
            message["params"] = {} if params is ABSENT else params
        return message

    def check(self, message):
        super().check(message)
        if message["type"] == "event":
            need(isinstance(message["wal_offset"], int) and message["wal_offset"] < OFFSET_MAX, "wal_offset", message)

    def greet(self):
        super().greet()
        need(self.hello_result["protocol_version"] == 1, "protocol_version", self.hello_result)


class DotNet(Java):
    """Strict numbers: null or a fraction for an integer throws. params are left out when unset."""

    hello = {"protocol_version": 1, "wire_mode": "binary_json", "client_name": "rstmdb-dotnet", "features": ["batch"]}
    auth = {"token": TOKEN, "method": "bearer"}
    integers = {"version", "wal_offset", "last_wal_offset", "total", "next_offset", "latest_offset", "size_bytes",
                "entry_count", "segment_count", "total_size_bytes", "current_wal_offset", "created_at", "updated_at"}

    def check(self, message):
        super().check(message)
        self.check_numbers(message)

    def check_numbers(self, value):
        if isinstance(value, list):
            for item in value:
                self.check_numbers(item)
        elif isinstance(value, dict):
            for name, item in value.items():
                if name in ("ctx", "payload", "definition", "initial_ctx"):
                    continue
                # INFO's version is the server's, a text.
                if name in self.integers and not (name == "version" and "server_version" in value):
                    need(isinstance(item, int) and not isinstance(item, bool), "%s is no integer" % name, value)
                self.check_numbers(item)


CREATED = ("instance_id", "state", "wal_offset")
GOT = ("machine", "version", "state", "ctx", "last_wal_offset")
APPLIED = ("from_state", "to_state", "wal_offset", "applied")
LISTED = ("instances", "total", "has_more")
ENTRY = ("id", "machine", "version", "state", "created_at", "updated_at", "last_wal_offset")


def life_of_a_door(client, name, empty=ABSENT):
    """What all clients have in common; empty: what the client sends where it has nothing to say."""
    put = {"machine": name, "version": 1, "definition": DOOR}
    assert client.call("PUT_MACHINE", put, ("machine", "version", "stored_checksum", "created"))["created"] is True
    need(client.call("PUT_MACHINE", put, ("machine", "version"))["created"] is False, "created", put)
    got = client.call("GET_MACHINE", {"machine": name, "version": 1}, ("definition", "checksum"))
    need(isinstance(got["definition"]["states"], list), "states", got)
    need(isinstance(got["definition"]["transitions"], list), "transitions", got)
    machines = client.call("LIST_MACHINES", empty, ("items",))["items"]
    need({"machine": name, "versions": [1]} in machines, "the machine", machines)
    made = client.call("CREATE_INSTANCE", {"machine": name, "version": 1, "instance_id": name}, CREATED)
    need(made["state"] == "shut" and made["wal_offset"] < OFFSET_MAX, "state", made)
    need(client.call("GET_INSTANCE", {"instance_id": name}, GOT)["ctx"] == {}, "ctx", name)
    refused = client.refusal("APPLY_EVENT", {"instance_id": name, "event": "OPEN", "payload": {"key": True}})
    need(refused.code == "GUARD_FAILED", "code", refused.response)
    client.call("DELETE_INSTANCE", {"instance_id": name})
    refused = client.refusal("GET_INSTANCE", {"instance_id": name})
    need(refused.code == "INSTANCE_NOT_FOUND" and "not found" in refused.message, "code", refused.response)
    client.call("CREATE_INSTANCE", {"machine": name, "version": 1, "instance_id": name, "initial_ctx": {"key": True}},
                CREATED)
    listed = client.call("LIST_INSTANCES", {"machine": name} if empty is not ABSENT else ABSENT, LISTED)
    for entry in listed["instances"]:
        need(all(entry.get(member) is not None for member in ENTRY), "member", entry)


def rust__cli_and_studio_calls__decode(node):
    with Rust(node) as client:
        life_of_a_door(client, "rust", {})
        watch = client.call("WATCH_INSTANCE", {"instance_id": "rust", "include_ctx": True},
                            ("subscription_id", "instance_id", "current_state", "current_wal_offset"))
        everything = client.call("WATCH_ALL", {"include_ctx": True}, ("subscription_id", "wal_offset"))
        done = client.call("APPLY_EVENT", {"instance_id": "rust", "event": "OPEN", "payload": {"by": "ada"}}, APPLIED)
        events = [client.event(), client.event()]
        need({event["subscription_id"] for event in events} ==
             {watch["subscription_id"], everything["subscription_id"]}, "one copy per subscription", events)
        need(all(event["wal_offset"] == done["wal_offset"] for event in events), "offset", events)
        for subscription in (watch, everything, watch):
            client.call("UNWATCH", {"subscription_id": subscription["subscription_id"]}, ("subscription_id", "removed"))
        # The command line reads these raw.
        page = client.call("WAL_READ", {"from_offset": 0}, ("records",))
        need(all({"sequence", "offset"} <= set(record) and "type" in record["entry"] for record in page["records"]),
             "record", page["records"][0])
        compacted = client.call("COMPACT", {"force_snapshot": False})
        for member in ("snapshots_created", "segments_deleted", "bytes_reclaimed", "total_snapshots", "wal_segments"):
            need(isinstance(compacted.get(member), int), member, compacted)
    # It closes without BYE.


def rust__many_requests_at_once__are_answered_by_id(node):
    with Rust(node) as client:
        client.call("PUT_MACHINE", {"machine": "rust-many", "version": 1, "definition": DOOR})
        data = b""
        for _ in range(200):
            client.count += 1
            data += rcp.frame(json.dumps(client.envelope("CREATE_INSTANCE", {"machine": "rust-many", "version": 1}),
                                         separators=(",", ":")).encode())
        client.stream.send_bytes(data)
        ids = [client.read()["id"] for _ in range(200)]
        assert ids == [str(number) for number in range(client.count - 199, client.count + 1)], ids[:3]


def python__empty_members_left_out__everything_is_an_object(node):
    with Python(node) as client:
        life_of_a_door(client, "python", {})
        first = client.call("WATCH_ALL", {"machines": ["python"], "include_ctx": True},
                            ("subscription_id", "wal_offset"))
        second = client.call("WATCH_INSTANCE", {"instance_id": "python", "include_ctx": False}, ("subscription_id",))
        client.call("APPLY_EVENT", {"instance_id": "python", "event": "OPEN", "idempotency_key": "k"}, APPLIED)
        seen = {event["subscription_id"]: event for event in (client.event(), client.event())}
        need(seen[first["subscription_id"]]["ctx"] == {"key": True}, "ctx", seen)
        need("ctx" not in seen[second["subscription_id"]], "no ctx", seen)
        created = client.call("CREATE_INSTANCE", {"machine": "python", "version": 1, "idempotency_key": "c"}, CREATED)
        again = client.call("CREATE_INSTANCE", {"machine": "python", "version": 1, "idempotency_key": "c"}, CREATED)
        need(created == again, "the cached result", again)
        stats = client.call("WAL_STATS", {}, ("entry_count", "segment_count", "total_size_bytes", "io_stats"))
        need(set(stats["io_stats"]) >= {"bytes_written", "bytes_read", "writes", "reads", "fsyncs"}, "io_stats", stats)
        client.call("INFO", {})
        client.call("WAL_READ", {"from_offset": 0})
        client.call("COMPACT", {})
    client = Python(node)
    client.call("WATCH_ALL", {})
    # Gone without a word, in the middle of a frame.
    client.stream.send_bytes(b"RCPX\x00\x01")
    client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.stream.close()


def java__integration_suite__works(node):
    with Java(node) as client:
        need(client.hello_result["wire_mode"] == "binary_json", "wire_mode", client.hello_result)
        for _ in range(2):
            client.call("PUT_MACHINE", {"machine": "java-suite", "version": 1, "definition": DOOR})
        life_of_a_door(client, "java")
        client.call("PING")
        client.call("INFO")
        client.call("WAL_STATS")
        client.call("COMPACT")
        # Its options serialise to nothing.
        client.call("LIST_INSTANCES", {}, LISTED)
        # Always from_offset 0 and include_ctx false: live only.
        watch = client.call("WATCH_INSTANCE", {"instance_id": "java", "include_ctx": False, "from_offset": 0},
                            ("subscription_id",))
        client.call("WATCH_ALL", {"events": ["CLOSE"]}, ("subscription_id",))
        client.call("APPLY_EVENT", {"instance_id": "java", "event": "OPEN"}, APPLIED)
        event = client.event()
        need(event["subscription_id"] == watch["subscription_id"] and "ctx" not in event, "the live event", event)
        results = client.call("BATCH", {"mode": "atomic", "ops": [
            {"op": "CREATE_INSTANCE", "params": {"machine": "java", "version": 1, "instance_id": "java-b",
                                                 "initial_ctx": {"key": True}}},
            {"op": "APPLY_EVENT", "params": {"instance_id": "java-b", "event": "OPEN"}}]}, ("results",))["results"]
        need([result["status"] for result in results] == ["ok", "ok"], "two ok", results)
        flushed = client.call("FLUSH_ALL")
        need(flushed["flushed"] is True and flushed["instances_removed"] > 0, "flushed", flushed)
        need(client.refusal("GET_MACHINE", {"machine": "java", "version": 1}).code == "MACHINE_NOT_FOUND", "gone", 0)
        # BYE, and the socket is closed at once: the answer may not be written.
        client.send("BYE", ABSENT)


def java__health_check__is_answered(node):
    """The container waits for the port, then for a ping of the command line client; a probe may connect and leave."""
    for _ in range(3):
        socket.create_connection(node.rcp_address, timeout=10).close()
    with Java(node, greet=False) as client:
        need(client.call("PING") == {"pong": True}, "pong", 0)


def studio__pages__get_what_they_show(node):
    with Rust(node) as client:
        client.call("PUT_MACHINE", {"machine": "studio", "version": 1, "definition": DOOR})
        client.call("PUT_MACHINE", {"machine": "studio", "version": 2, "definition": {**DOOR, "meta": {"v": 2}}})
        client.call("CREATE_INSTANCE", {"machine": "studio", "version": 2, "instance_id": "studio-1",
                                        "initial_ctx": {"key": True}})
        client.call("APPLY_EVENT", {"instance_id": "studio-1", "event": "OPEN"})
        client.call("PING", {})
        info = client.call("INFO", {})
        for member in ("server_name", "server_version"):
            need(isinstance(info[member], str), member, info)
        need(info["protocol_version"] == 1 and isinstance(info["features"], list), "info", info)
        versions = [item["versions"] for item in client.call("LIST_MACHINES", {})["items"]
                    if item["machine"] == "studio"]
        need(max(versions[0]) == 2, "versions", versions)
        listed = client.call("LIST_INSTANCES", {"machine": "studio", "limit": 50, "offset": 0}, LISTED)
        need([entry["id"] for entry in listed["instances"]] == ["studio-1"], "instances", listed)
        # The history view: everything in one call, without paging.
        page = client.call("WAL_READ", {"from_offset": 0, "limit": 10000}, ("records",))
        history = [record["entry"] for record in page["records"] if record["entry"].get("instance_id") == "studio-1"]
        need([entry["type"] for entry in history] == ["create_instance", "apply_event"], "history", history)
        need(history[0]["initial_state"] == "shut" and history[0]["initial_ctx"] == {"key": True}, "create", history)
        need({"event", "from_state", "to_state", "ctx", "timestamp"} <= set(history[1]), "apply", history)
        at = page["records"][-1]["offset"]
        one = client.call("WAL_READ", {"from_offset": at, "limit": 1})
        need([record["offset"] for record in one["records"]] == [at], "single entry", one)
        refused = client.refusal("GET_INSTANCE", {"instance_id": "nobody"})
        need("not found" in refused.message, "404 by its words", refused.response)


def typescript__bigints_everywhere__are_integers(node):
    with TypeScript(node) as client:
        life_of_a_door(client, "typescript", {})
        client.call("PING")
        client.call("INFO")
        stats = client.call("WAL_STATS", requires=("latest_offset", "io_stats"))
        need(isinstance(stats["latest_offset"], int) and isinstance(stats["io_stats"], dict), "stats", stats)
        results = client.call("BATCH", {"ops": [{"op": "APPLY_EVENT", "params": {"instance_id": "typescript",
                                                                                "event": "OPEN"}}]})["results"]
        need(isinstance(results, list) and isinstance(results[0]["result"]["wal_offset"], int), "results", results)
        snapshot = client.call("SNAPSHOT_INSTANCE", {"instance_id": "typescript"}, ("snapshot_id", "wal_offset"))
        need(isinstance(snapshot["wal_offset"], int), "wal_offset", snapshot)
        need(isinstance(client.call("COMPACT", {"force_snapshot": True})["bytes_reclaimed"], int), "bytes", 0)
        client.call("WATCH_ALL", {"from_states": ["open"], "include_ctx": True}, ("subscription_id",))
        client.call("APPLY_EVENT", {"instance_id": "typescript", "event": "CLOSE", "payload": {}}, APPLIED)
        need(client.event()["payload"] == {}, "payload", 0)
        # What its walRead sends is refused, not answered with something that it would read wrongly.
        need(client.refusal("WAL_READ", {"fromOffset": "0"}).code == "BAD_REQUEST", "walRead", 0)


def dotnet__strict_numbers_and_absent_params__decode(node):
    with DotNet(node) as client:
        life_of_a_door(client, "dotnet")
        client.call("PING")
        client.call("INFO")
        client.call("WAL_STATS", requires=("latest_offset",))
        client.call("WATCH_ALL", requires=("subscription_id",))
        client.call("WATCH_INSTANCE", {"instance_id": "dotnet", "include_ctx": False}, ("subscription_id",))
        client.call("APPLY_EVENT", {"instance_id": "dotnet", "event": "OPEN"}, APPLIED)
        need({"ctx" in client.event(), "ctx" in client.event()} == {True, False}, "ctx", 0)
        page = client.call("WAL_READ", {"from_offset": 0}, ("next_offset",))
        empty = client.call("WAL_READ", {"from_offset": page["next_offset"]})
        need("next_offset" not in empty, "null would throw", empty)
        snapshot = client.call("SNAPSHOT_INSTANCE", {"instance_id": "dotnet"})
        need("size_bytes" not in snapshot or isinstance(snapshot["size_bytes"], int), "size_bytes", snapshot)
        client.call("FLUSH_ALL", {})
        client.call("BYE")


def go__documented_shapes__are_accepted(node):
    """Known from its documentation only: the shapes of Java and .NET, null where it has nothing, a zero from_offset."""
    with Java(node, greet=False) as client:
        client.call("HELLO", {"protocol_version": 1, "wire_mode": "binary_json", "client_name": "rstmdb-go",
                              "features": None})
        client.call("AUTH", {"token": TOKEN, "method": "bearer"})
        client.call("PUT_MACHINE", {"machine": "go", "version": 1, "definition": DOOR, "checksum": None})
        client.call("CREATE_INSTANCE", {"machine": "go", "version": 1, "instance_id": "go", "initial_ctx": None,
                                        "idempotency_key": None})
        client.call("WATCH_INSTANCE", {"instance_id": "go", "include_ctx": None, "from_offset": 0})
        client.call("WATCH_ALL", {"machines": None, "events": [], "include_ctx": True})
        refused = client.refusal("APPLY_EVENT", {"instance_id": "go", "event": "OPEN", "payload": None,
                                                 "expected_state": "shut"})
        need(refused.code == "GUARD_FAILED", "code", refused.response)


def all__vanished__leave_nothing_behind(node):
    def open_now():
        text = node.http("/metrics")[1]
        return [float(re.search(r"^%s (.*)$" % re.escape(name), text, re.M).group(1)) for name in
                ("rstmdb_connections_active", 'rstmdb_subscriptions_active{type="all"}',
                 'rstmdb_subscriptions_active{type="instance"}')]
    wait_until(lambda: open_now() == [0, 0, 0], "nothing is left of the clients")


if __name__ == "__main__":
    with Cluster(1, config=CONFIG) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
