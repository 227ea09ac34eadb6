"""A client of the key-value protocol, revision A, written from its specification alone, for tests.

Standard library only.
"""
import struct
import time

from .stream import Lost, ProtocolError, Stream

PING, VERSIONS, LOGIN, AUTH_STATUS = 1, 2, 100, 101
GET, SET, SET_TTL, DELETE, EXISTS, KEYS = 2000, 2001, 2002, 2003, 2004, 2005
BAD_MESSAGE, UNKNOWN_COMMAND, BAD_CREDENTIALS, BAD_REQUEST, UNAUTHORIZED = 1000, 1001, 1002, 1003, 1004
NO_COLLECTION, NOT_ALLOWED, NOT_FOUND, INTERNAL = 1006, 1007, 1008, 2000


class Refused(Exception):
    def __init__(self, status, payload):
        super().__init__("status %d: %s" % (status, payload.decode(errors="replace")))
        self.status = status
        self.payload = payload


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b"\x0c" + struct.pack(">I", len(data)) + data


def short(data):
    data = data if isinstance(data, bytes) else data.encode()
    return struct.pack(">H", len(data)) + data


def body(command, payload=b"", database=b"", collection=b""):
    return struct.pack(">H", command) + short(database) + short(collection) + struct.pack(">I", len(payload)) + payload


def frame(message_body, magic=0x7E, version=1, flags=0, kind=1):
    message = struct.pack(">BBBBI", magic, version, flags, kind, len(message_body)) + message_body
    return struct.pack(">I", len(message)) + message


class Client(Stream):
    def __init__(self, address, timeout=30.0, success=0, database="system", collection="collections"):
        super().__init__(address, timeout)
        self.success, self.database, self.collection = success, database.encode(), collection.encode()

    def receive_frame(self):
        head = self.read_exactly(4)
        return head + self.read_exactly(struct.unpack(">I", head)[0])

    def receive(self):
        """(status, payload) of the next response."""
        message = self.receive_frame()[4:]
        if len(message) < 14 or message[:4] != b"\x7e\x01\x00\x02":
            raise ProtocolError(message.hex())
        length, status, payload_length = struct.unpack(">IHI", message[4:14])
        if length != len(message) - 8 or payload_length != len(message) - 14:
            raise ProtocolError(message.hex())
        return status, message[14:]

    def answer(self):
        status, payload = self.receive()
        if status != self.success:
            raise Refused(status, payload)
        return payload

    def call(self, command, payload=b""):
        in_engine = command >= 1000
        self.send_bytes(frame(body(command, payload, self.database if in_engine else b"",
                                   self.collection if in_engine else b"")))
        return self.answer()

    def refusal(self, command, payload=b""):
        try:
            result = self.call(command, payload)
        except Refused as refused:
            return refused
        raise AssertionError("command %d was answered with %s" % (command, result.hex()))

    def ping(self):
        return self.call(PING)

    def get(self, key):
        """The encoded value, or None."""
        try:
            return self.call(GET, short(key))
        except Refused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise

    def set(self, key, value):
        return self.call(SET, short(key) + value)

    def set_ttl(self, key, value, seconds):
        expires = time.time_ns() + int(seconds * 1e9)
        return self.call(SET_TTL, short(key) + value + struct.pack(">q", expires))

    def login(self, user, password):
        return self.call(LOGIN, b"\x01" + short(user) + short(password))

    def login_key(self, key):
        return self.call(LOGIN, b"\x02" + short(key))
