#!/usr/bin/env python3
"""The key-value protocol, revision A, against a real node: every command, in the specified order of checks; and the
frames of the specification byte for byte."""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

# Name, request, answer with success code 1. In this order on one connection to a fresh node with user oliver/hello.
FRAMES = """
A01
000000127e0100010000000a00010000000000000000
000000127e0100020000000a000100000004706f6e67
A02
000000127e0100010000000a00020000000000000000
000000107e010002000000080001000000020101
A03
000000127e0100010000000a00650000000000000000
0000000e7e0100020000000603ec00000000
A04
0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579
0000000e7e0100020000000603ec00000000
A05
000000217e010001000000190064000000000000000f0100066f6c6976657200046e6f7065
0000000e7e0100020000000603ea00000000
A06
000000227e0100010000001a006400000000000000100100066f6c69766572000568656c6c6f
0000000e7e01000200000006000100000000
A07
0000001a7e010001000000120064000000000000000802000568656c6c6f
0000000e7e01000200000006000100000000
A08
000000127e0100010000000a00650000000000000000
0000000e7e01000200000006000100000000
A09
0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579
0000000e7e0100020000000603f000000000
A10
0000002f7e0100010000002707d1000673797374656d000b636f6c6c656374696f6e730000000c00056d796b6579070000002a
0000000e7e01000200000006000100000000
A11
0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579
000000137e0100020000000b000100000005070000002a
A12
000000347e0100010000002c07d2000673797374656d000b636f6c6c656374696f6e730000001100056d796b6579020938eecfcf56a600\
00
0000000e7e01000200000006000100000000
A13
000000347e0100010000002c07d2000673797374656d000b636f6c6c656374696f6e730000001100056d796b6579020900000000000000\
00
0000004e7e0100020000004603eb00000040696e76616c69642054544c3a20657870697265734174206d75737420626520612066757475\
72652074696d657374616d7020696e206e616e6f7365636f6e6473
A14
0000002a7e0100010000002207d1000673797374656d000b636f6c6c656374696f6e730000000700056d796b6579
000000377e0100020000002f03eb00000029696e76616c69642076616c756520656e636f64696e673a207061796c6f616420746f6f2073\
686f7274
A15
000000127e0100010000000a270f0000000000000000
0000002c7e0100020000002403e90000001e636f6d6d616e6420776974682049442039393939206e6f7420666f756e64
A16
0000001f7e0100010000001707d0000673797374656d00046e6f70650000000300016b
0000000e7e0100020000000603ee00000000
A17
00000000
000000227e0100020000001a03e800000014696e76616c6964206672616d65206c656e677468
A18
000000127e0200010000000a00010000000000000000
000000267e0100020000001e03e800000018696e76616c69642070726f746f636f6c2076657273696f6e
A19
000000127e0100030000000a00010000000000000000
000000227e0100020000001a03e800000014756e6b6e6f776e206d6573736167652074797065
A20
000000127e0100020000000a00010000000000000000
0000002f7e0100020000002703e8000000214f6e6c7920636f6d6d616e64206d657373616765732061726520616c6c6f776564
A21
000000347e0100010000002c07d1000673797374656d000b636f6c6c656374696f6e7300000011000567726565740c0000000548656c6c\
6f
0000000e7e01000200000006000100000000
A22
0000002a7e0100010000002207d0000673797374656d000b636f6c6c656374696f6e730000000700056772656574
000000187e0100020000001000010000000a0c0000000548656c6c6f
"""

VALUES = """00 0101 0100 02ab 031234 04deadbeef 05ffffffffffffffff 06fffe 070000002a 088000000000000000 093fc00000
0ac05edd2f1a9fbe77 0b00000003010203 0b00000000 0c0000000548656c6c6f 0c00000000 0c00000003e282ac
0d0c00030000001f0c0000000548656c6c6f0c00000005576f726c640c00000006466f6f426172 0d0700020000000a07000000010700000002
0d00000000000000 0e0700020000001b0c00000003616765070000001e0c000000046e616d650700000004 0e00000000000000
0a7ff8000000000001 0a8000000000000000""".split()

REFUSED = {"": "payload too short", "02": "payload too short", "0c00000005ab": "payload too short",
           "04000000": "payload too short", "0f": "invalid type", "ff00": "invalid type",
           "0d020002000000050201030002": "invalid type", "0d0200090000000402010202": "payload too short"}


def frames__of_the_specification__byte_for_byte(node):
    with node.kv() as client:
        words = FRAMES.split()
        for name, request, wanted in zip(words[::3], words[1::3], words[2::3]):
            answer = bytearray(bytes.fromhex(wanted))
            if answer[12:14] == b"\x00\x01":
                answer[12:14] = struct.pack(">H", node.cluster.success)
            client.send_bytes(bytes.fromhex(request))
            found = client.receive_frame()
            assert found == bytes(answer), (name, found.hex(), answer.hex())


def values__every_type__come_back_unchanged(node):
    with login(node) as client:
        for number, value in enumerate(VALUES):
            client.set("value-%d" % number, bytes.fromhex(value))
        for number, value in enumerate(VALUES):
            assert client.get("value-%d" % number).hex() == value, value


def values__malformed__are_refused_with_the_specified_text(node):
    with login(node) as client:
        for value, text in REFUSED.items():
            refused = client.refusal(kv.SET, kv.short("bad") + bytes.fromhex(value))
            assert refused.status == kv.BAD_REQUEST, (value, refused)
            assert refused.payload.decode() == "invalid value encoding: " + text, (value, refused)
        deep = b"\x00"
        for _ in range(65):
            deep = b"\x0d" + deep[:1] + struct.pack(">HI", 1, len(deep)) + deep
        assert client.refusal(kv.SET, kv.short("deep") + deep).status == kv.BAD_REQUEST
        assert client.get("bad") is None and client.get("deep") is None


def values__surplus_behind__is_ignored(node):
    with login(node) as client:
        client.call(kv.SET, kv.short("surplus") + b"\x02\x07" + b"more")
        assert client.get("surplus") == b"\x02\x07"


def keys__of_every_length__are_binary_safe(node):
    with login(node) as client:
        keys = [b"", b"\x00", b"a" * 511, b"a" * 512, b"b" * 65535, b"b" * 65534 + b"\xff"]
        for number, key in enumerate(keys):
            client.set(key, struct.pack(">BI", 4, number))
        for number, key in enumerate(keys):
            assert client.get(key) == struct.pack(">BI", 4, number), len(key)


def ttl__over__key_is_gone(node):
    with login(node) as client:
        client.set_ttl("short-lived", kv.string("x"), 0.4)
        assert client.get("short-lived") == kv.string("x")
        wait_until(lambda: client.get("short-lived") is None, "the key expires")
        client.set_ttl("kept", kv.string("x"), 0.3)
        client.set("kept", kv.string("y"))
        client.set_ttl("timer", kv.string("x"), 0.5)
        wait_until(lambda: client.get("timer") is None, "the timer expires")
        assert client.get("kept") == kv.string("y"), "a plain Set removes the expiry"
        # Replicated time has milliseconds.
        past = struct.pack(">q", time.time_ns() - 2_000_000)
        assert client.refusal(kv.SET_TTL, kv.short("kept") + kv.string("z") + past).status == kv.BAD_REQUEST
        assert client.get("kept") == kv.string("y")


def extensions__delete_exists_keys__work(node):
    with login(node, collection="kv_test") as client:
        client.set("a", b"\x00")
        client.set("b", b"\x00")
        client.call(kv.EXISTS, kv.short("a"))
        keys = client.call(kv.KEYS)
        assert keys == b"\x0d\x0c" + struct.pack(">HI", 2, 12) + kv.string("a") + kv.string("b"), keys.hex()
        client.call(kv.DELETE, kv.short("a"))
        client.call(kv.DELETE, kv.short("a"))
        assert client.refusal(kv.EXISTS, kv.short("a")).status == kv.NOT_FOUND
        assert client.get("a") is None and client.get("b") == b"\x00"


def payloads__truncated__are_refused_with_the_specified_texts(node):
    with login(node) as client:
        for command, payload, text in (
                (kv.GET, b"", "invalid payload length"), (kv.GET, b"\x00", "invalid payload length"),
                (kv.GET, b"\x00\x05abc", "invalid payload length for key"),
                (kv.SET, b"\x00", "invalid payload length"),
                (kv.SET, b"\x00\x05abc", "invalid payload length for key"),
                (kv.SET_TTL, b"\x00\x01k" + b"\x00" * 7, "invalid payload length for key and TTL"),
                (kv.LOGIN, b"", "authentication type is required"),
                (kv.LOGIN, b"\x03", "unsupported authentication type"),
                (kv.LOGIN, b"\x01\xff\xffx", "invalid payload for basic authentication"),
                (kv.LOGIN, b"\x02\x00\x05abc", "invalid payload for API key authentication")):
            refused = client.refusal(command, payload)
            assert refused.status == kv.BAD_REQUEST and refused.payload.decode() == text, (command, payload, refused)


def collections__unknown_and_of_other_engines__1006_and_1007(node):
    with login(node) as client:
        client.collection = b"nope"
        assert client.refusal(kv.GET, b"").status == kv.NO_COLLECTION
        client.database = b"nope"
        assert client.refusal(kv.GET, kv.short("k")).status == kv.NO_COLLECTION
        client.database, client.collection = b"system", b"obj_test"
        assert client.refusal(kv.GET, kv.short("k")).status == kv.NOT_ALLOWED
        client.database, client.collection = b"system_kv", b"test"
        assert client.refusal(kv.GET, kv.short("k")).status == kv.NO_COLLECTION


def pipeline__hundreds_of_commands__answered_in_order(node):
    with login(node) as client:
        data = b""
        for number in range(500):
            value = struct.pack(">BI", 4, number)
            data += kv.frame(kv.body(kv.SET, kv.short("pipe") + value, client.database, client.collection))
            data += kv.frame(kv.body(kv.GET, kv.short("pipe"), client.database, client.collection))
        client.send_bytes(data)
        for number in range(500):
            assert client.answer() == b""
            assert client.answer() == struct.pack(">BI", 4, number)


def login__failed__keeps_the_earlier_one(node):
    with login(node) as client:
        refused = client.refusal(kv.LOGIN, b"\x01" + kv.short("oliver") + kv.short("wrong"))
        assert refused.status == kv.BAD_CREDENTIALS, refused
        client.call(kv.AUTH_STATUS)
        client.set("still", b"\x00")


def login__with_commands_behind_it__they_wait_for_it(node):
    with node.kv(success=node.cluster.success) as client:
        client.send_bytes(kv.frame(kv.body(kv.LOGIN, b"\x01" + kv.short("oliver") + kv.short("hello"))) +
                          kv.frame(kv.body(kv.AUTH_STATUS)) +
                          kv.frame(kv.body(kv.SET, kv.short("behind") + b"\x00", client.database, client.collection)))
        for _ in range(3):
            assert client.answer() == b""


def length__over_16_mib__is_answered_and_closed(node):
    with node.kv() as client:
        client.send_bytes(struct.pack(">I", 16 * 1024 * 1024 + 1))
        status, payload = client.receive()
        assert status == kv.BAD_MESSAGE and payload == b"invalid frame length", (status, payload)
        try:
            client.read_exactly(1)
        except kv.Lost:
            return
        raise AssertionError("the connection stays open although the stream is out of step")


def login(node, **options):
    client = node.kv(success=node.cluster.success, **options)
    client.login("oliver", "hello")
    return client


CONFIG = """
auth:
  required: true
  users:
    - {name: oliver, password: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
       api_key: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", role: admin}
"""

if __name__ == "__main__":
    for success in (0, 1):
        with Cluster(1, config=CONFIG, settings={"listen.kv.success_code": success}) as cluster:
            cluster.success = success
            run(sys.modules[__name__], cluster.nodes[0])
