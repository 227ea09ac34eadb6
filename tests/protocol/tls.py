#!/usr/bin/env python3
"""TLS on the ports of clients: versions, sizes, client certificates, and what wrong and slow clients do."""
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv, rcp  # noqa: E402
from lib.cluster import Cluster, program, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

MACHINE = {"states": ["a", "b"], "initial": "a", "transitions": [{"from": "a", "event": "GO", "to": "b"},
                                                                 {"from": "b", "event": "GO", "to": "a"}]}
ROUNDS = int(os.environ.get("KONTIKI_TLS_ROUNDS", "1000"))
GROWTH_KIB = 4 * 1024  # over ROUNDS connections: a leaked session would be several times as much
DEADLINE_S = 2  # of a handshake, by network.idle_timeout_secs


def openssl(*words, **options):
    subprocess.run(["openssl", *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=60, **options)


class Certificates:
    """Two authorities: server and client certificates of the first, a client certificate of the other."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        for authority in ("ca", "other-ca"):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=" + authority, "-keyout", self.path(authority + ".key"),
                    "-out", self.path(authority + ".pem"))
        self.issue("server", "ca", ("-newkey", "rsa:2048"))
        self.issue("client", "ca")
        self.issue("stranger", "other-ca")

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, name, authority, key=("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        with open(self.path("extensions"), "w", encoding="ascii") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("req", *key, "-nodes", "-subj", "/CN=" + name, "-keyout", self.path(name + ".key"),
                "-out", self.path(name + ".csr"))
        openssl("x509", "-req", "-in", self.path(name + ".csr"), "-CA", self.path(authority + ".pem"),
                "-CAkey", self.path(authority + ".key"), "-CAcreateserial", "-days", "2",
                "-extfile", self.path("extensions"), "-out", self.path(name + ".pem"))
        os.chmod(self.path(name + ".key"), 0o600)

    def context(self, version=None, show=None, authority="ca"):
        context = ssl.create_default_context(cafile=self.path(authority + ".pem"))
        if version:
            context.minimum_version = context.maximum_version = version
        if show:
            context.load_cert_chain(self.path(show + ".pem"), self.path(show + ".key"))
        return context


class Client(rcp.Client):
    """The handshake happens before HELLO."""

    def __init__(self, address, context, timeout=30.0):
        super().__init__(address, timeout, hello=False)
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            self.hello = self.call("HELLO", {"protocol_version": 1, "client_name": "tests"})
        except BaseException:
            self.socket.close()
            raise


class Scene:
    def __init__(self, cluster, certificates):
        self.node, self.certificates = cluster.nodes[0], certificates

    def client(self, **options):
        return Client(self.node.rcp_address, self.certificates.context(**options))

    def raw(self):
        return socket.create_connection(self.node.rcp_address, timeout=30)

    def log(self):
        with open(self.node.log_path, encoding="utf-8") as file:
            return file.read()

    def serves(self):
        with self.client() as client:
            client.call("PING")
        return True

    def restart(self, **settings):
        self.node.stop()
        self.node.settings.update({name.replace("__", "."): value for name, value in settings.items()})
        self.node.start()


def versions__both__are_spoken_and_told(scene):
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        with scene.client(version=version) as client:
            assert client.socket.version() == name
            assert "tls" in client.hello["features"], client.hello
            assert "tls" in client.call("INFO")["features"]
            client.call("PING")


def versions__older__are_refused(scene):
    context = scene.certificates.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is old is why it is here
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        Client(scene.node.rcp_address, context)
    except (ssl.SSLError, OSError, rcp.Lost):
        wait_until(lambda: "does not speak TLS 1.2 or 1.3" in scene.log(), "the log says so")
        return
    raise AssertionError("TLS 1.1 was taken")


def payload__megabytes__arrives_both_ways(scene):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with scene.client(version=version) as client:
            text = "x%d" % version * (3 << 18)
            made = client.call("CREATE_INSTANCE", {"machine": "m", "version": 1, "initial_ctx": {"text": text}})
            got = client.call("GET_INSTANCE", {"instance_id": made["instance_id"]})
            assert got["ctx"]["text"] == text
            requests = [client.send("GET_INSTANCE", {"instance_id": made["instance_id"]}) for _ in range(8)]
            for request in requests:
                assert client.answer(request)["ctx"]["text"] == text


def requests__pipelined__are_all_answered_in_order(scene):
    with scene.client() as client:
        payload = b"".join(rcp.frame(rcp.request("PING", {}, str(number))) for number in range(20000))
        client.socket.settimeout(60)
        for at in range(0, len(payload), 30011):
            client.socket.sendall(payload[at:at + 30011])
        for number in range(20000):
            assert client.receive()["id"] == str(number)


def requests__in_single_bytes__are_answered(scene):
    with scene.client() as client:
        for byte in rcp.frame(rcp.request("PING", {}, "slow")):
            client.socket.sendall(bytes([byte]))
        assert client.receive()["id"] == "slow"


def watch__events__come_over_tls(scene):
    with scene.client() as watcher, scene.client() as client:
        made = client.call("CREATE_INSTANCE", {"machine": "m", "version": 1, "instance_id": "watched"})
        watcher.call("WATCH_INSTANCE", {"instance_id": made["instance_id"]})
        for _ in range(50):
            client.call("APPLY_EVENT", {"instance_id": "watched", "event": "GO"})
        assert [event["to_state"] for event in watcher.events(50)] == ["b", "a"] * 25


def end__in_order__answers_what_was_asked_and_says_goodbye(scene):
    with scene.client() as client:
        client.socket.sendall(rcp.frame(rcp.request("BYE", {}, "1")))
        assert client.receive()["id"] == "1"
        client.socket.suppress_ragged_eofs = False  # an end without close_notify raises
        assert client.socket.recv(1) == b""
    with scene.client() as client:
        client.socket.sendall(b"".join(rcp.frame(rcp.request("PING", {}, str(i))) for i in range(100)))
        try:
            client.socket.unwrap()  # sends close_notify and waits for the node's, which comes behind the answers
        except ssl.SSLError as error:
            assert "APPLICATION_DATA_AFTER_CLOSE_NOTIFY" in str(error), error
    scene.serves()


def client__plain__is_closed_with_one_line(scene):
    before = scene.log().count("does not speak TLS\n")
    for _ in range(3):
        with scene.raw() as client:
            client.sendall(rcp.frame(rcp.request("PING", {})))
            answer = b""
            while True:
                more = client.recv(100)
                if not more:
                    break
                answer += more
            assert answer[:1] == b"\x15", answer  # an alert
    assert scene.log().count("does not speak TLS\n") <= before + 1
    assert "closing a client from 127.0.0.1: the other side does not speak TLS" in scene.log()


def client__garbage__is_closed_and_others_are_served(scene):
    for data in (b"\x16\x03\x01\xff\xff" + b"\0" * 70000, b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 600, os.urandom(1000),
                 b"\x17\x03\x03\x00\x01a"):
        with scene.raw() as client:
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1000):
                    pass
            except OSError:
                pass
    scene.serves()


def client__damages_a_record__is_closed(scene):
    with scene.client() as client:
        raw = socket.socket(fileno=os.dup(client.socket.fileno()))
        raw.settimeout(30)
        with raw:
            raw.sendall(b"\x17\x03\x03\x00\x30" + b"z" * 48)
            while raw.recv(1000):
                pass
    scene.serves()


def client__stranger_to_our_authority__leaves_a_line(scene):
    try:
        scene.client(authority="other-ca")
        raise AssertionError("the client took a certificate of an unknown authority")
    except ssl.SSLCertVerificationError:
        wait_until(lambda: "it refuses this node's certificate: signed by an authority unknown there" in scene.log(),
                   "the log says so")


def handshake__half__ends_in_time_and_costs_others_nothing(scene):
    scene.restart(network__idle_timeout_secs=DEADLINE_S)
    began = time.monotonic()
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    halves = [scene.raw() for _ in range(20)]
    for at, half in enumerate(halves):
        half.sendall(hello[:at % len(hello)])
    scene.serves()
    dripping = scene.raw()
    ended = False
    while not ended and time.monotonic() < began + 20:
        try:
            dripping.sendall(b"\x16" if time.monotonic() < began + 0.1 else b"\x03")
            dripping.settimeout(0.2)
            ended = dripping.recv(100) == b""
        except socket.timeout:
            continue
        except OSError:
            ended = True
    assert ended and time.monotonic() - began < 15
    for half in halves:
        half.settimeout(20)
        assert half.recv(100) in (b"", b"\x15\x03\x03\x00\x02\x02\x28")
        half.close()
    dripping.close()
    wait_until(lambda: "no TLS handshake in time" in scene.log(), "the log says so")
    scene.restart(network__idle_timeout_secs=300)


def reader__slow__holds_little_and_gets_everything(scene):
    with scene.client() as client:
        text = "y" * (1 << 20)
        made = client.call("CREATE_INSTANCE", {"machine": "m", "version": 1, "initial_ctx": {"text": text}})
        before = scene.node.anonymous_kib()
        count = 200
        payload = b"".join(rcp.frame(rcp.request("GET_INSTANCE", {"instance_id": made["instance_id"]}, str(number)))
                           for number in range(count))
        client.socket.sendall(payload)
        time.sleep(1)
        grown = scene.node.anonymous_kib() - before
        assert grown < 32 * 1024, "a client that does not read costs %d KiB" % grown
        scene.serves()
        for number in range(count):
            answer = client.receive()
            assert answer["id"] == str(number) and len(answer["result"]["ctx"]["text"]) == len(text)


def client__gone_while_written_to__is_forgotten(scene):
    with scene.client() as client:
        made = client.call("CREATE_INSTANCE", {"machine": "m", "version": 1, "initial_ctx": {"text": "z" * (1 << 20)}})
    ask = b"".join(rcp.frame(rcp.request("GET_INSTANCE", {"instance_id": made["instance_id"]})) for _ in range(50))
    for _ in range(10):
        client = scene.client()
        client.socket.sendall(ask)
        client.receive()
        client.close()  # with much unread: a reset
    scene.serves()
    client = scene.client()
    client.socket.sendall(ask)
    client.receive()
    scene.restart()  # with a write under way
    client.close()


def connections__thousand__leave_no_memory(scene):
    context = scene.certificates.context()

    def wave(count):
        for number in range(count):
            client = Client(scene.node.rcp_address, context)
            if number % 3 == 0:
                client.call("PING")
            client.close()
            if number % 5 == 0:
                with scene.raw() as half:
                    half.sendall(b"\x16\x03\x01" if number % 2 else b"plain")
    wave(ROUNDS // 2)
    before = scene.node.anonymous_kib()
    wave(ROUNDS)
    grown = scene.node.anonymous_kib() - before
    print("        %d KiB after %d more connections" % (grown, ROUNDS))
    assert grown < GROWTH_KIB or "asan" in program(), grown


def files__reloaded__are_shown_to_new_clients(scene):
    with scene.client() as before:
        shown = before.socket.getpeercert()["serialNumber"]
        scene.certificates.issue("server", "ca")  # now with a key of the other kind
        scene.node.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "new connections of clients use them" in scene.log(), "the log says so")
        with scene.client() as after:
            assert after.socket.getpeercert()["serialNumber"] != shown
        before.call("PING")
        os.rename(scene.certificates.path("server.key"), scene.certificates.path("away"))
        scene.node.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "tls stays as it was" in scene.log(), "the log says so")
        os.rename(scene.certificates.path("away"), scene.certificates.path("server.key"))
        scene.serves()


def key__of_each_form__is_read(scene):
    path = scene.certificates.path
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    form = {"pkcs8": ("pkcs8", "-topk8", "-nocrypt"), "traditional": ("pkey", "-traditional")}
    for name, newkey in (("rsa", ("-newkey", "rsa:2048")), ("ec", curve)):
        scene.certificates.issue(name, "ca", newkey)
        for kind, words in form.items():
            openssl(*words, "-in", path(name + ".key"), "-out", path("form.key"))
            with open(path("form.key"), encoding="ascii") as file:
                text = file.read()
            begin = "BEGIN PRIVATE" if kind == "pkcs8" else "BEGIN %s PRIVATE" % name.upper()
            assert begin in text, text
            if name == "ec":
                text = subprocess.run(["openssl", "ecparam", "-name", "prime256v1"], capture_output=True, text=True,
                                      check=True).stdout + text
            with open(path("form.key"), "w", encoding="ascii") as file:
                with open(path("ca.pem"), encoding="ascii") as other:
                    file.write(other.read() + text)
            scene.restart(tls__key_path=path("form.key"), tls__cert_path=path(name + ".pem"))
            scene.serves()
    scene.restart(tls__key_path=path("server.key"), tls__cert_path=path("server.pem"))


def kv_port__with_tls__speaks_it(scene):
    with kv.Client(scene.node.kv_address) as plain:
        assert plain is not None
    with socket.create_connection(scene.node.kv_address, timeout=30) as client:
        try:
            scene.certificates.context().wrap_socket(client, server_hostname="localhost")
            raise AssertionError("TLS on a plain port")
        except OSError:
            wait_until(lambda: "it speaks TLS, and this port does not" in scene.log(), "the log says so")
    scene.restart(listen__kv__tls="true")
    ping = bytes.fromhex("000000127e0100010000000a00010000000000000000")
    with socket.create_connection(scene.node.kv_address, timeout=30) as client:
        with scene.certificates.context().wrap_socket(client, server_hostname="localhost") as secure:
            secure.sendall(ping)
            assert len(secure.recv(100)) > 4


def client_certificate__required__keeps_others_out(scene):
    path = scene.certificates.path
    scene.restart(tls__require_client_cert="true", tls__client_ca_path=path("ca.pem"))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for show in (None, "stranger"):
            try:
                scene.client(version=version, show=show)
                raise AssertionError("a client with certificate %s was served" % show)
            except (ssl.SSLError, rcp.Lost, OSError):
                pass
        with scene.client(version=version, show="client") as client:
            client.call("PING")
    wait_until(lambda: "it shows no certificate" in scene.log(), "the log says so")
    wait_until(lambda: "signed by an unknown authority" in scene.log(), "the log says so")


def settings__that_make_no_sense__are_fatal(scene):
    path = scene.certificates.path
    both = {"tls.enabled": "true", "tls.cert_path": path("client.pem"), "tls.key_path": path("client.key")}
    for settings, says in (({"tls.enabled": "true"}, "tls.cert_path is not set"),
                           ({"tls.enabled": "true", "tls.cert_path": "x"}, "tls.key_path is not set"),
                           ({**both, "tls.require_client_cert": "true"}, "tls.client_ca_path is not set"),
                           ({**both, "tls.cert_path": "/nowhere.pem"}, "/nowhere.pem cannot be read"),
                           ({**both, "tls.key_path": path("stranger.key")}, "stranger.key: no key"),
                           ({**both, "tls.key_path": path("ca.pem")}, "ca.pem: no key"),
                           ({**both, "tls.require_client_cert": "true", "tls.client_ca_path": path("client.key")},
                            "client.key: no certificates")):
        folder = path("refused")
        words = sum((["--set", "%s=%s" % item] for item in {
            "storage.data_dir": folder, "network.bind_addr": "127.0.0.1:0", "listen.kv.address": "off",
            "admin.address": "off", "cluster.listen": "127.0.0.1:%d" % scene.node.peer_port, **settings}.items()), [])
        scene.node.kill()
        result = subprocess.run([program(), *words], capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 1 and re.search(says, result.stderr), (settings, result)
    scene.node.start()


def main():
    cluster = Cluster(1)
    certificates = Certificates(os.path.join(cluster.folder, "client-certs"))
    cluster.nodes[0].settings = {"tls.enabled": "true", "tls.cert_path": certificates.path("server.pem"),
                                 "tls.key_path": certificates.path("server.key")}
    with cluster:
        scene = Scene(cluster, certificates)
        with scene.client() as client:
            client.call("PUT_MACHINE", {"machine": "m", "version": 1, "definition": MACHINE})
        run(sys.modules[__name__], scene)


if __name__ == "__main__":
    main()
