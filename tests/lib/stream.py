"""What both protocol clients stand on: a TCP connection, read in exact pieces."""
import socket


class Lost(Exception):
    """The connection ended or could not be made; the outcome of what was sent is unknown."""


class ProtocolError(Exception):
    """The server sent something that the specification does not allow."""


class Stream:
    def __init__(self, address, timeout):
        try:
            self.socket = socket.create_connection(address, timeout=timeout)
        except OSError as error:
            raise Lost("cannot connect to %s:%d: %s" % (*address, error)) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send_bytes(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Lost(str(error)) from error

    def read_exactly(self, count):
        while len(self.buffer) < count:
            try:
                data = self.socket.recv(65536)
            except OSError as error:
                raise Lost(str(error)) from error
            if not data:
                raise Lost("the server closed the connection")
            self.buffer += data
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def at_end(self):
        """Waits for the server to close; True if it did so without another byte."""
        if self.buffer:
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
