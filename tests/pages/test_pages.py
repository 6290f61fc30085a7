"""Tests of the documentation pages: their links, commands and metrics, and that each message that needs an explanation
has one.
"""

import ast
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.contract import errors
from gateway.process.command_line import parser_of
from gateway.process.workers.merged_metrics import MergedMetrics
from tests.helpers.gateway import bedrock, gate

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("*.md", "deploy/*.md", "deploy/*/*.md", "plugins/*.md")
PAGES = [path for folder in _FOLDERS for path in sorted(ROOT.glob(folder)) if path.name != "CHANGELOG.md"]
OPERATION = (ROOT / "deploy" / "README.md").read_text()
SOURCES = [
    path
    for folder in ("gateway", "plugins")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "testkit" not in path.parts
]
LEVELS = {"warning": "warning", "error": "error", "exception": "error"}
"""The level of a log line, by the method of the logger that writes it."""
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """Return the anchors that GitHub gives to a page's headings.

    They are in lower case, with hyphens for spaces, without punctuation, and numbered if they repeat.
    """
    seen = {}
    for heading in re.findall(r"^#+ (.+)$", without_code(path.read_text()), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = seen[anchor] = seen.get(anchor, -1) + 1
        yield f"{anchor}-{count}" if count else anchor


@page
def test_every_link_leads_to_a_file_and_a_heading_that_exist(path):
    links = re.findall(r"\]\((?!https?:)([^)\s]*)\)", without_code(path.read_text()))
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), link
        assert not anchor or anchor in set(anchors(target)), link


@page
def test_lines_of_prose_are_of_one_length(path):
    lines = without_code(path.read_text()).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def commands(path):
    """Return the commands of this repository in a page's shell blocks and code spans."""
    text = path.read_text()
    blocks = "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in blocks.splitlines()]
    spans = re.findall(r"`((?:irisgate|deploy/|tests/)[^`]*)`", without_code(text))
    return [
        line for line in (*lines, *spans) if line.startswith(("irisgate ", "deploy/run", "deploy/try", "tests/run"))
    ]


@page
def test_every_command_is_one_that_there_is(path):
    for command in commands(path):
        words = shlex.split(" ".join(command.split()).partition(" > ")[0], comments=True)
        if words[0] != "irisgate":
            assert (ROOT / words[0]).is_file(), command
        elif all(word.isupper() or not word.startswith("-") for word in words[2:]) and len(words) == 2:
            # the name of a subcommand alone, in running text
            assert words[1] in parser_of().format_help(), command
        else:
            parser_of().parse_args(words[1:])


def test_the_pages_name_commands():
    assert sum(len(commands(path)) for path in PAGES) > 15


def log_events():
    """Return a dict from each event that the code logs as a warning or an error to its level."""
    events = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and node.args
            ):
                # reports of the configuration have methods of these names too; an event's name is dotted
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str) and EVENT.fullmatch(name.value):
                    events[name.value] = LEVELS[node.func.attr]
            elif isinstance(node, ast.Dict):
                entry = {
                    key.value: value.value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
                }
                if entry.get("level") in LEVELS and "event" in entry:
                    events[entry["event"]] = entry["level"]
    return events


def entries(heading):
    """Return the names of the entries below a heading of the operation page. The heading has the third level, and an
    entry begins with its name.
    """
    _, separator, rest = OPERATION.partition(f"\n### {heading}\n")
    assert separator, heading
    text = re.split(r"\n##+ ", rest)[0]
    return re.findall(r"^- \*\*`([^`]+)`\*\*", text, re.MULTILINE)


@pytest.mark.parametrize("level", ["warning", "error"])
def test_every_log_event_of_a_level_has_an_entry_and_no_other(level):
    events = [name for name, of in log_events().items() if of == level]
    assert len(events) > 5
    assert entries(f"Log events of level {level}") == sorted(events)


def test_every_code_of_a_problem_has_an_entry_and_no_other_with_its_status():
    assert set(entries("Errors of a call, by code")) == set(errors.STATUS)
    for code, status in errors.STATUS.items():
        assert f"- **`{code}`** ({status})." in OPERATION


SAYING = frozenset(
    {
        "Denied", "HujsonError", "Missing", "NoUsage", "PluginError", "Problem", "Refusal", "SecretError", "StoreFailed",
        "CannotListen", "unknown", "warn",
    }
)  # fmt: skip
"""Names of functions and classes that take a message for a user or an operator.

Exceptions that only conversions raise are not listed, because one entry of the operation page explains all of them.
"""
SHORTEST = 8
"""Minimum number of letters in a message that must be explained, without inserted values. A shorter text only connects
parts of a message.
"""


def literal(node):
    """Return the text of a message's syntax node, with "…" for each inserted value, or None if the node is not a text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        return f"{literal(node.left) or '…'}{literal(node.right) or '…'}"
    return None


def messages():
    """Yield the text of each message in the source code. A message is an argument of a function or class in `SAYING`,
    and has at least two words and `SHORTEST` letters.
    """
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", "") or getattr(getattr(node, "func", None), "attr", "")
            if isinstance(node, ast.Call) and name in SAYING:
                for text in filter(None, map(literal, node.args)):
                    if " " in text and len(re.sub(r"\W|…", "", text)) >= SHORTEST:
                        yield text


def test_every_message_that_a_user_or_an_operator_can_meet_is_on_the_page():
    spans = re.findall(r"`([^`]+)`", " ".join(without_code(OPERATION).split()))
    known = [[part.strip(" :;,") for part in re.split(r"…|NAME", span)] for span in spans if len(span) >= SHORTEST]
    known = [parts for parts in known if len("".join(parts)) >= SHORTEST]
    texts = list(messages())
    assert len(texts) > 60
    assert [text for text in texts if not any(all(part in text for part in parts) for parts in known)] == []


def test_the_events_that_are_named_elsewhere_on_the_page_exist():
    source = "\n".join(path.read_text() for path in SOURCES)
    fields = {"server.hosts", "server.limits", "storage.url", "metrics.listen"}
    for name in set(re.findall(r"`((?:config|call|store|journal|identity|upstream)\.[a-z_]+)`", OPERATION)) - fields:
        assert f'"{name}"' in source, name


async def test_every_metric_that_the_pages_name_is_exposed(tmp_path, bedrock_sim):
    names = {name for path in PAGES for name in re.findall(r"`(irisgate_\w+)`", path.read_text())}
    assert len(names) >= 8
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}) as gw:
        text = (await MergedMetrics(gw.running.gateway.metrics.registry).render({})).decode()
    assert names <= set(re.findall(r"^# HELP (\w+)", text, re.MULTILINE))


def test_a_plain_copy_of_a_database_in_use_lacks_rows_as_the_page_says(tmp_path):
    assert "copy lacks it" in OPERATION
    with closing(sqlite3.connect(tmp_path / "irisgate.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE calls (id)")
        writer.execute("INSERT INTO calls VALUES (1)")
        (tmp_path / "plain.db").write_bytes((tmp_path / "irisgate.db").read_bytes())
    with closing(sqlite3.connect(tmp_path / "plain.db")) as copy, pytest.raises(sqlite3.OperationalError):
        copy.execute("SELECT * FROM calls")
