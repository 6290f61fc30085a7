"""Prompts, tools and replies for the tests of clients, and a function that checks the requests that reach the provider."""

import base64
import shutil
from pathlib import Path

import pytest

from gateway.testkit import scenarios
from gateway.testkit.scenarios import Tool
from tests.helpers.gateway import KEY

ROOT = Path(__file__).resolve().parents[2]
TOOLS_FOLDER = ROOT / ".tools"

SAID = "Hello from a simulated model."
PLAIN = scenarios.NAMED["text"]
"""A reply with the text `SAID` in four deltas, with 12 tokens of input and 7 of output."""
CACHED = scenarios.NAMED["cached"]
"""The same reply as `PLAIN`, with other token counts: 3 input tokens, 1000 read from the cache, 200 written to the
cache for 5 minutes and 50 for an hour, and 7 output tokens.
"""

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""An image of one pixel."""
PNG_BASE64 = base64.b64encode(PNG).decode()

CITIES = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"get_weather": "The weather of a city.", "get_time": "The local time of a city."}
"""Descriptions of two tools, by their names. Each tool takes a city."""
TWO_CALLS = scenarios.tools(
    Tool("get_weather", {"city": "Zürich"}), Tool("get_time", {"city": "Tokyo"}), before="Let me look."
)
RESULTS = {"get_weather": "Sunny, 21 °C", "get_time": "09:41"}
SAID_OF_THE_RESULTS = "The tool said: Sunny, 21 °C 09:41"
"""The text with which the simulated model answers the results of both tools. It repeats the results."""

THOUGHT = "Six times seven is forty-two."
THINKING = scenarios.thinking(THOUGHT, "Let me", " check.", calls=(Tool("get_time", {"city": "Tokyo"}),))


def check_upstream(simulated):
    """Check that the provider accepted all requests, with the gateway's key and without the client's credentials."""
    for seen in simulated.requests:
        assert seen.refused == ""
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.leaked("authorization") == []


def program(name, *below):
    """Return the path of a program, which is in PATH or in the folder .tools of `.ci/run`. `below` names the subfolders
    of .tools.

    Skip the test if the program is not installed.
    """
    path = shutil.which(name) or shutil.which(TOOLS_FOLDER.joinpath(*below, name))
    if path is None:
        pytest.skip(f"{name} is neither on the path nor in .tools")
    return path
