#!/usr/bin/env python3
"""The examples of docs/state-machines/ are true: each page is carried out against a fresh node, block by block.

    ```json request     one request, sent over the page's one session
    ```json answer      what answers it: status and result or error; "..." stands for what varies
    ```json event       what is pushed next

    reference.py            compares, and checks that every operation has a section
    reference.py --update   writes what is answered into the pages
"""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import ROOT, Cluster  # noqa: E402
from lib.run import run  # noqa: E402

FOLDER = os.path.join(ROOT, "docs", "state-machines")
BLOCK = re.compile(r"```json (request|answer|event)\n(.*?)```", re.S)
# Members whose values depend on time, chance, or what else the node did.
VARYING = {
    "wal_offset", "last_wal_offset", "current_wal_offset", "next_offset", "latest_offset", "newest_offset", "offset",
    "oldest_offset", "created_at", "updated_at", "timestamp", "uptime_secs", "subscription_id", "snapshot_id",
    "server_version", "wal_size_bytes", "total_size_bytes", "size_bytes", "bytes_written", "bytes_read", "reads",
    "writes", "fsyncs", "bytes", "due", "bytes_reclaimed", "started_at", "finished_at", "began_at", "ended_at", "at",
    "resumes_at", "migration_id",
}


def pages():
    return sorted(name for name in os.listdir(FOLDER) if name.endswith(".md"))


def read(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read()


def blocks(text):
    return [(match.group(1), match.group(2)) for match in BLOCK.finditer(text)]


def shown(message):
    """An answer as a page shows it: who asked and meta are left out."""
    return {name: value for name, value in message.items() if name not in ("type", "id", "meta")}


def matches(example, real):
    if example == "...":
        return True
    if isinstance(example, dict) and isinstance(real, dict):
        return example.keys() == real.keys() and all(matches(example[name], real[name]) for name in example)
    if isinstance(example, list) and isinstance(real, list):
        return len(example) == len(real) and all(map(matches, example, real))
    return type(example) is type(real) and example == real


def with_dots(value, name=None):
    if name in VARYING or (name in ("version", "server_version") and isinstance(value, str)):
        return "..."
    if isinstance(value, dict):
        return {key: with_dots(item, key) for key, item in value.items()}
    return [with_dots(item) for item in value] if isinstance(value, list) else value


def pretty(value, indent=""):
    """Short things on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent + line) <= 110 or not isinstance(value, (dict, list)) or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        items = [json.dumps(key, ensure_ascii=False) + ": " + pretty(item, inner) for key, item in value.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + "\n" + indent + "}"
    return "[\n" + ",\n".join(inner + pretty(item, inner) for item in value) + "\n" + indent + "]"


class Session:
    def __init__(self, node):
        self.client, self.answers = rcp.Client(node.rcp_address, hello=False), []

    def real(self, kind, text):
        """What a block stands for: None for a request, which is sent."""
        if kind == "request":
            request = json.loads(text)
            assert set(request) <= {"op", "params"}, request
            self.client.send(request["op"], request.get("params"))
            return None
        if kind == "answer":
            return shown(self.client.receive())
        return self.client.event()


def carry_out(name, node, update=False):
    text, session = read(name), Session(node)
    assert blocks(text) or name == "README.md", "a page without an example: %s" % name

    def replace(match):
        kind, example = match.groups()
        real = session.real(kind, example)
        if real is None:
            return match.group(0)
        if update and not (example.strip() and matches(json.loads(example), real)):
            return "```json %s\n%s\n```" % (kind, pretty(with_dots(real)))
        assert matches(json.loads(example), real), "%s shows\n%s\nbut it is\n%s" % (
            name, example, json.dumps(real, ensure_ascii=False, indent=2))
        return match.group(0)
    text = BLOCK.sub(replace, text)
    session.client.close()
    if update:
        with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
            file.write(text)


def fresh():
    return Cluster(1, settings={"storage.allow_flush_all": "true"})


def examples__of_every_page__are_what_a_fresh_node_answers():
    for name in pages():
        with fresh() as cluster:
            carry_out(name, cluster.nodes[0])


def sections__one_per_operation__and_none_of_what_is_not_there():
    headings = [heading for name in pages() for heading in re.findall(r"^## ([A-Z_]{3,})$", read(name), re.M)]
    with fresh() as cluster:
        text = cluster.nodes[0].http("/metrics")[1]
    operations = set(re.findall(r'^rstmdb_requests_total\{operation="(\w+)"\}', text, re.M))
    assert len(headings) == len(set(headings)), headings
    assert set(headings) == operations, (operations - set(headings), set(headings) - operations)


def sections__every_one__tells_parameters_result_errors_and_shows_an_example():
    for name in pages():
        for part in re.split(r"^## ", read(name), flags=re.M)[1:]:
            heading = part.split("\n", 1)[0]
            if re.fullmatch(r"[A-Z_]{3,}", heading):
                for wanted in ("Parameters", "Result", "Errors", "```json request", "```json answer"):
                    assert wanted in part, (name, heading, wanted)


def links__between_pages__lead_somewhere():
    for name in pages():
        for target in re.findall(r"\]\(([^)#]+)", read(name)):
            if "://" not in target:
                assert os.path.exists(os.path.join(FOLDER, target)), (name, target)


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        for page in pages():
            with fresh() as one:
                carry_out(page, one.nodes[0], update=True)
    else:
        run(sys.modules[__name__])
