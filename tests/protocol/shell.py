#!/usr/bin/env python3
"""The shell of the tool, at a terminal (a pseudo-terminal) and fed from a pipe; its pictures; its other name."""
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import xml.dom.minidom

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import rcp  # noqa: E402
from lib.cluster import Cluster, free_ports, program  # noqa: E402
from lib.run import run  # noqa: E402

DEFINITION = {
    "states": ["draft", "review", "live", "gone", "island"], "initial": "draft",
    "transitions": [
        {"from": "draft", "event": "SUBMIT", "to": "review", "guard": 'ctx.words > 10 && ctx.by != "<x>"'},
        {"from": "review", "event": "REJECT", "to": "draft"},
        {"from": "review", "event": "ACCEPT", "to": "live"},
        {"from": "live", "event": "EDIT", "to": "live"},
        {"from": ["draft", "live"], "event": "DROP", "to": "gone"},
    ]}


def environment(home):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KONTIKI_", "RSTMDB_"))}
    return {**kept, "HOME": home, "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def endpoints(node):
    return ["--endpoint", "127.0.0.1:%d" % node.rcp_port, "--admin-endpoint", "127.0.0.1:%d" % node.http_port]


def one_shot(node, *words, code=0, name="kontiki", where=None, stdin=""):
    path = os.path.join(os.path.dirname(program("kontiki")), name)
    with tempfile.TemporaryDirectory() as home:
        result = subprocess.run([path, *(where if where is not None else endpoints(node)), *words], input=stdin,
                                capture_output=True, text=True, check=False, timeout=60, env=environment(home))
    assert result.returncode == code, (words, result)
    return result.stdout, result.stderr


def put_article(node):
    one_shot(node, "put-machine", "article", "1", json.dumps(DEFINITION))


class Terminal:
    """The shell with a person in front of it. What the screen got is kept, without escape sequences."""

    def __init__(self, node, home, name="kontiki"):
        path = os.path.join(os.path.dirname(program("kontiki")), name)
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.execve(path, [path, *endpoints(node)], environment(home))
        self.screen = ""
        self.wait(r"(kontiki|rstmdb)> $")

    def wait(self, pattern, seconds=30):
        """Waits until the end of what the screen got since the last call matches; returns that."""
        end = time.monotonic() + seconds
        while True:
            shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][B0]?", "", self.screen)
            if re.search(pattern, shown):
                self.screen = ""
                return shown
            assert time.monotonic() < end, "no %r in %r" % (pattern, shown)
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.screen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    self.screen += "<the terminal is closed>"

    def type(self, text, pattern=r"(kontiki|rstmdb)> $"):
        os.write(self.master, text.encode())
        return self.wait(pattern)

    def leave(self):
        """Ctrl-D on an empty line. One that comes between the prompt and raw mode becomes a character of the line: the
        terminal has taken it for an end of input by then. So the line is cleared and it comes again."""
        end = time.monotonic() + 30
        gone, again = 0, None
        while not gone:
            assert time.monotonic() < end, "the shell does not end: %r" % self.screen
            os.write(self.master, b"\x15\x04" if again else b"\x04")
            again = time.monotonic() + 1
            while not gone and time.monotonic() < again:
                gone, status = os.waitpid(self.process, os.WNOHANG)
                time.sleep(0.01)
        os.close(self.master)
        assert os.waitstatus_to_exitcode(status) == 0, status


def shell__commands_in_short_and_long_form__show_tables_and_json(node):
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(node, home)
        shown = terminal.type("pm door 1 %s\r" % json.dumps({**DEFINITION, "meta": {"a b": 1}}))
        assert '"created": true' in shown, shown
        assert "PONG" in terminal.type("PING\r")
        assert '"state": "draft"' in terminal.type("create door 1 shelly {\"words\": 11, \"by\": \"a b\"}\r")
        assert '"to_state": "review"' in terminal.type("a shelly SUBMIT {\"n\": 1}\r")
        table = terminal.type("li door\r")
        assert re.search(r"id +machine +version +state", table) and re.search(r"shelly +door +1 +review", table), table
        assert re.search(r"door +\[1\]", terminal.type("lm\r"))
        assert "INSTANCE_NOT_FOUND" in terminal.type("get nobody\r")
        assert "not closed" in terminal.type("create door 1 x {\r")
        assert "no command 'dance'" in terminal.type("dance\r")
        assert "Connected" in terminal.type("rc\r")
        assert "list-machines" in terminal.type("?\r")
        assert "leader" in terminal.type("cluster status\r")
        terminal.leave()


def shell__tab__completes_commands_machines_and_instances(node):
    put_article(node)
    one_shot(node, "create-instance", "article", "1", "completed-instance")
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(node, home)
        terminal.type("snap\t", r"hot-instance $")
        terminal.type("\x15draw art\t", r"icle $")
        terminal.type("\x15get-instance comp\t", r"leted-instance $")
        terminal.type("\x15clus\tst\t", r"atus $")
        shown = terminal.type("\x15list-\t\t", r"list-machines  ")
        assert "list-instances" in shown, shown
        terminal.type("\x15\r")
        terminal.leave()


def shell__interrupted__keeps_the_prompt_and_drops_the_line(node):
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(node, home)
        terminal.type("nonsense", r"nonsense$")
        terminal.type("\x03", r"\^C\s+kontiki> $")
        assert "PONG" in terminal.type("ping\r")
        terminal.leave()


def shell__left_and_entered_again__remembers_lines_but_no_secrets(node):
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(node, home)
        terminal.type("ping\r")
        assert "ea5add57" in terminal.type("hash-token my-secret-token\r")
        terminal.type(" get hidden-by-a-blank\r")
        terminal.leave()
        path = os.path.join(home, ".kontiki_history")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert "ping" in text and "secret" not in text and "hidden" not in text, text
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode)
        terminal = Terminal(node, home)
        terminal.type("\x1b[A", r"ping$")
        assert "PONG" in terminal.type("\r")
        terminal.leave()


def shell__from_a_pipe__runs_the_lines_and_tells_failure(node):
    put_article(node)
    out, _ = one_shot(node, stdin="ping\n# nothing\n\nlist-machines --limit 1\nquit\nping\n")
    assert out.count("PONG") == 1 and "machine" in out, out
    _, errors = one_shot(node, "repl", stdin="get nobody\nping\n", code=1)
    assert "Error: server error: INSTANCE_NOT_FOUND - " in errors, errors


def shell__names_with_escape_sequences__cannot_steer_the_terminal(node):
    put_article(node)
    one_shot(node, "create-instance", "article", "1", "--id", "evil\x1b]0;x\x07")
    out, _ = one_shot(node, "shell", stdin="list-instances article\n")
    assert "\x1b" not in out and "evil?]0;x?" in out, out


def draw__text__shows_states_in_the_order_of_reach(node):
    put_article(node)
    out, _ = one_shot(node, "machine", "draw", "article")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0] == "article, version 1: 5 states, 6 transitions", lines
    names = [line.split()[0] for line in lines if re.match(r"  (> |  )\S", line)]
    assert lines[2] == "  > draft (initial)", lines
    assert "    island (final) (never reached)" in lines and "    gone (final)" in lines, lines
    assert any(re.fullmatch(r' +SUBMIT \[ctx.words > 10 && ctx.by != "<x>"\]  --> review', line) for line in lines), out
    assert names.count(">") == 1, names


def draw__dot_and_svg__are_well_formed(node):
    put_article(node)
    dot, _ = one_shot(node, "machine", "draw", "article", "1", "--dot")
    assert dot.startswith('digraph "article" {') and dot.rstrip().endswith("}"), dot
    assert 's0 -> s1 [label="SUBMIT [ctx.words > 10 && ctx.by != \\"<x>\\"]"]' in dot, dot
    svg, _ = one_shot(node, "machine", "draw", "article", "--svg")
    tree = xml.dom.minidom.parseString(svg)
    texts = ["".join(node.data for node in text.childNodes) for text in tree.getElementsByTagName("text")]
    for wanted in ("draft", "island", 'SUBMIT [ctx.words > 10 && ctx.by != "<x>"]', "REJECT", "EDIT", "DROP"):
        assert wanted in texts, (wanted, texts)
    box = [float(number) for number in tree.documentElement.getAttribute("viewBox").split()]
    for rect in tree.getElementsByTagName("rect"):
        assert float(rect.getAttribute("x")) >= box[0] and float(rect.getAttribute("y")) >= box[1], rect.toxml()
    states = [(float(rect.getAttribute("x")), float(rect.getAttribute("y")), float(rect.getAttribute("width")))
              for rect in tree.getElementsByTagName("rect") if "state" in rect.getAttribute("class")]
    assert len(states) == 5, states
    for i, one in enumerate(states):
        for other in states[i + 1:]:
            assert one[1] != other[1] or one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0], (one, other)


def draw__unknown_machine_or_two_forms__is_refused(node):
    _, errors = one_shot(node, "machine", "draw", "nowhere", code=1)
    assert "MACHINE_NOT_FOUND" in errors, errors
    one_shot(node, "machine", "draw", "article", "--svg", "--dot", code=2)
    one_shot(node, "machine", "draw", "article", "x", code=2)
    one_shot(node, "machine", code=2)


def original__name__keeps_its_flags_words_and_exit_codes(node):
    server = ["-s", "localhost:%d" % node.rcp_port]
    assert one_shot(node, "ping", name="rstmdb-cli", where=server)[0] == "PONG\n"
    assert one_shot(node, "-V", name="rstmdb-cli", where=[])[0].startswith("rstmdb-cli ")
    text = json.dumps(DEFINITION)
    done, _ = one_shot(node, "put-machine", "-n", "original", "-v", "3", text, name="rstmdb-cli", where=server)
    assert json.loads(done)["version"] == 3, done
    one_shot(node, "get-machine", "-n", "original", "-v", "3", name="rstmdb-cli", where=server)
    one_shot(node, "create-instance", "-m", "original", "-V", "3", "-i", "o-1", "-c", '{"words":11}', name="rstmdb-cli",
             where=server)
    one_shot(node, "apply-event", "-i", "o-1", "-e", "SUBMIT", "-p", '{"a":1}', "--expected-state", "draft",
             name="rstmdb-cli", where=server)
    _, errors = one_shot(node, "get-instance", "nobody", name="rstmdb-cli", where=server, code=1)
    assert errors.startswith("Error: server error: INSTANCE_NOT_FOUND - "), errors
    nowhere = ["-s", "127.0.0.1:%d" % free_ports(1)[0], "--timeout-ms", "300"]
    _, errors = one_shot(node, "ping", name="rstmdb-cli", where=nowhere, code=1)
    assert errors.startswith("Connection failed: "), errors
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(node, home, name="rstmdb-cli")
        terminal.type("ping\r", r"PONG\s+rstmdb> $")
        terminal.leave()
        assert os.path.exists(os.path.join(home, ".rstmdb_history"))


def follow(*words):
    return subprocess.Popen([program("kontiki"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment("/nonexistent"))


def watch__events__are_lines_until_interrupted(node):
    put_article(node)
    one_shot(node, "create-instance", "article", "1", "followed", '{"words": 11, "by": "a"}')
    tool = follow(*endpoints(node), "watch-instance", "followed", "--no-ctx")
    note = tool.stderr.readline()
    assert "current_state" in note, note
    one_shot(node, "apply-event", "followed", "SUBMIT", '{"text": "line\\nbreak \u20ac"}')
    one_shot(node, "apply-event", "followed", "REJECT")
    events = [json.loads(tool.stdout.readline()) for _ in range(2)]
    assert [event["event"] for event in events] == ["SUBMIT", "REJECT"], events
    assert events[0]["payload"] == {"text": "line\nbreak \u20ac"} and "ctx" not in events[0], events
    tool.send_signal(signal.SIGINT)
    assert tool.wait(60) == 0 and tool.stdout.read() == "", tool.stderr.read()
    history = follow(*endpoints(node), "watch-all", "--events", "SUBMIT", "--machines", "article", "--from-offset", "0")
    assert json.loads(history.stdout.readline())["instance_id"] == "followed"
    history.send_signal(signal.SIGTERM)
    assert history.wait(60) == 0
    _, errors = one_shot(node, "watch-instance", "nobody", code=1)
    assert "INSTANCE_NOT_FOUND" in errors, errors


def watch__server_that_repeats_itself__each_event_is_printed_once_and_asked_for_from_its_number(node):
    """A server that hangs up twice, and sends what was seen already when it is asked again."""
    del node
    asked = []

    def event(offset, number):
        message = {"type": "event", "subscription_id": "s", "instance_id": "i", "machine": "m", "version": 1,
                   "wal_offset": offset, "from_state": "a", "to_state": "b", "event": "E", "payload": None}
        return rcp.frame(json.dumps({**message, **({"number": number} if number else {})}).encode())

    def serve(listener):
        rounds = [[(10, 0), (10, 1)], [(10, 0), (10, 1), (10, 2), (11, 0)], [(11, 0), (9, 5), (12, 0)]]
        for events in rounds:
            with listener.accept()[0] as connection, connection.makefile("rb") as stream:
                for _ in range(2):
                    header = rcp.HEADER.unpack(stream.read(rcp.HEADER.size))
                    request = json.loads(stream.read(header[4]))
                    if request["op"] == "WATCH_ALL":
                        asked.append(request["params"])
                    answer = {"type": "response", "id": request["id"], "status": "ok",
                              "result": {"subscription_id": "s", "wal_offset": 7}}
                    connection.sendall(rcp.frame(json.dumps(answer).encode()))
                for one in events:
                    connection.sendall(event(*one))
                if events is rounds[-1]:
                    stream.read()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        tool = follow("-s", "127.0.0.1:%d" % listener.getsockname()[1], "watch-all")
        seen = [json.loads(tool.stdout.readline()) for _ in range(5)]
        tool.send_signal(signal.SIGINT)
        assert tool.wait(60) == 0
    assert [(one["wal_offset"], one.get("number", 0)) for one in seen] == [(10, 0), (10, 1), (10, 2), (11, 0), (12, 0)]
    assert asked == [{}, {"from_offset": 10, "from_number": 2}, {"from_offset": 11, "from_number": 1}], asked


if __name__ == "__main__":
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
