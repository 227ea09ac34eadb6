#!/usr/bin/env python3
"""Mutual TLS between real nodes: every faulty certificate, TLS where there is none and the reverse are refused with a
line on both sides, while clients of the other nodes notice nothing; certificates and their authority are replaced under
load."""
import os
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib.cluster import Cluster, free_ports, program, wait_until  # noqa: E402
from lib.load import Load  # noqa: E402
from lib.rcp import crc32c  # noqa: E402

VERDICT_NAME = 8


def certs(folder, nodes, *words):
    done = subprocess.run([program("kontiki"), "certs", folder, "--nodes", nodes, *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


class Files:
    """The files that a node is told to use; their contents are exchanged."""

    def __init__(self, folder, node):
        self.folder = folder
        self.node = node
        os.makedirs(folder)
        node.settings = {"cluster.tls." + name: self.path(name) for name in ("ca", "cert", "key")}

    def path(self, name):
        return os.path.join(self.folder, name + ".pem")

    def use(self, authority, pair):
        self.use_authorities([authority])
        self.use_pair(pair)

    def use_authorities(self, authorities):
        text = b""
        for authority in authorities:
            with open(os.path.join(authority, "ca.pem"), "rb") as file:
                text += file.read()
        with open(self.path("ca"), "wb") as file:
            file.write(text)

    def use_pair(self, pair):
        for name, ending in (("cert", ".pem"), ("key", "-key.pem")):
            shutil.copy(pair + ending, self.path(name))


class Log:
    """What a node says from now on."""

    def __init__(self, node):
        self.node = node
        self.start = os.path.getsize(node.log_path) if os.path.exists(node.log_path) else 0

    def text(self):
        with open(self.node.log_path, encoding="utf-8", errors="replace") as file:
            file.seek(self.start)
            return file.read()

    def wait(self, *parts):
        """A line that has all the parts."""
        def found():
            return [line for line in self.text().split("\n") if all(part in line for part in parts)]
        return wait_until(found, "node %d says %r" % (self.node.id, parts))[0]


def check_tool(folder):
    code, said = certs(folder, "1,2,3", "--hosts", "a.example,10.0.0.2,::3")
    assert code == 0, said
    for name in ("ca-key", "node1-key", "node3-key"):
        mode = stat.S_IMODE(os.stat(os.path.join(folder, name + ".pem")).st_mode)
        assert mode == 0o600, (name, oct(mode))
    with open(os.path.join(folder, "node2.pem"), "rb") as file:
        before = file.read()
    code, said = certs(folder, "4,2")
    assert code == 1 and "node2.pem exists and is not written over" in said, said
    assert not os.path.exists(os.path.join(folder, "node4.pem"))
    with open(os.path.join(folder, "node2.pem"), "rb") as file:
        assert file.read() == before
    for words, part in ((("0",), "no node id"), (("1,1",), "twice"), (("1,2", "--hosts", "a"), "1 hosts for 2 nodes"),
                        (("1", "--hosts", "a b"), "neither a host name"), (("1", "--days", "0"), "not within")):
        code, said = certs(folder + "-none", *words)
        assert code == 2 and part in said, (words, said)
    assert not os.path.exists(folder + "-none")


class Test:
    def __init__(self, cluster):
        self.cluster = cluster
        self.good = os.path.join(cluster.folder, "certs")
        self.other = os.path.join(cluster.folder, "other")
        self.spare = os.path.join(cluster.folder, "spare")
        check_tool(self.good)
        assert certs(self.other, "1,2,3")[0] == 0
        os.makedirs(self.spare)
        self.files = [Files(os.path.join(cluster.folder, "files%d" % node.id), node) for node in cluster.nodes]
        for files in self.files:
            files.use(self.good, self.pair(files.node))

    def pair(self, node, folder=None):
        return os.path.join(folder or self.good, "node%d" % node.id)

    def expired(self, node):
        path = os.path.join(self.spare, "expired%d" % node.id)
        subprocess.run([program("make_certificate"), self.good, path, str(node.id), "-7200", "-3600"], check=True)
        return path

    # ---- node 3 is started with something wrong, and then as it should be ----

    def refused(self, what, at_the_others, at_itself):
        one, two, three = self.cluster.nodes
        logs = [Log(one), Log(two)]
        own = Log(three)
        three.start(wait=False)
        for log in logs:
            log.wait("node 3 at", at_the_others)
        for part in at_itself:
            own.wait(part)
        assert three.http("/readyz")[0] == 503, "it must not serve"
        status = self.cluster.leader(other_than=three).status()
        assert not [member for member in status["members"] if member["id"] == 3 and member["connected"]], status
        three.stop()
        print("refused: %s" % what, flush=True)

    def bad_nodes(self):
        three, files = self.cluster.nodes[2], self.files[2]
        files.use(self.other, self.pair(three, self.other))
        self.refused("another authority", "its certificate is signed by an unknown authority",
                     ["its certificate is signed by an unknown authority",
                      "it refuses this node's certificate: signed by an authority unknown there"])
        files.use(self.good, self.expired(three))
        self.refused("expired", "its certificate has expired",
                     ["has expired: other nodes refuse it", "it refuses this node's certificate: expired"])
        settings, three.settings = three.settings, {}
        self.refused("no TLS", "the other side does not speak TLS",
                     ["neither encrypted nor authenticated", "it speaks TLS, and this node does not"])
        three.settings = settings
        # It would be refused by everybody, and so refuses itself.
        files.use(self.good, self.pair(self.cluster.nodes[0]))
        own = Log(three)
        three.start(wait=False)
        assert three.process.wait(30) == 1
        own.wait("cannot start", "the certificate does not name node 3")
        files.use(self.good, self.pair(three))
        three.process = None

    def wrong_address(self):
        """Node 3 takes the addresses of nodes 1 and 2 for each other's, and cannot be reached by them."""
        one, two, three = self.cluster.nodes
        own, logs = Log(three), (Log(one), Log(two))
        settings = dict(three.settings)
        three.settings["cluster.listen"] = "127.0.0.1:%d" % free_ports(1)[0]
        three.settings["cluster.members"] = "1@127.0.0.1:%d,2@127.0.0.1:%d,3@127.0.0.1:%d" % (
            two.peer_port, one.peer_port, three.peer_port)
        three.start(wait=False)
        own.wait("node 2 at", "its certificate does not name node 2 but node 1")
        own.wait("node 1 at", "its certificate does not name node 1 but node 2")
        for log in logs:
            log.wait("closed: it refuses this node's certificate: it does not name the node it looks for")
        three.stop()
        three.settings = settings
        print("refused: another node at the address", flush=True)

    # ---- what is no node ----

    def tls_client(self, node, pair=None, version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(os.path.join(self.good, "ca.pem"))
        if pair:
            context.load_cert_chain(pair + ".pem", pair + "-key.pem")
        if version:
            context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", node.peer_port), 10)
        return context.wrap_socket(plain)

    def strangers(self):
        one, two, _ = self.cluster.nodes
        log = Log(two)
        with socket.create_connection(("127.0.0.1", two.peer_port), 10) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(100)[:1] == b"\x15"  # an alert, and nothing else
        log.wait("closed: the other side does not speak TLS")
        for pair, version, part in ((None, None, "it shows no certificate"),
                                    (self.pair(one), ssl.TLSVersion.TLSv1_2, "it does not speak TLS 1.3")):
            try:
                with self.tls_client(two, pair, version) as client:
                    assert not client.recv(1)
            except OSError as error:
                print("told: %s" % error, flush=True)
            log.wait("closed: " + part)
        # The certificate of node 1 does not make a node 3.
        preface = b"K\xf1TP" + struct.pack("<HHQQQQQ", 1, 0, 0, 3, 2, 99, 1)
        with self.tls_client(two, self.pair(one)) as client:
            client.sendall(preface + struct.pack("<I", crc32c(preface)))
            answer = client.recv(100)
            assert struct.unpack_from("<HH", answer, 4) == (1, VERDICT_NAME), answer
            assert not client.recv(1)
        log.wait("refused: it says it is node 3, and its certificate does not name node 3")
        print("refused: what is no node", flush=True)

    # ---- replacing ----

    def reload(self):
        logs = [Log(node) for node in self.cluster.nodes]
        for node in self.cluster.nodes:
            node.process.send_signal(signal.SIGHUP)
        for log in logs:
            log.wait("certificates read again")
        return logs

    def restart_all(self, load):
        for node in self.cluster.nodes:
            load.allow_loss(node)
            node.stop()
            node.start()
            self.cluster.wait_caught_up_under_load(node)
            load.wait_progress()
        load.allow_loss(None)

    def replace_authority(self, load):
        before = [Log(node) for node in self.cluster.nodes]
        for files in self.files:
            files.use_authorities([self.good, self.other])
        self.reload()
        for files in self.files:
            files.use_pair(self.pair(files.node, self.other))
        self.reload()
        for files in self.files:
            files.use_authorities([self.other])
        self.reload()
        load.wait_progress()
        for log in before:
            assert " lost: " not in log.text(), log.text()
        # Useless files change nothing.
        log = Log(self.cluster.nodes[0])
        self.files[0].use_pair(self.pair(self.cluster.nodes[1], self.other))
        self.cluster.nodes[0].process.send_signal(signal.SIGHUP)
        log.wait("cluster.tls stays as it was", "does not name node 1")
        self.files[0].use_pair(self.pair(self.cluster.nodes[0], self.other))
        self.restart_all(load)
        print("the authority was replaced under load", flush=True)


def main():
    cluster = Cluster(3, tls=False)  # here the nodes get theirs one by one
    try:
        test = Test(cluster)
    except BaseException:
        shutil.rmtree(cluster.folder, ignore_errors=True)
        raise
    with cluster:
        three = cluster.nodes[2]
        with Load(cluster, 4) as load:
            load.allow_loss(three)
            three.stop()
            load.wait_progress()
            load.allow_loss(None)
            test.strangers()
            test.bad_nodes()
            load.wait_progress()
            test.wrong_address()
            three.start()
            cluster.wait_caught_up_under_load(three)
            test.replace_authority(load)
        cluster.wait_caught_up()
        load.verify()
        print("%d answers, nothing lost" % load.total())


main()
