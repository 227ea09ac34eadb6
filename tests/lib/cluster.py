"""Real nodes as processes, for tests: start, stop, kill, pause, and what they say of themselves over HTTP.

Folders are temporary and removed, unless KONTIKI_KEEP is set. Ports are chosen by the kernel. The program is
KONTIKI_KONTIKID, else the newest build/*/kontikid. Nothing here sleeps for luck: everything waits for a condition, with
a deadline that fails the test and shows the ends of the nodes' logs.
"""
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from . import kv, rcp

DEADLINE = float(os.environ.get("KONTIKI_TEST_DEADLINE", "60"))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def program(name="kontikid"):
    found = os.environ.get("KONTIKI_" + name.upper())
    if found:
        return os.path.abspath(found)
    built = glob.glob(os.path.join(ROOT, "build", "*", name))
    if not built:
        sys.exit("no %s: build it, or set KONTIKI_%s" % (name, name.upper()))
    return max(built, key=os.path.getmtime)


def wait_until(condition, what, deadline=None):
    """The first true value of condition(); fails the test after the deadline."""
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("did not happen in time: %s" % what)
        time.sleep(0.01)


def free_ports(count):
    """Ports that were free a moment ago; all are held until all are known, so they differ."""
    holders = []
    for _ in range(count):
        holder = socket.socket()
        holder.bind(("127.0.0.1", 0))
        holders.append(holder)
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


class Node:
    def __init__(self, cluster, number, ports):
        self.cluster, self.id = cluster, number
        self.rcp_port, self.kv_port, self.http_port, self.peer_port = ports
        self.folder = os.path.join(cluster.folder, "node%d" % number)
        self.log_path = os.path.join(self.folder, "log.txt")
        os.makedirs(self.folder)
        self.process = None
        self.paused = False
        self.settings = {}  # of this node alone, over those of the cluster

    @property
    def rcp_address(self):
        return ("127.0.0.1", self.rcp_port)

    @property
    def kv_address(self):
        return ("127.0.0.1", self.kv_port)

    def start(self, wait=True):
        assert not self.alive(), "node %d runs already" % self.id
        arguments = self.cluster.wrapper + [program()] + sum((["--set", "%s=%s" % item] for item in {
            "node.id": self.id,
            "storage.data_dir": os.path.join(self.folder, "data"),
            "network.bind_addr": "127.0.0.1:%d" % self.rcp_port,
            "listen.kv.address": "127.0.0.1:%d" % self.kv_port,
            "admin.address": "127.0.0.1:%d" % self.http_port,
            "cluster.members": self.cluster.members(),
            **self.cluster.settings,
            **self.settings,
        }.items()), [])
        if self.cluster.config:
            arguments += ["--config", self.cluster.config]
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("KONTIKI_", "RSTMDB_"))}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, cwd=self.folder)
        self.paused = False
        if wait:
            self.wait_ready()

    def wait_ready(self):
        def ready():
            assert self.alive(), "node %d ended: %s" % (self.id, self.log_end())
            return self.http("/readyz")[0] == 200
        wait_until(ready, "node %d ready" % self.id)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """A planned stop; the exit code must be 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE)
        self.process = None
        assert code == 0, "node %d ended with %d: %s" % (self.id, code, self.log_end())

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.paused = False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def http(self, path, timeout=2.0):
        """(status, body), or (0, "") if nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def status(self):
        code, text = self.http("/status")
        return json.loads(text) if code == 200 else None

    def anonymous_kib(self):
        """Resident memory that is not a file's: without the pages of the store that the kernel happens to keep."""
        with open("/proc/%d/status" % self.process.pid) as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
        return 0

    def log_end(self, lines=40):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return "\n" + "".join(file.readlines()[-lines:])

    def rcp(self, **options):
        return rcp.Client(self.rcp_address, **options)

    def kv(self, **options):
        return kv.Client(self.kv_address, **options)


class Cluster:
    """with Cluster(3) as cluster: ...

    Several nodes talk to each other under mutual TLS, as they should everywhere, unless tls is false."""

    def __init__(self, count=3, settings=None, config=None, wrapper=None, tls=True):
        self.folder = tempfile.mkdtemp(prefix="kontiki-test-")
        self.settings, self.config, self.wrapper = settings or {}, None, wrapper or []
        if config is not None:
            self.config = os.path.join(self.folder, "kontiki.yaml")
            with open(self.config, "w", encoding="utf-8") as file:
                file.write(config)
        ports = free_ports(count * 4)
        self.nodes = [Node(self, i + 1, ports[i * 4:i * 4 + 4]) for i in range(count)]
        if tls and count > 1:
            self.make_certificates()

    def make_certificates(self):
        folder = os.path.join(self.folder, "certs")
        subprocess.run([program("kontiki"), "certs", folder, "--nodes", ",".join(str(node.id) for node in self.nodes)],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=60)
        for node in self.nodes:
            node.settings = {"cluster.tls.ca": os.path.join(folder, "ca.pem"),
                             "cluster.tls.cert": os.path.join(folder, "node%d.pem" % node.id),
                             "cluster.tls.key": os.path.join(folder, "node%d-key.pem" % node.id)}

    def members(self):
        return ",".join("%d@127.0.0.1:%d" % (node.id, node.peer_port) for node in self.nodes)

    def __enter__(self):
        try:
            for node in self.nodes:
                node.start(wait=False)
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            for node in self.nodes:
                print("node %d says: %s %s" % (node.id, node.http("/readyz"), node.http("/status")), file=sys.stderr)
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for node in self.nodes:
                print("--- end of the log of node %d:%s" % (node.id, node.log_end()), file=sys.stderr)
        for node in self.nodes:
            if node.paused:
                node.resume()
            node.kill()
        if os.environ.get("KONTIKI_KEEP"):
            print("kept %s" % self.folder, file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def running(self):
        return [node for node in self.nodes if node.alive() and not node.paused]

    def leader(self, other_than=None):
        """The serving leader, waited for; of several that think so, the one of the highest term."""
        def find():
            best = None
            for node in self.running():
                status = node.status()
                if status and status["role"] == "leader" and status["serving"] and node is not other_than:
                    if best is None or status["term"] > best[0]:
                        best = (status["term"], node)
            return best and best[1]
        return wait_until(find, "a leader serves")

    def followers(self):
        leader = self.leader()
        return [node for node in self.running() if node is not leader]

    def wait_caught_up(self):
        """All running nodes have applied the same index."""
        def same():
            states = [node.status() for node in self.running()]
            return all(states) and len({(state["applied"], state["commit"]) for state in states}) == 1
        wait_until(same, "all nodes have applied the same")

    def wait_caught_up_under_load(self, node):
        """The node has applied what the leader had committed when this was called."""
        commit = max(state["commit"] for state in (other.status() for other in self.running()) if state)

        def reached():
            status = node.status()
            return status and status["applied"] >= commit
        wait_until(reached, "node %d has applied %d" % (node.id, commit))
