"""A client of the state-machine protocol (RCP), written from its specification alone, for tests. Standard library only.

Blocking; one request at a time unless send() and receive() are used apart. Every failure is an exception: Refused when
the server said no, Lost when the connection ended, ProtocolError when the bytes were not what the specification says.
"""
import json
import struct

from .stream import Lost, ProtocolError, Stream

HEADER = struct.Struct(">4sHHHII")
MAGIC = b"RCPX"
CRC_PRESENT = 0x0001
PAYLOAD_MAX = 16 * 1024 * 1024
CODES = {
    "UNSUPPORTED_PROTOCOL", "BAD_REQUEST", "UNAUTHORIZED", "AUTH_FAILED", "NOT_FOUND", "MACHINE_NOT_FOUND",
    "MACHINE_VERSION_EXISTS", "MACHINE_VERSION_LIMIT_EXCEEDED", "INSTANCE_NOT_FOUND", "INSTANCE_EXISTS",
    "INVALID_TRANSITION", "GUARD_FAILED", "CONFLICT", "WAL_IO_ERROR", "INTERNAL_ERROR", "RATE_LIMITED",
}


def _crc_table():
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, response):
        error = response["error"]
        super().__init__("%s: %s" % (error["code"], error["message"]))
        self.code = error["code"]
        self.message = error["message"]
        self.retryable = error["retryable"]
        self.details = error.get("details", {})
        self.response = response


def frame(payload, flags=CRC_PRESENT, extension=b"", crc=None):
    if crc is None:
        crc = crc32c(payload) if flags & CRC_PRESENT else 0
    return HEADER.pack(MAGIC, 1, flags, len(extension), len(payload), crc) + extension + payload


def request(op, params=None, request_id="1", **more):
    message = {"type": "request", "id": request_id, "op": op}
    if params is not None:
        message["params"] = params
    message.update(more)
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


class Client(Stream):
    def __init__(self, address, timeout=30.0, hello=True, token=None):
        super().__init__(address, timeout)
        self.next_id = 0
        self.meta = {}
        if hello:
            self.hello = self.call("HELLO", {"protocol_version": 1, "client_name": "tests"})
        if token is not None:
            self.call("AUTH", {"token": token})

    def send(self, op, params=None):
        self.next_id += 1
        self.send_bytes(frame(request(op, params, str(self.next_id))))
        return str(self.next_id)

    def receive_payload(self):
        magic, version, flags, extension, length, crc = HEADER.unpack(self.read_exactly(HEADER.size))
        if magic != MAGIC or version != 1 or flags != CRC_PRESENT or extension != 0 or length > PAYLOAD_MAX:
            raise ProtocolError("header %r" % ((magic, version, flags, extension, length),))
        payload = self.read_exactly(length)
        if crc32c(payload) != crc:
            raise ProtocolError("checksum")
        return payload

    def receive(self):
        """The next response, checked against section 2.2 of the specification."""
        message = json.loads(self.receive_payload().decode())
        check_response(message)
        return message

    def answer(self, request_id):
        message = self.receive()
        if message["id"] != request_id:
            raise ProtocolError("answer to %r, expected %r" % (message["id"], request_id))
        self.meta = message.get("meta", {})
        if message["status"] == "error":
            raise Refused(message)
        return message["result"]

    def call(self, op, params=None):
        return self.answer(self.send(op, params))

    def refusal(self, op, params=None):
        """The Refused that a request must end with."""
        try:
            result = self.call(op, params)
        except Refused as refused:
            return refused
        raise AssertionError("%s %r was answered with %r" % (op, params, result))


def check_response(message):
    def need(condition, what):
        if not condition:
            raise ProtocolError("%s in %r" % (what, message))

    need(message.get("type") == "response", "type")
    need("id" in message, "id")
    need(message.get("status") in ("ok", "error"), "status")
    if message["status"] == "ok":
        need(isinstance(message.get("result"), dict), "result")
        need("error" not in message, "both result and error")
    else:
        need("result" not in message, "both result and error")
        error = message.get("error")
        need(isinstance(error, dict), "error")
        need(error.get("code") in CODES, "error code")
        need(isinstance(error.get("message"), str), "message")
        need(isinstance(error.get("retryable"), bool), "retryable")
        need("details" not in error or isinstance(error["details"], dict), "details")
        for word in ("connection", "not connected", "channel closed"):
            need(word not in error["message"], "words that make clients reconnect")
    meta = message.get("meta", {})
    need(isinstance(meta, dict) and None not in meta.values(), "meta")
