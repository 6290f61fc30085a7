"""Tests of version 1 of Anthropic's SDK, which is still used.

The headers and the API version that it sends differ from those of version 2.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.clients.samples import SAID, TOOLS_FOLDER, check_upstream
from tests.helpers.gateway import HAIKU, NOVA, SONNET

SDK = TOOLS_FOLDER / "anthropic-1"
SCRIPT = Path(__file__).with_name("anthropic_version_1.py")


async def run(url):
    """Run the script, and return the document that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, url,
        env={**os.environ, "PYTHONPATH": str(SDK)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@pytest.mark.skipif(not (SDK / "ready").exists(), reason="version 1 of the anthropic SDK is not in .tools/anthropic-1")
async def test_version_1_of_the_sdk_gets_the_same_answers_and_errors(gw, bedrock_sim):
    outcomes = await run(gw.url)
    assert outcomes["version"].startswith("1.")
    assert outcomes["models"] == [HAIKU, SONNET, NOVA]
    for kind, replies in outcomes["clients"].items():
        for way in ("whole", "streamed"):
            assert replies[way] == {
                "said": SAID,
                "of the tools": "The tool said: get_weather: yes get_time: yes",
                "throttled": ["RateLimitError", 429],
                "not there": ["NotFoundError", 404],
            }, (kind, way)
        assert replies["in mid-stream"] == ["APIStatusError"], kind
    versions = {seen.json["anthropic_version"] for seen in bedrock_sim.requests}
    assert versions == {"bedrock-2023-05-31"}
    assert {record["agent"] for record in await gw.calls()} == {"Anthropic/Python"}
    for seen in bedrock_sim.requests:
        if "[[scenario: throttle]]" in seen.body.decode():
            # the test has asked for this refusal, which is the simulated service's own
            seen.refused = ""
    check_upstream(bedrock_sim)
