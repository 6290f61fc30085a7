"""Tests of keys that a program prints: `"apikey": "exec:NAME ARGUMENTS"`."""

import json
from math import inf
from time import time

import pytest

from gateway.config.credentials import KeyHelper
from gateway.config.findings import ConfigError
from gateway.config.load import load
from gateway.contract.registry import KnownPlugins
from gateway.upstream.credentials import key_helpers, renewal
from gateway.upstream.credentials.key_helpers import KeyHelperAccess
from gateway.upstream.credentials.renewal import CredentialFailed
from gateway.upstream.subjects import Subject
from tests.config.examples import KNOWN
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate
from tests.upstream.credentials.test_aws_credentials import served

ADA = Subject("ada", "")


@pytest.fixture
def program(tmp_path):
    """Return a function that writes a program into the folder of helpers, and returns its path."""

    def write(body, name="token", mode=0o755):
        folder = tmp_path / "helpers"
        folder.mkdir(exist_ok=True)
        file = folder / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(mode)
        return file

    return write


def access(file, *arguments):
    return KeyHelperAccess(KeyHelper((str(file), *arguments)), None, lambda _: None)


OUTPUTS = {
    # output: Unix time of the expiry, or seconds until it; None if there is none
    "sk-1": None,
    "  sk-1\n\n": None,
    '{"key": "sk-1"}': None,
    '{"key": "sk-1", "expires_in": 600}': 600,
    '{"key": "sk-1", "expires_at": 4102444800}': 4_102_444_800,
    '{"key": "sk-1", "expires_at": "2100-01-01T00:00:00Z", "more": [1]}': 4_102_444_800,
}


@pytest.mark.parametrize("output", OUTPUTS)
async def test_a_program_prints_a_key_with_or_without_an_expiry(program, output):
    helper = access(program(f"cat <<'END'\n{output}\nEND"))
    begun = time()
    assert (await helper.credential(ADA).get()).value == "sk-1"
    expires_at = helper.credential(ADA)._current.expires_at
    match OUTPUTS[output]:
        case None:
            assert expires_at == inf
        case 600:
            assert begun + 600 <= expires_at <= time() + 600
        case moment:
            assert expires_at == moment


async def test_arguments_are_passed_without_a_shell(program):
    helper = access(program('printf "%s" "$1-$2"'), "a;b", "$HOME")
    assert (await helper.credential(ADA).get()).value == "a;b-$HOME"


FAULTS = {
    # body of the program: words of the failure
    "exit 3": "ended with status 3",
    "kill -9 $$": "ended with status -9",
    "true": "printed neither a key nor a JSON object",
    "echo two words": "printed neither",
    "echo one; echo two": "printed neither",
    "printf 'sk-\\303\\251'": "printed neither",
    "printf '\\377'": "printed neither",
    'echo \'{"token": "x"}\'': "printed neither",
    "echo '{\"key\": 1}'": "printed neither",
    'echo \'{"key": "x", "expires_at": "soon"}\'': "printed neither",
    'echo \'{"key": "x", "expires_in": []}\'': "printed neither",
    "echo '[]'; exec sleep 60": "did not end within 1 seconds",
    "yes canary": "printed more than 65536 bytes",
    "sleep 60 & exit 0": "did not end within 1 seconds",
}


@pytest.mark.parametrize("body", FAULTS)
async def test_a_program_that_fails_is_told_without_its_output(program, monkeypatch, body):
    monkeypatch.setattr(key_helpers, "RUN_SECONDS", 1)
    with pytest.raises(CredentialFailed) as caught:
        await access(program(body)).credential(ADA).get()
    assert FAULTS[body] in caught.value.message
    assert "canary" not in caught.value.message
    assert caught.value.remedy == "run the program token as the gateway's user"


async def test_a_program_that_is_gone_is_told(tmp_path):
    with pytest.raises(CredentialFailed, match="cannot be run: No such file"):
        await access(tmp_path / "gone").credential(ADA).get()


async def test_a_refused_key_is_printed_anew(program, tmp_path, monkeypatch):
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    (tmp_path / "key").write_text("sk-1")
    helper = access(program(f"cat {tmp_path / 'key'}"))
    key = await helper.credential(ADA).get()
    assert await helper.has_other(ADA, key, "") is False
    (tmp_path / "key").write_text("sk-2")
    assert await helper.has_other(ADA, key, "") is True
    assert helper.credential(ADA).fresh().value == "sk-2"


def loaded(tmp_path, apikey, **members):
    provider = {"baseurl": "http://127.0.0.1:9", "apikey": apikey, "models": ["m"], **members}
    file = tmp_path / "config.hujson"
    file.write_text(json.dumps({"providers": {"p": provider}}))
    return load(file, plugins=KnownPlugins(KNOWN)).config.providers["p"]


def test_a_program_of_the_folder_of_helpers_is_the_issuer(tmp_path, program):
    file = program("echo sk-1")
    provider = loaded(tmp_path, "exec:token --region 'us east'")
    assert provider.issuer == KeyHelper((str(file), "--region", "us east"))
    assert (provider.apikey.value, "us east" in repr(provider)) == ("", False)


@pytest.mark.parametrize(
    ("apikey", "message"),
    [
        ("exec:", "is followed by the name of a program"),
        ("exec:/bin/sh -c id", "is followed by the name of a program"),
        ("exec:../token", "is followed by the name of a program"),
        ("exec:..", "is followed by the name of a program"),
        ("exec:token 'x", "is followed by the name of a program"),
        ("exec:gone", "there is no program"),
        ("exec:plain", "cannot be executed; give the right with chmod u+x"),
        ("exec:open", "every user of this machine can change"),
        ("exec:shared", "every user of its group can change"),
    ],
)
def test_another_program_is_an_error(tmp_path, program, apikey, message):
    program("echo", "token")
    program("echo", "open", 0o757)
    program("echo", "shared", 0o775)
    (tmp_path / "helpers" / "plain").mkdir()
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, apikey)
    assert "providers.p.apikey" in str(caught.value)
    assert message in str(caught.value)


async def test_calls_use_the_key_and_a_rotated_one_without_a_failure(tmp_path, program, monkeypatch, bedrock_sim):
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)  # the folder of a configuration without a file
    (tmp_path / "key").write_text(KEY)
    program(f"cat {tmp_path / 'key'}")
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url, apikey="exec:token")}) as gw:
        assert (await served(gw, model=HAIKU))[0] == 200
        bedrock_sim.keys = {"bedrock-key-after-rotation"}
        (tmp_path / "key").write_text("bedrock-key-after-rotation")
        assert (await served(gw, model=HAIKU))[0] == 200
        program("exit 3")
        bedrock_sim.keys = set()
        assert (await served(gw, model=HAIKU))[0] == 502
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert line["message"] == "token ended with status 3"
        (line,) = await gw.lines.until("upstream.key_refused")
        assert line["issuer"] == "key of the program token"
