"""Tests of AWS's SDK for Java with the settings of `deploy/clients.md`, over HTTP/2 and HTTP/1.1. The SDK signs its
requests, or sends a bearer key.

The program is `java/Bedrock.java`. One process makes all calls, because starting Java takes longer than all of the
calls.
"""

import json
import os
from pathlib import Path

import pytest

from tests.clients import page
from tests.clients.programs import NOWHERE, Program
from tests.clients.samples import TOOLS_FOLDER, check_upstream, program
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate

SOURCE = Path(__file__).parent / "java" / "Bedrock.java"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f"
SAID = "Hello from a simulated model. You said: hello"
UNKNOWN = 'ResourceNotFoundException 404 model "no.such-model" not found or not granted'
ASYNCHRONOUS = ("http2", "http1")
"""The names of two asynchronous clients in the output of `java/Bedrock.java`.

`http2` is the client of `deploy/clients.md`. `http1` is a client with HTTP/1.1 and a bearer key.
"""
SYNCHRONOUS = ("apache", "java.net")
"""The names that `java/Bedrock.java` prints for its two synchronous clients.

`apache` is the client of `deploy/clients.md`. `java.net` is a client with Java's own HTTP client and a bearer key.
"""


async def java(url, folder, *models):
    """Run the program. Return the lines that it prints for each of its calls."""
    jars = TOOLS_FOLDER / "java"
    if not (jars / "ready").exists():
        pytest.skip("AWS's SDK for Java is not in .tools")
    (block,) = page.settings("AWS SDK for Java", url, "java")
    streaming, whole, rest = SOURCE.read_text().split("        CLIENTS\n")
    source = folder / SOURCE.name
    source.write_text(streaming + block + whole + block.replace("AsyncClient", "Client") + rest)
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **NOWHERE}
    # the quick compiler alone, because the program ends before the other one has helped
    command = ("-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", f"{jars}/*", str(source))
    status, out = await Program(program("java"), folder, environ).run(*command, f"{url}/bedrock", HAIKU, *models)
    assert status == 0, out
    lines = {}
    for line in out.splitlines():
        name, tab, result = line.partition("\t")
        if tab:
            lines.setdefault(name, []).append(result)
    return lines


async def test_awss_sdk_for_java(tmp_path, bedrock_sim):
    """Check that each client gets replies, streams and typed errors, for models with and without a slash in their
    name.
    """
    models = [NOVA, ARN]
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url, models=[HAIKU, *models])}) as gw:
        lines = await java(gw.url, tmp_path, *models)
    for name in ASYNCHRONOUS:
        assert lines[f"{name} converse"] == lines[f"{name} converseStream"] == [f"{SAID} end_turn 11"] * 2
        assert lines[f"{name} together"] == [f"10 [{SAID} end_turn 11]"]
        (chunks,) = lines[f"{name} invokeModelWithResponseStream"]
        assert '"outputTokenCount":11' in chunks
        assert lines[f"{name} unknown"] == lines[f"{name} unknown streamed"] == [UNKNOWN]
        assert lines[f"{name} error_in_stream"] == ["ModelStreamErrorException 424 simulated"]
        for cut in ("no_end", "cut"):
            assert lines[f"{name} {cut}"][0].startswith("InternalServerException 500 the "), lines
    for name in SYNCHRONOUS:
        assert lines[f"{name} converse"] == [f"{SAID} end_turn 11"] * 2
        assert lines[f"{name} unknown"] == lines[f"{name} unknown invoked"] == [UNKNOWN]
    for name in (*ASYNCHRONOUS, *SYNCHRONOUS):
        (body,) = lines[f"{name} invokeModel"]
        assert json.loads(body)["content"] == [{"type": "text", "text": SAID}]
    assert lines["authorization"] == ["Bearer"]
    quoted = {model.replace(":", "%3A").replace("/", "%2F") for model in (HAIKU, *models)}
    assert {seen.path.split("/")[2] for seen in bedrock_sim.requests} == quoted
    check_upstream(bedrock_sim)
