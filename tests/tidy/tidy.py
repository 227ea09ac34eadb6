#!/usr/bin/env python3
"""Checks what no compiler checks: who includes whom, banned calls, and the look of the text.

    tidy.py ROOT             check a source tree; prints each finding with how to fix it; status 1 if there is any
    tidy.py --picture ROOT   draw which part includes which, from the #include lines
    tidy.py --self-test      plant one violation of each rule in a small tree and see it found

The include rules are those of docs/architecture.md: includes point down only.
"""

import os
import re
import sys
import tempfile

# ---- the picture -------------------------------------------------------------------------------------------------

# A part is a folder. Longer prefixes first: the part of a file is the first that matches.
PARTS = [
    ("include/kontiki", "kontiki"),
    ("src/base", "base"),
    ("src/wire", "wire"),
    ("src/store", "store"),
    ("src/auth", "auth"),
    ("src/engines/*", "engine"),  # one folder per engine: "engine:<name>"
    ("src/engines", "engines"),
    ("cluster/log", "log"),
    ("cluster/transport", "transport"),
    ("cluster/node", "cluster"),
    ("src/dispatch", "dispatch"),
    ("src/gateway/*", "protocol"),  # "protocol:<name>"
    ("src/gateway", "gateway"),
    ("src/admin", "admin"),
    ("src/client", "client"),
    ("src/node", "node"),
    ("src/cli", "cli"),
    ("tests", "tests"),
]

BELOW_ENGINES = {"kontiki", "base", "wire", "store", "engines"}
BELOW_CLUSTER = {"kontiki", "base", "wire", "log", "transport"}
BELOW_DISPATCH = BELOW_ENGINES | BELOW_CLUSTER | {"auth", "cluster", "dispatch"}

# What a part may include besides itself. None: everything.
MAY_INCLUDE = {
    "kontiki": {"kontiki"},
    "base": {"kontiki"},
    "wire": {"kontiki", "base"},
    "store": {"kontiki", "base"},
    "auth": {"kontiki", "base"},
    "engine": BELOW_ENGINES,
    "engines": BELOW_ENGINES,
    "log": {"kontiki", "base", "wire"},
    "transport": {"kontiki", "base", "wire"},
    "cluster": BELOW_CLUSTER | {"engines", "store"},
    "dispatch": BELOW_DISPATCH,
    "gateway": BELOW_DISPATCH,
    "protocol": BELOW_DISPATCH | {"gateway"},
    "admin": BELOW_DISPATCH | {"gateway"},
    "client": {"kontiki", "base", "wire"},
    "node": None,
    "cli": None,
    "tests": None,
}

# The files that list the engines, and so know them by name.
ENGINE_LISTS = {"src/engines/registry.c", "src/engines/state.c"}
# A protocol fills the parameters of the engine it speaks for, or renders its changes: it knows that engine's promise,
# not its inside.
PROMISES = {
    ("protocol:proto_rcp", "src/engines/machine/change.h"),
    ("protocol:proto_rcp", "src/engines/machine/machine.h"),
    ("protocol:proto_kv", "src/engines/kv/kv.h"),
    ("protocol:proto_kv", "src/engines/kv/kv_value.h"),
}

# Third party headers and who may include them: parts, or paths as regular expressions. Tests may include all.
LIBRARIES = [
    (r"raft(\.h|/.*)", {"cluster"}, r"cluster/node/.*"),
    (r"lmdb\.h", {"store"}, r"src/store/.*"),
    (r"(cjson/)?cJSON.*", {"wire"}, r"src/wire/json\.c"),
    (r"yaml\.h", {"node"}, r"src/node/.*"),
    (
        r"uv(\.h|/.*)",
        {"cluster", "transport", "dispatch", "gateway", "protocol", "admin", "node", "cli"},
        # In cluster/node only what runs it: the replica itself is driven by the simulator as well.
        r"(?!cluster/node/).*|cluster/node/(cluster|runtime\w*|applier\w*)\.[ch]",
    ),
    (r"histedit\.h", {"cli"}, r"src/cli/edit\.c"),
    (r"openssl/.*", {"auth", "transport", "gateway", "protocol", "admin", "client", "node", "cli"}, r".*"),
]

# ---- calls and words ---------------------------------------------------------------------------------------------

BANNED_CALLS = {
    "strcpy": "copy with a length: memcpy, kt_buf_append",
    "strcat": "append to a kt_buf",
    "sprintf": "use snprintf or kt_buf_printf",
    "vsprintf": "use vsnprintf",
    "gets": "use fgets or getline",
    "strtok": "walk the text with a pointer: strtok keeps a hidden state",
    "rand": "use base/random.h",
    "srand": "use base/random.h",
    "random": "use base/random.h",
    "gmtime": "use kt_time_text or gmtime_r: the result is shared by all threads",
    "localtime": "use localtime_r: the result is shared by all threads",
    "asctime": "use kt_time_text",
    "ctime": "use kt_time_text",
    "atoi": "use strtol and look at its end: atoi hides what is no number",
    "atol": "use strtol and look at its end",
    "atoll": "use strtoll and look at its end",
    "atof": "use strtod and look at its end",
    "alloca": "allocate with a ceiling: the stack has none",
    "tmpnam": "use mkstemp",
    "mktemp": "use mkstemp",
}

# Spelled so that this file does not find itself.
BANNED_WORDS = [
    (r"\b(TOD[O]|FIXM[E]|XX[X])\b", "do it, or say in the README what is deliberately not done"),
    (r"(?<![\w.])/wor[k]/", "name paths of the project relative to its root"),
    (r"localhost:\d+/(simpl[e]|pyp[i]|np[m]|goprox[y]|debia[n]|v[2])\b", "name the public registry, or none"),
]

CODE_ENDINGS = (".c", ".h", ".def")
LINED_ENDINGS = CODE_ENDINGS + (".py", ".cmake", ".sh", "CMakeLists.txt")
TEXT_ENDINGS = LINED_ENDINGS + (".md", ".txt", ".yaml", ".yml", ".json", ".toml", ".service", ".conf", ".html", ".js")
LINE_MAX = 120
FILE_LINES_MAX = 1000
README_FROM = 4  # source files in a folder

SKIPPED_FOLDERS = {".git", "build", "corpus", "__pycache__", ".cache", "node_modules"}


def part_of(path):
    """The part that a path belongs to, e.g. "base" or "engine:kv"; None outside all parts."""
    for prefix, part in PARTS:
        if prefix.endswith("/*"):
            match = re.match(re.escape(prefix[:-1]) + r"([^/]+)/", path)
            if match:
                return part + ":" + match.group(1)
        elif path.startswith(prefix + "/"):
            return part
    return None


def kind_of(part):
    return part.split(":")[0]


class Tree:
    """The files of a source tree, by their path from its root."""

    def __init__(self, root):
        self.root = root
        self.paths = []
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS)
            for name in sorted(files):
                self.paths.append(os.path.relpath(os.path.join(folder, name), root))
        self.known = set(self.paths)

    def lines(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
            return file.read().split("\n")

    def resolve(self, name):
        """The path of a header named in quotes, as the compiler finds it, or None."""
        for start in ("", "src/", "include/", "tests/"):
            if start + name in self.known:
                return start + name
        return None


def includes_of(lines):
    """(line number, name, in quotes) of each #include."""
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(2), match.group(1) == '"'


def check_inclusion(path, target):
    """Why this file may not include that one, or None."""
    part, wanted = part_of(path), part_of(target)
    if part is None or kind_of(part) == "tests":
        return None
    if os.path.basename(target).endswith("_internal.h") and os.path.dirname(target) != os.path.dirname(path):
        return "an internal header is for its own folder: move what is needed into the public one"
    if part == wanted:
        return None
    if wanted is None or kind_of(wanted) == "tests":
        return "the product includes nothing of tests or of folders outside the picture"
    if (part, target) in PROMISES:
        return None
    if path in ENGINE_LISTS and kind_of(wanted) == "engine":
        return None
    allowed = MAY_INCLUDE[kind_of(part)]
    if allowed is None or wanted in allowed:
        return None
    return "%s may include: %s" % (part, ", ".join(sorted(allowed)))


def check_library(path, name):
    """Why this file may not include that third party header, or None."""
    part = part_of(path)
    if part is None or kind_of(part) == "tests":
        return None
    for pattern, parts, files in LIBRARIES:
        if re.fullmatch(pattern, name):
            if kind_of(part) in parts and re.fullmatch(files, path):
                return None
            return "only %s may include it, in files like %s" % (", ".join(sorted(parts)), files)
    return None


def check_includes(tree, path, lines):
    for number, name, quoted in includes_of(lines):
        if quoted:
            target = tree.resolve(name)
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if target is None and beside in tree.known:
                target = beside
                if not path.startswith("tests/"):
                    yield number, '"%s" is found beside the file only' % name, "write its path from src/ or the root"
            if target is None:
                yield number, '"%s" is no file of this project' % name, "third party headers take angle brackets"
                continue
            why = check_inclusion(path, target)
        else:
            why = check_library(path, name)
            if tree.resolve(name) is not None:
                yield number, "<%s> is a file of this project" % name, "use quotes"
        if why:
            yield number, "%s is included" % name, why


def without_comments_and_strings(text):
    """The same lines, with comments and the inside of strings and characters blanked."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return re.sub(pattern, blank, text, flags=re.DOTALL)


def check_calls(path, lines):
    bare = without_comments_and_strings("\n".join(lines)).split("\n")
    call = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED_CALLS))
    for number, line in enumerate(bare, 1):
        for match in call.finditer(line):
            yield number, "%s is called" % match.group(1), BANNED_CALLS[match.group(1)]


def check_text(path, lines):
    for number, line in enumerate(lines, 1):
        for pattern, fix in BANNED_WORDS:
            match = re.search(pattern, line)
            if match:
                yield number, 'the text "%s"' % match.group(0), fix
        if path.endswith(LINED_ENDINGS):
            if "\t" in line:
                yield number, "a tab", "indent with spaces"
            if len(line) > LINE_MAX:
                fix = "the limit is %d: run clang-format" % LINE_MAX
                yield number, "a line of %d characters" % len(line), fix
    if len(lines) > FILE_LINES_MAX and path.endswith((".c", ".h")) and not path.startswith("tests/"):
        yield len(lines), "a file of %d lines" % len(lines), "a file is one subject: it holds two by now"


def check_folders(tree):
    """A folder of several files says in a README what it is for."""
    count = {}
    for path in tree.paths:
        if path.endswith((".c", ".h")) and path.startswith(("src/", "cluster/")):
            count[os.path.dirname(path)] = count.get(os.path.dirname(path), 0) + 1
    for folder, files in sorted(count.items()):
        if files >= README_FROM and folder + "/README.md" not in tree.known:
            yield folder, "%d files and no README.md" % files, "say what it is for, its invariants, what it does not do"


def check_unknown_parts(tree):
    for path in tree.paths:
        if path.endswith((".c", ".h")) and path.startswith(("src/", "cluster/", "include/")) and part_of(path) is None:
            yield path, "it belongs to no part of the picture", "give its folder a place in tests/tidy/tidy.py"


def check_tree(root):
    """All findings, as printable lines."""
    tree = Tree(root)
    findings = []
    for path in tree.paths:
        if not path.endswith(TEXT_ENDINGS):
            continue
        lines = tree.lines(path)
        found = list(check_text(path, lines))
        if path.endswith(CODE_ENDINGS):
            found += check_includes(tree, path, lines)
            found += check_calls(path, lines)
        findings += ["%s:%d: %s; %s" % (path, number, what, fix) for number, what, fix in sorted(found)]
    for path, what, fix in list(check_folders(tree)) + list(check_unknown_parts(tree)):
        findings.append("%s: %s; %s" % (path, what, fix))
    return findings


def draw(root):
    """One line per part: what it really includes."""
    tree = Tree(root)
    drawn = {}
    for path in tree.paths:
        part = part_of(path)
        if part is None or kind_of(part) == "tests" or not path.endswith(CODE_ENDINGS):
            continue
        for _, name, quoted in includes_of(tree.lines(path)):
            target = tree.resolve(name) if quoted else None
            wanted = part_of(target) if target else None
            drawn.setdefault(part, set())
            if wanted and wanted != part:
                drawn[part].add(wanted)
    for part in sorted(drawn, key=lambda p: (len(drawn[p]), p)):
        print("%-22s %s" % (part, " ".join(sorted(drawn[part])) or "-"))


# ---- the test of the test ----------------------------------------------------------------------------------------

CLEAN = {
    "include/kontiki/code.h": "enum kt_code { KT_OK };\n",
    "src/base/buf.h": '#include <stddef.h>\n\n#include "kontiki/code.h"\n',
    "src/base/buf_internal.h": "",
    "src/base/README.md": "",
    "src/base/buf.c": '#include "base/buf.h"\n#include "base/buf_internal.h"\n/* never strcpy(a, b) */\n'
    'const char *x = "sprintf(";\nint f(void) { return my_rand() + gmtime_r(0, 0) + s->gets(); }\n',
    "src/wire/json.h": '#include "base/buf.h"\n',
    "src/wire/json.c": '#include <cjson/cJSON.h>\n#include "wire/json.h"\n',
    "src/store/store.h": '#include "base/buf.h"\n',
    "src/store/env.c": "#include <lmdb.h>\n",
    "src/auth/auth.c": '#include <openssl/evp.h>\n#include "base/buf.h"\n',
    "src/engines/engine.h": '#include "wire/json.h"\n#include "store/store.h"\n',
    "src/engines/registry.c": '#include "engines/kv/kv.h"\n',
    "src/engines/kv/kv.h": '#include "engines/engine.h"\n',
    "src/engines/machine/machine.h": '#include "engines/engine.h"\n',
    "cluster/log/wal.h": '#include "wire/json.h"\n',
    "cluster/transport/transport.h": "#include <uv.h>\n",
    "cluster/node/replica.h": '#include <raft.h>\n#include "cluster/log/wal.h"\n#include "engines/engine.h"\n',
    "cluster/node/runtime_loop.c": "#include <uv.h>\n",
    "src/dispatch/dispatch.h": '#include "cluster/node/replica.h"\n#include "engines/engine.h"\n',
    "src/gateway/gateway.h": '#include "dispatch/dispatch.h"\n#include <uv.h>\n',
    "src/gateway/proto_kv/codec.c": '#include "gateway/gateway.h"\n#include "engines/kv/kv.h"\n',
    "src/gateway/proto_rcp/rcp.h": "",
    "src/admin/http.c": '#include "gateway/gateway.h"\n',
    "src/client/client.c": '#include "wire/json.h"\n#include "kontiki/code.h"\n',
    "src/node/main.c": '#include <yaml.h>\n#include "engines/kv/kv.h"\n#include "src/cli/cli.h"\n',
    "src/cli/cli.h": '#include "client/client.h"\n',
    "src/client/client.h": "",
    "tests/unit/test_json.c": '#include <cjson/cJSON.h>\n#include "base/buf_internal.h"\n#include "helper.h"\n',
    "tests/unit/helper.h": "",
    "docs/page.md": "a\ttab and " + "a long line " * 20 + "\n",
}

# One file added to the clean tree, and what must be said of it.
PLANTED = [
    ("src/base/a.c", '#include "wire/json.h"\n', "base may include"),
    ("src/base/a.c", '#include "store/store.h"\n', "base may include"),
    ("src/wire/a.c", '#include "store/store.h"\n', "wire may include"),
    ("src/store/a.c", '#include "wire/json.h"\n', "store may include"),
    ("src/auth/a.c", '#include "engines/engine.h"\n', "auth may include"),
    ("src/engines/a.c", '#include "engines/kv/kv.h"\n', "engines may include"),
    ("src/engines/a.c", '#include "dispatch/dispatch.h"\n', "engines may include"),
    ("src/engines/state.c", '#include "dispatch/dispatch.h"\n', "engines may include"),
    ("src/engines/kv/a.c", '#include "engines/machine/machine.h"\n', "engine:kv may include"),
    ("src/engines/kv/a.c", '#include "cluster/node/replica.h"\n', "engine:kv may include"),
    ("src/engines/kv/a.c", '#include "gateway/gateway.h"\n', "engine:kv may include"),
    ("cluster/log/a.c", '#include "store/store.h"\n', "log may include"),
    ("cluster/log/a.c", '#include "cluster/node/replica.h"\n', "log may include"),
    ("cluster/transport/a.c", '#include "cluster/log/wal.h"\n', "transport may include"),
    ("cluster/node/a.c", '#include "engines/kv/kv.h"\n', "cluster may include"),
    ("cluster/node/a.c", '#include "dispatch/dispatch.h"\n', "cluster may include"),
    ("src/dispatch/a.c", '#include "gateway/gateway.h"\n', "dispatch may include"),
    ("src/dispatch/a.c", '#include "engines/kv/kv.h"\n', "dispatch may include"),
    ("src/gateway/a.c", '#include "engines/kv/kv.h"\n', "gateway may include"),
    ("src/gateway/a.c", '#include "gateway/proto_rcp/rcp.h"\n', "gateway may include"),
    ("src/gateway/proto_kv/a.c", '#include "gateway/proto_rcp/rcp.h"\n', "protocol:proto_kv may include"),
    ("src/gateway/proto_kv/a.c", '#include "engines/machine/machine.h"\n', "protocol:proto_kv may include"),
    ("src/gateway/proto_rcp/a.c", '#include "engines/kv/kv.h"\n', "protocol:proto_rcp may include"),
    ("src/admin/a.c", '#include "engines/kv/kv.h"\n', "admin may include"),
    ("src/client/a.c", '#include "auth/auth.h"\n', "is no file"),
    ("src/client/a.c", '#include "store/store.h"\n', "client may include"),
    ("include/kontiki/a.h", '#include "base/buf.h"\n', "kontiki may include"),
    ("src/wire/a.c", '#include "base/buf_internal.h"\n', "internal header"),
    ("src/node/a.c", '#include "tests/unit/helper.h"\n', "nothing of tests"),
    ("src/base/a.c", '#include "buf.h"\n', "found beside the file only"),
    ("src/base/a.c", '#include "base/missing.h"\n', "no file of this project"),
    ("src/base/a.c", "#include <base/buf.h>\n", "use quotes"),
    ("src/engines/a.c", "#include <raft.h>\n", "raft.h is included; only cluster"),
    ("cluster/transport/a.c", "#include <raft.h>\n", "raft.h is included; only cluster"),
    ("src/engines/kv/a.c", "#include <lmdb.h>\n", "lmdb.h is included; only store"),
    ("src/wire/a.c", "#include <cjson/cJSON.h>\n", "cJSON.h is included; only wire"),
    ("src/engines/a.c", "#include <cJSON.h>\n", "cJSON.h is included; only wire"),
    ("src/admin/a.c", "#include <yaml.h>\n", "yaml.h is included; only node"),
    ("src/base/a.c", "#include <uv.h>\n", "uv.h is included"),
    ("cluster/log/a.c", "#include <uv.h>\n", "uv.h is included"),
    ("src/engines/kv/a.c", "#include <uv.h>\n", "uv.h is included"),
    ("cluster/node/replica.c", "#include <uv.h>\n", "uv.h is included"),
    ("src/wire/a.c", "#include <openssl/evp.h>\n", "evp.h is included"),
    ("src/extra/a.c", "\n", "belongs to no part"),
    ("tests/unit/a.c", "int x = 1;\n" + "x" * 121 + "\n", "a.c:2: a line of 121"),
    ("src/base/a.c", "\tint x;\n", "a tab"),
    ("src/base/a.c", "\n" * 1001, "it holds two"),
    ("docs/a.md", "T" + "ODO: write\n", 'the text "TO'),
    ("src/base/a.c", "/* F" + "IXME */\n", 'the text "FI'),
    ("tests/run.sh", "X" + "XX\n", 'the text "XX'),
    ("docs/a.md", "see /wo" + "rk/notes\n", 'the text "/wo'),
    ("docs/a.md", "http://localhost:3141/sim" + "ple\n", 'the text "localhost'),
    ("src/base/README.txt", "", None),
] + [("src/base/a.c", "int f(void) { return %s(x); }\n" % name, "%s is called" % name) for name in sorted(BANNED_CALLS)]


def plant(root, files):
    for path, text in files.items():
        place = os.path.join(root, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            file.write(text)


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as root:
        plant(root, CLEAN)
        failures += ["clean tree: " + finding for finding in check_tree(root)]
        for path, text, expected in PLANTED:
            before = CLEAN.get(path)
            plant(root, {path: text})
            findings = check_tree(root)
            if expected is None:
                failures += ["harmless %s: %s" % (path, finding) for finding in findings]
            elif len(findings) != 1 or expected not in findings[0]:
                failures.append('%s with %r: expected one finding "%s", got %r' % (path, text[:60], expected, findings))
            os.remove(os.path.join(root, path))
            if before is not None:
                plant(root, {path: before})
        plant(root, {"src/store/%d.c" % i: "" for i in range(README_FROM)})
        if not any("src/store: " in f and "no README.md" in f for f in check_tree(root)):
            failures.append("a folder without README.md was not found")
        plant(root, {"src/store/README.md": ""})
        failures += ["with README.md: " + finding for finding in check_tree(root)]
    for failure in failures:
        print(failure)
    print("%d rules tried, %d failures" % (len(PLANTED) + 1, len(failures)))
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) == 2 and arguments[0] == "--picture":
        draw(arguments[1])
        return 0
    if len(arguments) != 1 or not os.path.isdir(os.path.join(arguments[0], "src")):
        print(__doc__)
        return 2
    findings = check_tree(arguments[0])
    for finding in findings:
        print(finding)
    print("%d findings" % len(findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
