#!/usr/bin/env python3
"""The kontiki tool against a real node: its commands, its words for failures, its exit codes."""
import json
import os
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import kv  # noqa: E402
from lib.cluster import Cluster, free_ports, program  # noqa: E402
from lib.run import run  # noqa: E402

OK, REFUSED, USAGE, NO_ANSWER, UNKNOWN = range(5)
DOOR = ('{"states":["shut","open"],"initial":"shut","transitions":[{"from":"shut","event":"OPEN","to":"open"},'
        '{"from":"open","event":"CLOSE","to":"shut"}]}')


def tool(node, *words, code=OK, stdin="", endpoints=None):
    """Runs the tool; its exit code must be `code`. (stdout, stderr)"""
    where = endpoints or ["--endpoint", "127.0.0.1:%d" % node.rcp_port, "--kv-endpoint", "127.0.0.1:%d" % node.kv_port,
                          "--admin-endpoint", "127.0.0.1:%d" % node.http_port]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KONTIKI_")}
    result = subprocess.run([program("kontiki"), *words, *where], input=stdin, capture_output=True, text=True,
                            check=False, timeout=60, env=environment)
    assert result.returncode == code, (words, result)
    return result.stdout, result.stderr


def answer(node, *words, **options):
    return json.loads(tool(node, *words, "--json", **options)[0])


def machines__whole_life__as_json(node):
    assert answer(node, "put-machine", "door", "1", DOOR)["created"] is True
    assert answer(node, "put-machine", "-n", "door", "-v", "1", DOOR)["created"] is False
    assert answer(node, "put-machine", "door", "2", "@-", stdin=DOOR)["version"] == 2
    assert answer(node, "get-machine", "door")["version"] == 2
    assert answer(node, "list-machines")["items"] == [{"machine": "door", "versions": [1, 2]}]
    made = answer(node, "create-instance", "door", "1", "--id", "d", "--ctx", '{"n":9007199254740993}')
    assert made["state"] == "shut", made
    done = answer(node, "apply-event", "d", "OPEN", "--payload", '{"by":"ada"}', "--expected-state", "shut",
                  "--key", "k")
    assert done["ctx"] == {"n": 9007199254740993, "by": "ada"}, done
    assert answer(node, "apply-event", "d", "OPEN", "--key", "k") == done
    assert answer(node, "get-instance", "d")["state"] == "open"
    assert answer(node, "list-instances", "--state", "open")["total"] == 1
    assert answer(node, "delete-instance", "d")["deleted"] is True
    assert answer(node, "ping") == {"pong": True}
    assert answer(node, "info")["server_name"] == "kontiki"


def machines__refused__exit_1_with_the_servers_words(node):
    _, errors = tool(node, "get-instance", "none", code=REFUSED)
    assert "INSTANCE_NOT_FOUND" in errors and "not found" in errors, errors
    _, errors = tool(node, "apply-event", "none", "OPEN", code=REFUSED)
    assert "INSTANCE_NOT_FOUND" in errors, errors


def keys__every_type__are_set_and_shown(node):
    for words, shown in ((["k", "hello"], "hello"), (["k", "-5", "--type", "int"], "-5"),
                         (["k", "1.5", "--type", "float"], "1.5"), (["k", "true", "--type", "bool"], "true"),
                         (["k", "--type", "empty"], "null"), (["k", "-9223372036854775808", "--type", "int"],
                                                              "-9223372036854775808")):
        assert tool(node, "kv", "set", *words)[0] == "ok\n"
        assert tool(node, "kv", "get", "k")[0] == shown + "\n", words
    tool(node, "kv", "set", "k", "x\ny")
    assert answer(node, "kv", "get", "k") == "x\ny"
    tool(node, "kv", "set", "t", "x", "--ttl", "100")
    tool(node, "kv", "delete", "k")
    _, errors = tool(node, "kv", "get", "k", code=REFUSED)
    assert "1008" in errors, errors
    assert tool(node, "kv", "ping")[0] == "ok\n"


def words__wrong__exit_2_and_nothing_is_sent(node):
    for words in (["nonsense"], ["put-machine", "door"], ["put-machine", "door", "one", DOOR],
                  ["put-machine", "door", "1", "{"], ["put-machine", "door", "1", "@/nonexistent"],
                  ["get-instance"], ["get-instance", "a", "b"], ["get-instance", "--colour", "red"], ["kv"],
                  ["kv", "set", "k"], ["kv", "get"], ["kv", "set", "k", "x", "--type", "colour"],
                  ["kv", "set", "k", "5x", "--type", "int"], ["kv", "set", "k", "x", "--ttl", "0"], ["cluster"],
                  ["cluster", "dance"], ["hash-token"], ["ping", "--timeout-ms", "x"], ["ping", "--timeout-ms"]):
        _, errors = tool(node, *words, code=USAGE, endpoints=["--endpoint=x"] if words[-1] == "--timeout-ms" else None)
        assert errors.startswith("kontiki: "), (words, errors)
    tool(node, "ping", code=USAGE, endpoints=["--endpoint", "nowhere"])
    tool(node, "kv", "ping", code=USAGE, endpoints=["--endpoint", "127.0.0.1:5"])


def nobody__listens__exit_3(node):
    port = free_ports(1)[0]
    nowhere = ["--endpoint", "127.0.0.1:%d" % port, "--kv-endpoint", "127.0.0.1:%d" % port, "--admin-endpoint",
               "127.0.0.1:%d" % port, "--timeout-ms", "300"]
    for words in (["ping"], ["apply-event", "d", "OPEN"], ["kv", "set", "k", "x"], ["cluster", "status"],
                  ["cluster", "leader"], ["cluster", "wait"]):
        _, errors = tool(node, *words, code=NO_ANSWER, endpoints=nowhere)
        assert "answer" in errors or "not ready" in errors, (words, errors)


def first_endpoint__dead__the_next_answers(node):
    dead = "127.0.0.1:%d" % free_ports(1)[0]
    where = ["--endpoint", "%s,127.0.0.1:%d" % (dead, node.rcp_port), "--kv-endpoint",
             "%s,127.0.0.1:%d" % (dead, node.kv_port)]
    tool(node, "ping", endpoints=where)
    tool(node, "kv", "set", "next", "x", endpoints=where)


def write__answer_lost__exit_4(node):
    """A server that takes a Set and hangs up: nobody knows what became of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def hang_up():
            with listener.accept()[0] as connection:
                while connection.recv(65536).find(kv.short("lost")) < 0:
                    pass
        threading.Thread(target=hang_up, daemon=True).start()
        _, errors = tool(node, "kv", "set", "lost", "x", code=UNKNOWN,
                         endpoints=["--kv-endpoint", "127.0.0.1:%d" % listener.getsockname()[1],
                                    "--timeout-ms", "3000"])
        assert "unknown" in errors, errors


def cluster__status_leader_wait__tell_what_is(node):
    table, _ = tool(node, "cluster", "status")
    assert "* 1" in table and "leader" in table, table
    assert answer(node, "cluster", "status")["nodes"][0]["status"]["node"] == 1
    assert tool(node, "cluster", "leader")[0] == "1\n"
    assert tool(node, "cluster", "wait")[0] == "ready\n"


def hashes__made__are_taken_by_a_node(node):
    assert tool(node, "hash-token", "my-secret-token")[0].strip() == (
        "ea5add57437cbf20af59034d7ed17968dcc56767b41965fcc5b376d45db8b4a3")
    verifier = tool(node, "hash-password", stdin="open sesame\n")[0].strip()
    config = ('auth: {required: true, token_hashes: [%s], users: [{name: ali, password: "%s", role: readwrite}]}\n'
              % (tool(node, "hash-token", "t0ken")[0].strip(), verifier))
    with Cluster(1, config=config) as guarded:
        other = guarded.nodes[0]
        tool(other, "kv", "set", "k", "x", code=REFUSED)
        tool(other, "kv", "set", "k", "x", "--user", "ali", "--password", "open sesame")
        tool(other, "kv", "set", "k", "x", "--user", "ali", "--password", "open", code=REFUSED)
        tool(other, "list-machines", code=REFUSED)
        tool(other, "list-machines", "--token", "t0ken")
        tool(other, "list-machines", "--token", "wrong", code=REFUSED)


def help__asked_for__lists_every_command(node):
    text, _ = tool(node, "--help")
    for word in ("cluster status", "put-machine", "apply-event", "kv set", "hash-password", "Exit codes"):
        assert word in text, word


if __name__ == "__main__":
    with Cluster(1) as cluster:
        run(sys.modules[__name__], cluster.nodes[0])
