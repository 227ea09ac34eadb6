#!/usr/bin/env python3
"""The kontiki tool over TLS: versions, whom it trusts, client certificates, its words for what goes wrong. What speaks
TLS is a proxy in front of a plain node, so that every fault can be made."""
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, program  # noqa: E402
from lib.run import run  # noqa: E402

OK, REFUSED, USAGE, NO_ANSWER = range(4)
DOOR = ('{"states":["shut","open"],"initial":"shut","transitions":[{"from":"shut","event":"OPEN","to":"open"},'
        '{"from":"open","event":"CLOSE","to":"shut"}]}')
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def command(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (words, done.stderr)


class Certificates:
    """Two authorities with a certificate each, and what openssl makes of the first one beside that."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("good", "other"):
            command(program("kontiki"), "certs", self.path(name), "--nodes", "1")
        self.ca = self.path("good/ca.pem")
        self.other_ca = self.path("other/ca.pem")
        self.address = self.pair("good/node1")
        self.other = self.pair("other/node1")
        self.name = self.make("name", "subjectAltName=DNS:db.example", 2)
        self.expired = self.make("expired", "subjectAltName=IP:127.0.0.1", -1)
        self.common_name = self.make("common", "keyUsage=digitalSignature", 2)

    def path(self, name):
        return os.path.join(self.folder, name)

    def pair(self, name):
        return self.path(name + ".pem"), self.path(name + "-key.pem")

    def make(self, name, extension, days):
        pem, key = self.pair(name)
        request, extensions = self.path(name + ".csr"), self.path(name + ".ext")
        with open(extensions, "w", encoding="ascii") as file:
            file.write(extension + "\n")
        command("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                key, "-subj", "/CN=127.0.0.1", "-out", request)
        command("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("good/ca-key.pem"),
                "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", pem)
        return pem, key


class Proxy:
    """Takes TLS off what comes and passes it on to a node."""

    def __init__(self, node, pair, version=None, client_ca=None):
        self.to = node.rcp_address
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair)
        if version:
            warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is there to be refused
            self.context.minimum_version = self.context.maximum_version = version
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca)
        self.names = []
        self.context.sni_callback = lambda _session, name, _context: self.names.append(name)
        self.connections = 0
        self.open = True
        self.threads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start(self.accept)

    def start(self, what, *arguments):
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    @property
    def endpoint(self):
        return "127.0.0.1:%d" % self.port

    def accept(self):
        self.listener.settimeout(0.05)
        while self.open:
            try:
                raw, _ = self.listener.accept()
            except socket.timeout:
                continue
            self.connections += 1
            self.start(self.serve, raw)
        self.listener.close()

    def serve(self, raw):
        try:
            raw.settimeout(10)
            with self.context.wrap_socket(raw, server_side=True) as outer, socket.create_connection(self.to) as inner:
                outer.setblocking(False)
                while self.open and self.pass_on(outer, inner):
                    pass
        except OSError:
            raw.close()

    @staticmethod
    def pass_on(outer, inner):
        if not outer.pending() and not select.select([outer, inner], [], [], 0.05)[0]:
            return True
        try:
            text = outer.recv(65536)
            if not text:
                return False
            inner.sendall(text)
        except ssl.SSLWantReadError:
            pass
        if select.select([inner], [], [], 0)[0]:
            text = inner.recv(65536)
            if not text:
                return False
            Proxy.send_all(outer, text)
        return True

    @staticmethod
    def send_all(outer, text):
        while text:
            try:
                text = text[outer.send(text):]
            except ssl.SSLWantWriteError:
                select.select([], [outer], [], 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open = False
        for thread in list(self.threads):
            thread.join(30)


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KONTIKI_", "RSTMDB_"))}
    return {**kept, **more}


def tool(*words, code=OK, stdin="", env=None):
    """Runs the tool; its exit code must be `code`. (stdout, stderr)"""
    result = subprocess.run([program("kontiki"), *words], input=stdin, capture_output=True, text=True, check=False,
                            timeout=120, env=environment(**(env or {})))
    assert result.returncode == code, (words, result)
    return result.stdout, result.stderr


def ping(where, *words, **options):
    endpoint = where if isinstance(where, str) else where.endpoint
    return tool("-s", endpoint, *words, "ping", **options)


def refused(where, *words, sentence):
    """No connection, told in these words and long before the time is over."""
    begin = time.monotonic()
    _, errors = ping(where, *words, code=NO_ANSWER)
    assert sentence in errors, errors
    assert time.monotonic() - begin < 20, "it went on trying"


def ping__tls_1_2_and_1_3__answer(node, certificates):
    for version in VERSIONS:
        with Proxy(node, certificates.address, version) as proxy:
            assert "PONG" in ping(proxy, "--tls", "--ca-cert", certificates.ca)[0].upper()


def ping__tls_1_1__is_refused(node, certificates):
    with Proxy(node, certificates.address, ssl.TLSVersion.TLSv1_1) as proxy:
        proxy.context.set_ciphers("DEFAULT@SECLEVEL=0")
        refused(proxy, "--ca-cert", certificates.ca, sentence="neither TLS 1.2 nor 1.3")


def tls__switches__each_imply_it(node, certificates):
    with Proxy(node, certificates.address) as proxy:
        ping(proxy, "--ca-cert", certificates.ca)
        ping(proxy, "-k")
        ping(proxy, "--insecure")
        trusted = {"SSL_CERT_FILE": certificates.ca}
        ping(proxy, "--tls", env=trusted)
        ping(proxy, "--client-cert", certificates.name[0], "--client-key", certificates.name[1], env=trusted)
        assert proxy.connections == 5


def tls__environment__counts(node, certificates):
    with Proxy(node, certificates.address, client_ca=certificates.ca) as proxy:
        own = {"RSTMDB_CLIENT_CERT": certificates.name[0], "RSTMDB_CLIENT_KEY": certificates.name[1]}
        ping(proxy, env={"RSTMDB_CA_CERT": certificates.ca, **own})
        ping(proxy, env={"RSTMDB_TLS": "1", "SSL_CERT_FILE": certificates.ca, **own})
        ping(proxy, env={"KONTIKI_TLS": "true", "KONTIKI_CA_CERT": certificates.ca, **own})
    ping("127.0.0.1:%d" % node.rcp_port, env={"RSTMDB_TLS": "false"})


def server_certificate__of_an_unknown_authority__is_refused(node, certificates):
    sentence = "the server's certificate is signed by an unknown authority"
    for version in VERSIONS:
        with Proxy(node, certificates.address, version) as proxy:
            refused(proxy, "--ca-cert", certificates.other_ca, sentence=sentence)
            refused(proxy, "--tls", sentence=sentence)
            ping(proxy, "--ca-cert", certificates.other_ca, "--insecure")


def server_certificate__expired__is_refused(node, certificates):
    with Proxy(node, certificates.expired) as proxy:
        refused(proxy, "--ca-cert", certificates.ca, sentence="the server's certificate has expired")
        ping(proxy, "-k")


def server_certificate__for_another_name__is_refused(node, certificates):
    sentence = "the server's certificate does not have the name: "
    with Proxy(node, certificates.name) as proxy:
        trust = ("--ca-cert", certificates.ca)
        refused(proxy, *trust, sentence=sentence + "127.0.0.1")
        refused(proxy, *trust, "--server-name", "web.example", sentence=sentence + "web.example")
        refused("localhost:%d" % proxy.port, *trust, sentence=sentence + "localhost")
        ping(proxy, "--ca-cert", certificates.ca, "--server-name", "db.example")
        ping(proxy, "-k")
        assert proxy.names == [None, "web.example", "localhost", "db.example", None], proxy.names
    with Proxy(node, certificates.common_name) as proxy:
        refused(proxy, "--ca-cert", certificates.ca, sentence=sentence)


def client_certificate__required__must_be_given(node, certificates):
    trust = ("--ca-cert", certificates.ca)
    for version in VERSIONS:
        with Proxy(node, certificates.address, version, client_ca=certificates.ca) as proxy:
            ping(proxy, *trust, "--client-cert", certificates.name[0], "--client-key", certificates.name[1])
            refused(proxy, *trust, sentence="client certificate")
            refused(proxy, *trust, "--client-cert", certificates.other[0], "--client-key", certificates.other[1],
                    sentence="does not take the client certificate: it is signed by an authority unknown there")
            refused(proxy, *trust, "--client-cert", certificates.expired[0], "--client-key", certificates.expired[1],
                    sentence="does not take the client certificate: it has expired")


def tls__where_the_server_has_none__is_told(node, certificates):
    refused("127.0.0.1:%d" % node.rcp_port, "--ca-cert", certificates.ca, sentence="not speak TLS")


def plain__where_the_server_has_tls__is_told(node, certificates):
    with Proxy(node, certificates.address) as proxy:
        ping(proxy, "--timeout-ms", "1000", code=NO_ANSWER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            with listener.accept()[0] as client:
                client.recv(4096)
                client.sendall(b"\x15\x03\x03\x00\x02\x02\x32")  # decode_error, as servers may answer what is no TLS
        thread = threading.Thread(target=answer)
        thread.start()
        refused("127.0.0.1:%d" % listener.getsockname()[1], sentence="the server speaks TLS")
        thread.join()


def handshake__with_a_silent_server__ends_in_time(_, certificates):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        _, errors = ping("127.0.0.1:%d" % silent.getsockname()[1], "--ca-cert", certificates.ca, "--timeout-ms", "2500",
                         code=NO_ANSWER)
        assert "no TLS handshake in time" in errors, errors
        assert time.monotonic() - begin < 20


def options__that_make_no_sense__are_usage(node, certificates):
    pem, key = certificates.name
    where = "127.0.0.1:%d" % node.rcp_port
    for words, sentence in ((["--client-cert", pem], "the key is missing"),
                            (["--client-key", key], "the certificate is missing"),
                            (["--client-cert", pem, "--client-key", certificates.other[1]], "fits the certificate"),
                            (["--client-cert", key, "--client-key", key], "no certificate"),
                            (["--ca-cert", key], "no certificates of authorities"),
                            (["--ca-cert", "/nonexistent"], "/nonexistent cannot be read"),
                            (["--server-name", "x"], "--server-name"), (["--tls", "--server-name", ""], "empty"),
                            (["--tls=yes"], "takes no value")):
        _, errors = ping(where, *words, code=USAGE)
        assert sentence in errors, errors
    _, errors = tool("-s", where, "--tls", "kv", "ping", code=USAGE)
    assert "no TLS" in errors, errors
    _, errors = tool("-s", where, "--client-cert", pem, "watch-all", code=USAGE)
    assert "the key is missing" in errors, errors


def shell__several_commands__share_a_connection(node, certificates):
    for version in VERSIONS:
        with Proxy(node, certificates.address, version) as proxy:
            tool("-s", proxy.endpoint, "--ca-cert", certificates.ca, "shell", stdin="ping\nping\ninfo\n")
            assert proxy.connections == 1, proxy.connections


def several_endpoints__some_of_no_use__the_good_one_answers(node, certificates):
    with Proxy(node, certificates.expired) as expired, Proxy(node, certificates.other) as other:
        with Proxy(node, certificates.address) as good:
            both = "%s,%s" % (expired.endpoint, other.endpoint)
            ping("%s,%s" % (both, good.endpoint), "--ca-cert", certificates.ca)
            assert good.connections == 1
        refused(both, "--ca-cert", certificates.ca, sentence="the server's certificate")


def request__of_megabytes__and_its_answer_pass(node, certificates):
    for version in VERSIONS:
        with Proxy(node, certificates.address, version) as proxy:
            common = ("-s", proxy.endpoint, "--ca-cert", certificates.ca, "--json")
            tool(*common, "put-machine", "door", "1", DOOR)
            name = "large-%s" % version.name
            text = "x" * 3000000
            tool(*common, "create-instance", "door", "1", "--id", name, "--ctx", "@-",
                 stdin=json.dumps({"text": text}))
            assert json.loads(tool(*common, "get-instance", name)[0])["ctx"] == {"text": text}


def watch__whose_server_goes__goes_on_at_the_next(node, certificates):
    with Proxy(node, certificates.address, VERSIONS[1]) as last:
        with Proxy(node, certificates.address, VERSIONS[0]) as first:
            where = ["-s", "%s,%s" % (first.endpoint, last.endpoint), "--ca-cert", certificates.ca]
            tool(*where, "put-machine", "door", "1", DOOR)
            tool(*where, "create-instance", "door", "1", "--id", "watched")
            watch = subprocess.Popen([program("kontiki"), *where, "watch-instance", "watched"], text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
            assert "Watching at" in watch.stderr.readline()
            tool(*where, "apply-event", "watched", "OPEN")
            assert json.loads(watch.stdout.readline())["event"] == "OPEN"
        where[1] = last.endpoint
        assert last.endpoint in watch.stderr.readline()
        tool(*where, "apply-event", "watched", "CLOSE")
        tool(*where, "apply-event", "watched", "OPEN")
        assert [json.loads(watch.stdout.readline())["event"] for _ in range(2)] == ["CLOSE", "OPEN"]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 0, watch.stderr.read()


def main():
    with Cluster(1) as cluster, tempfile.TemporaryDirectory() as folder:
        run(sys.modules[__name__], cluster.nodes[0], Certificates(folder))


main()
