"""Tests of the program in Vector's configuration, which is applied to log lines of a gateway.

The program runs in a library of Vector's language VRL, because Vector itself is in no package registry.
"""

import json
import subprocess
import sys

import pytest

from tests.clients.samples import TOOLS_FOLDER
from tests.deploy.test_artefacts import DEPLOY, documents
from tests.helpers.gateway import HAIKU, bedrock, gate

VECTOR = DEPLOY / "vector/vector.yaml"
CODE = """
import json, sys
from vrl_python import VRLRuntime
program, events = json.load(sys.stdin)
if fault := VRLRuntime.check_syntax(program):
    sys.exit(fault.formatted_message)
print(json.dumps([VRLRuntime.run(program, event, "UTC").processed_event for event in events], default=str))
"""


def shipped(lines):
    """Return the events into which Vector's configuration converts lines of the gateway's log."""
    folder = TOOLS_FOLDER / "deploy"
    if not folder.is_dir():
        pytest.skip("VRL is not in .tools")
    (config,) = documents(VECTOR)
    events = [{"message": line, "host": "box", "timestamp": "2026-11-29T12:00:00Z", "_PID": "7"} for line in lines]
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps([config["transforms"]["lines"]["source"], events]),
        env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_line_of_the_log_is_shipped_as_it_is(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        await gw.log_is_written()
        begun = len(gw.lines.data)  # at the start, a gateway names the installed packages of plugins
        for content in ("hello", "[[scenario: throttle]]"):
            messages = [{"role": "user", "content": content}]
            await gw.post("/v1/chat/completions", {"model": HAIKU, "messages": messages})
        await gw.calls(2)
        lines = gw.lines.data[begun:].decode().splitlines()
    events = shipped(lines)
    assert len(events) == len(lines) == 2
    for line, event in zip(lines, events, strict=True):
        logged = json.loads(line)
        assert logged.pop("error_message", None) is not None
        assert "error_message" not in event
        times = {"timestamp", "at"}
        assert {name: event[name] for name in logged.keys() - times} == {
            name: value for name, value in logged.items() if name not in times
        }
        assert event["at"] == pytest.approx(logged["at"])
        assert str(event["timestamp"])[:19].replace(" ", "T") in str(logged["timestamp"])
        assert event["host"] == "box"


def test_a_line_that_is_no_object_is_shipped_as_text():
    lines = ["irisgate serve: cannot listen", "", "[1, 2]", '"text"', "7", '{"half']
    assert [(event["event"], event["text"], event["host"]) for event in shipped(lines)] == [
        ("text", line, "box") for line in lines
    ]


def test_the_labels_are_fields_that_every_line_has():
    (config,) = documents(VECTOR)
    assert set(config["sinks"]["loki"]["labels"].values()) == {"irisgate", "{{ host }}", "{{ level }}", "{{ event }}"}
