#!/usr/bin/env python3
"""/metrics: the names that the dashboard of rstmdb asks for, with true numbers, from the start to the last client."""
import http.client
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, free_ports, wait_until  # noqa: E402
from lib.run import run  # noqa: E402

DOOR = {"states": ["shut", "open"], "initial": "shut",
        "transitions": [{"from": "shut", "event": "OPEN", "to": "open"},
                        {"from": "open", "event": "SHUT", "to": "shut"}]}
# Section 15 of the specification: what the dashboard uses, with its labels.
DASHBOARD = {
    "rstmdb_requests_total": {"operation"}, "rstmdb_request_duration_seconds_bucket": {"operation", "le"},
    "rstmdb_errors_total": {"code"}, "rstmdb_connections_active": set(), "rstmdb_connections_total": set(),
    "rstmdb_subscriptions_active": {"type"}, "rstmdb_events_forwarded_total": {"type"}, "rstmdb_instances_total": set(),
    "rstmdb_machines_total": set(), "rstmdb_wal_entries": set(), "rstmdb_wal_segments": set(),
    "rstmdb_wal_size_bytes": set(), "rstmdb_wal_bytes_written_total": set(), "rstmdb_wal_bytes_read_total": set(),
    "rstmdb_wal_writes_total": set(), "rstmdb_wal_reads_total": set(), "rstmdb_wal_fsyncs_total": set(),
    "process_cpu_seconds_total": set(), "process_resident_memory_bytes": set(), "process_virtual_memory_bytes": set(),
    "process_open_fds": set(), "process_max_fds": set(), "process_start_time_seconds": set(), "process_threads": set(),
}
OPERATIONS = {"HELLO", "AUTH", "PING", "BYE", "INFO", "PUT_MACHINE", "GET_MACHINE", "LIST_MACHINES", "CREATE_INSTANCE",
              "GET_INSTANCE", "LIST_INSTANCES", "DELETE_INSTANCE", "APPLY_EVENT", "BATCH", "WATCH_INSTANCE",
              "WATCH_ALL", "UNWATCH", "SNAPSHOT_INSTANCE", "WAL_READ", "WAL_STATS", "COMPACT", "FLUSH_ALL"}


def parse(text):
    """{(name, labels as a frozenset): value}; every line must be of the text format, every family declared once."""
    samples, families = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in families, "declared twice: %s" % name
            families.add(name)
            continue
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+]+)', line)
        assert match, line
        name, labels, value = match.groups()
        assert re.sub(r"_(bucket|sum|count)$", "", name) in families or name in families, line
        key = (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or "")))
        assert key not in samples, line
        samples[key] = float(value)
    return samples


def metrics(node):
    status, text = node.http("/metrics")
    assert status == 200, status
    return parse(text)


def value(samples, name, **labels):
    return samples[(name, frozenset(labels.items()))]


def names__at_the_start__are_all_there(node):
    with Cluster(1) as fresh:
        samples = metrics(fresh.nodes[0])
    del node
    for name, labels in DASHBOARD.items():
        found = [key for key in samples if key[0] == name]
        assert found, name
        assert all({label for label, _ in key[1]} == labels for key in found), (name, found)
    counted = {dict(key[1])["operation"] for key in samples if key[0] == "rstmdb_requests_total"}
    assert OPERATIONS <= counted, OPERATIONS - counted
    bounds = {dict(key[1])["le"] for key in samples if key[0] == "rstmdb_request_duration_seconds_bucket"}
    assert bounds == {"0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "+Inf"}, bounds
    assert value(samples, "rstmdb_subscriptions_active", type="all") == 0
    assert value(samples, "process_resident_memory_bytes") > 1 << 20
    assert value(samples, "process_threads") > 1 and value(samples, "process_open_fds") > 3


def requests__made__are_counted_by_operation_and_error(node):
    before = metrics(node)
    with node.rcp() as client:
        client.call("PUT_MACHINE", {"machine": "m", "version": 1, "definition": DOOR})
        for number in range(5):
            client.call("CREATE_INSTANCE", {"machine": "m", "version": 1, "instance_id": "m-%d" % number})
        client.refusal("GET_INSTANCE", {"instance_id": "nobody"})
        client.refusal("NO_SUCH_OPERATION")
        after = metrics(node)

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)
    assert grown("rstmdb_requests_total", operation="CREATE_INSTANCE") == 5
    assert grown("rstmdb_requests_total", operation="GET_INSTANCE") == 1
    assert grown("rstmdb_requests_total", operation="HELLO") == 1
    assert grown("rstmdb_request_duration_seconds_count", operation="CREATE_INSTANCE") == 5
    assert grown("rstmdb_request_duration_seconds_bucket", operation="CREATE_INSTANCE", le="+Inf") == 5
    assert grown("rstmdb_request_duration_seconds_sum", operation="CREATE_INSTANCE") > 0
    assert grown("rstmdb_errors_total", code="INSTANCE_NOT_FOUND") == 1
    assert grown("rstmdb_errors_total", code="BAD_REQUEST") == 1
    assert grown("rstmdb_instances_total") == 5 and grown("rstmdb_machines_total") == 1
    assert grown("rstmdb_wal_entries") == 6, grown("rstmdb_wal_entries")
    assert grown("rstmdb_wal_writes_total") >= 1 and grown("rstmdb_wal_fsyncs_total") >= 1
    assert grown("rstmdb_wal_bytes_written_total") > 100
    assert grown("kontiki_requests_total", protocol="rcp", operation="GET_INSTANCE", result="error") == 1
    assert grown("rstmdb_connections_total") == 1 and value(after, "rstmdb_connections_active") == 1
    assert grown("kontiki_rcp_received_bytes_total") > 500 and grown("kontiki_rcp_sent_bytes_total") > 500


def histogram__buckets__are_cumulative(node):
    samples = metrics(node)
    for operation in OPERATIONS:
        buckets = sorted((float(dict(key[1])["le"]), count) for key, count in samples.items()
                         if key[0] == "rstmdb_request_duration_seconds_bucket" and
                         dict(key[1])["operation"] == operation)
        counts = [count for _, count in buckets]
        assert counts == sorted(counts), (operation, buckets)
        assert counts[-1] == value(samples, "rstmdb_requests_total", operation=operation), operation


def gauges__after_clients_vanished__are_zero_again(node):
    clients = [node.rcp() for _ in range(5)]
    clients[0].call("PUT_MACHINE", {"machine": "w", "version": 1, "definition": DOOR})
    clients[0].call("CREATE_INSTANCE", {"machine": "w", "version": 1, "instance_id": "w"})
    events = value(metrics(node), "rstmdb_events_forwarded_total", type="all")
    for client in clients:
        client.call("WATCH_ALL")
    clients[0].call("WATCH_INSTANCE", {"instance_id": "w"})
    samples = metrics(node)
    assert value(samples, "rstmdb_subscriptions_active", type="all") == 5
    assert value(samples, "rstmdb_subscriptions_active", type="instance") == 1
    clients[0].call("APPLY_EVENT", {"instance_id": "w", "event": "OPEN"})
    for client in clients:
        client.event()
    samples = metrics(node)
    assert value(samples, "rstmdb_events_forwarded_total", type="all") == events + 5
    for client in clients:
        client.close()

    def vanished():
        now = metrics(node)
        return (value(now, "rstmdb_connections_active") == 0 and
                all(value(now, "rstmdb_subscriptions_active", type=kind) == 0 for kind in ("all", "instance")))
    wait_until(vanished, "the gauges are zero")


def keys__asked_for__are_counted_too(node):
    with node.kv() as client:
        client.set("metric", kv.string("x"))
        assert client.get("no-such-key") is None
    samples = metrics(node)
    assert value(samples, "kontiki_kv_requests_total", operation="kv.set") >= 1
    assert value(samples, "kontiki_kv_errors_total", code="1008") >= 1
    assert value(samples, "kontiki_kv_connections_accepted_total") >= 1


def health_and_page__asked_for__answer_as_the_original(node):
    for path in ("/health", "/healthz"):
        assert node.http(path) == (200, "OK"), path
    status, page = node.http("/")
    assert status == 200 and 'href="/metrics"' in page, page
    assert node.http("/nothing") == (404, "Not Found\n")


def metrics_port__enabled__shows_metrics_and_nothing_else(node):
    del node
    port = free_ports(1)[0]
    with Cluster(1, settings={"metrics.enabled": "true", "metrics.bind_addr": "127.0.0.1:%d" % port}):
        for path, wanted in (("/metrics", 200), ("/health", 200), ("/", 200), ("/status", 404), ("/readyz", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            assert connection.getresponse().status == wanted, path
            connection.close()


def restart__gauges__are_true_before_the_first_write(node):
    before = metrics(node)
    node.stop()
    node.start()
    after = metrics(node)
    for name in ("rstmdb_instances_total", "rstmdb_machines_total", "rstmdb_wal_entries"):
        assert value(after, name) == value(before, name) > 0, name
    assert value(after, "rstmdb_wal_size_bytes") > 0


if __name__ == "__main__":
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
