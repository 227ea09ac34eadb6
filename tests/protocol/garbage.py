#!/usr/bin/env python3
"""Bytes that are none of the protocols': KONTIKI_FRAMES random ones per protocol (10,000), and the specified cases. The
node answers with a clear error or closes, stays up, keeps serving others, and does not grow."""
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv, rcp  # noqa: E402
from lib.cluster import Cluster  # noqa: E402
from lib.run import run  # noqa: E402

COUNT = int(os.environ.get("KONTIKI_FRAMES", "10000"))
SEED = int(os.environ.get("KONTIKI_SEED", "1"))
GROWTH_KIB = 16 * 1024  # what malloc may keep after the first wave; a leak of one such frame per connection is far more
PING = rcp.frame(rcp.request("PING", {}))
KV_PING = bytes.fromhex("000000127e0100010000000a00010000000000000000")
KV_SET = kv.frame(kv.body(kv.SET, kv.short("mykey") + bytes.fromhex("070000002a"), b"system", b"collections"))


def mutate(source, data):
    """One of: random bytes, flipped bits, cut, doubled, a length field overwritten."""
    kind = source.randrange(6)
    data = bytearray(data)
    if kind == 0:
        return source.randbytes(source.randrange(1, 200))
    if kind == 1:
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    elif kind == 2:
        del data[source.randrange(len(data)):]
    elif kind == 3:
        at = source.randrange(len(data))
        data[at:at] = data[at:at + source.randrange(40)]
    elif kind == 4:
        at = source.randrange(max(1, len(data) - 4))
        data[at:at + 4] = struct.pack(">I", source.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x01000000, 0x01000001,
                                                            len(data), source.randrange(1 << 32)]))
    else:
        del data[source.randrange(len(data))]
    return bytes(data)


def drain(client):
    """Reads until the server closes; every byte must be part of a well-formed answer. True if it answered anything."""
    client.socket.shutdown(1)
    answered = 0
    try:
        while True:
            if isinstance(client, rcp.Client):
                first = client.read_exactly(1)
                client.buffer[0:0] = first
                if first == b"R":
                    rcp.check_response(rcp.json.loads(client.receive_payload().decode()))
                else:
                    line = b""
                    while not line.endswith(b"\n"):
                        line += client.read_exactly(1)
                    rcp.check_response(rcp.json.loads(line.decode()))
            else:
                client.receive()
            answered += 1
    except (rcp.Lost, kv.Lost):
        if client.buffer:
            raise AssertionError("half an answer: %s" % client.buffer.hex()) from None
    return answered


def wave(node, connect, seeds, count, source):
    answered = 0
    for _ in range(count):
        data = b"".join(mutate(source, source.choice(seeds)) for _ in range(source.randrange(1, 4)))
        with connect() as client:
            try:
                client.send_bytes(data)
                answered += drain(client)
            except (rcp.Lost, kv.Lost, OSError):
                pass
    assert node.alive(), node.log_end()
    return answered


def garbage__random_frames__node_stays_up_and_does_not_grow(node):
    source = random.Random(SEED)
    seeds = {
        "rcp": ([PING, rcp.frame(rcp.request("HELLO", {"protocol_version": 1})),
                 rcp.frame(rcp.request("HELLO", {"protocol_version": 1})) +
                 rcp.frame(rcp.request("PUT_MACHINE", {"machine": "m", "version": 1, "definition": {
                     "states": ["a"], "initial": "a", "transitions": []}})),
                 b'{"id":"1","op":"PING"}\n'], lambda: node.rcp(hello=False)),
        "kv": ([KV_PING, KV_SET, kv.frame(kv.body(kv.LOGIN, b"\x02" + kv.short("hello")))], node.kv),
    }
    for name, (frames, connect) in seeds.items():
        wave(node, connect, frames, COUNT // 10, source)
        before = node.anonymous_kib()
        answered = wave(node, connect, frames, COUNT, source)
        after = node.anonymous_kib()
        print("%s: %d connections with garbage, %d answers, resident %d -> %d KiB" % (name, COUNT, answered, before,
                                                                                      after))
        assert answered > 0, "nothing was answered"
        assert after < before + GROWTH_KIB, (before, after)
    with node.rcp() as client:
        assert client.call("PING") == {"pong": True}
    with node.kv() as client:
        assert client.ping() == b"pong"


def rcp__fatal_framing__is_answered_and_closed(node):
    def with_byte(index, value):
        data = bytearray(PING)
        data[index] = value
        return bytes(data)

    cases = {
        "magic": (with_byte(3, 0x31), "BAD_REQUEST"), "version": (with_byte(5, 2), "UNSUPPORTED_PROTOCOL"),
        "flags": (with_byte(7, 0x11), "BAD_REQUEST"), "checksum": (with_byte(14, PING[14] ^ 1), "BAD_REQUEST"),
        "length": (PING[:10] + bytes.fromhex("01000001") + PING[14:], "BAD_REQUEST"),
        "empty payload": (bytes.fromhex("524350580001000100000000000000000000"), "BAD_REQUEST"),
        "no JSON": (rcp.frame(b"{"), "BAD_REQUEST"), "no UTF-8": (rcp.frame(b'{"op":"\xff"}'), "BAD_REQUEST"),
        "number": (rcp.frame(b'{"op":"PING","params":{"a":1e999}}'), "BAD_REQUEST"),
        "depth": (rcp.frame(b'{"op":"PING","params":{"a":' + b"[" * 1000 + b"]" * 1000 + b"}}"), "BAD_REQUEST"),
    }
    for name, (data, code) in cases.items():
        with node.rcp(hello=False) as client:
            client.send_bytes(PING + data)
            assert client.receive()["result"] == {"pong": True}, name
            answer = client.receive()
            assert answer["id"] == "" and answer["error"]["code"] == code, (name, answer)
            assert client.at_end(), name


def rcp__frame_of_16_mib__is_taken(node):
    padding = "x" * (16 * 1024 * 1024 - len(rcp.request("PING", {"pad": ""})))
    payload = rcp.request("PING", {"pad": padding})
    assert len(payload) == rcp.PAYLOAD_MAX
    with node.rcp(hello=False) as client:
        client.send_bytes(rcp.frame(payload, flags=0))
        assert client.receive()["result"] == {"pong": True}


def kv__malformed_messages__are_answered_and_the_connection_stays(node):
    cases = [
        (b"\x00\x00\x00\x00", "invalid frame length"),
        (b"\x00\x00\x00\x01\x7f", "invalid magic number"),
        (b"\x00\x00\x00\x01\x7e", "payload too short"),
        (b"\x00\x00\x00\x08\x7e\x02\x00\x01\x00\x00\x00\x01", "invalid protocol version"),
        (b"\x00\x00\x00\x08\x7e\x01\x00\x03\x00\x00\x00\x01", "unknown message type"),
        (b"\x00\x00\x00\x08\x7e\x01\x00\x00\x00\x00\x00\x00", "empty payload"),
        (b"\x00\x00\x00\x08\x7e\x01\x00\x01\x00\x00\x00\x01", "payload too short"),
        (b"\x00\x00\x00\x09\x7e\x01\x00\x02\x00\x00\x00\x01x", "Only command messages are allowed"),
        (b"\x00\x00\x00\x09\x7e\x01\x00\x01\x00\x00\x00\x01x", "payload too short"),
        (kv.frame(bytes.fromhex("0001ffff0000000000000000")), "payload too short"),
    ]
    with node.kv() as client:
        for data, text in cases:
            client.send_bytes(data)
            status, payload = client.receive()
            assert status == kv.BAD_MESSAGE and payload.decode() == text, (data.hex(), status, payload)
        assert client.ping() == b"pong"


def http__garbage__is_refused(node):
    import socket
    for data in (b"\x00" * 100, b"GET\r\n\r\n", b"POST /status HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 100000):
        with socket.create_connection(("127.0.0.1", node.http_port), timeout=30) as raw:
            try:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                answer = raw.recv(4096)
            except ConnectionError:
                answer = b""
            assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (data[:40], answer)
    assert node.status()["node"] == 1


if __name__ == "__main__":
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
