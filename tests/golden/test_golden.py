"""Golden-file tests of every conversion between the API formats of a client and a provider.

For a client's request, a file has the request that the gateway sends to the provider. For a provider's reply, a file
has the reply that the gateway sends to the client.

The files are described in `files.py`. `pytest --rewrite-golden tests/golden` writes the files with results, so that
their diff shows what changed. Translations to InvokeModel have no files, because their bodies are almost those of
translations to Messages.
"""

import json
import re
from functools import cache

import pytest

from gateway.contract.capabilities import capabilities
from gateway.pytest_plugin.golden import Mask
from tests.golden.files import DEFAULT_CASE, FOLDER, REPLY, REQUEST, STREAM, cases, reply, request
from tests.helpers.conversion import CONVERSIONS, encoded, without_padding

LACKING = {"structured_by_tool": {"json_schema": False}}
"""Capabilities that are switched off for the model of a case, by case."""
SHOWN_HEADERS = re.compile(r"anthropic-|x-amzn-bedrock-")
SHOWN = {
    name: conversion
    for name, conversion in CONVERSIONS.items()
    if conversion.way != "translated" or conversion.provider.name != "bedrock_model_invoke"
}
"""The conversions that have golden files, by name."""
REQUESTS = [(name, case) for name, conversion in SHOWN.items() for case in cases(conversion.dialect, REQUEST)]
REPLIES = [(name, case) for name, conversion in SHOWN.items() for case in cases(conversion.upstream, REPLY)]


@cache
def request_files(name, case):
    """Return the golden files that a request must have: a dict from the path below `tests/golden` to the text."""
    conversion = SHOWN[name]
    call = _call(conversion, case)
    streamed = _call(conversion, case, stream=True)
    assert sorted(call.dropped) == sorted(streamed.dropped)
    assert call.fault == streamed.fault
    stem = f"{conversion.dialect}/{case}/request.to_{conversion.provider.name}"
    files = {f"{stem}.json": _text(_shown(call.upstream_request, call.sent)), **_dropped(stem, call.dropped)}
    if call.fault:  # only a request in the client's own dialect is passed on with its faults
        assert conversion.way == "envelope"
        files[f"{stem}.refused.json"] = _text({"refused_by_provider": call.fault})
    return files


@cache
def reply_files(name, case):
    """Return the golden files that a reply must have: a dict from the path below `tests/golden` to the text."""
    conversion = SHOWN[name]
    asked_case = case if _call(conversion, case).fault is None else DEFAULT_CASE
    call, streamed = _call(conversion, asked_case), _call(conversion, asked_case, stream=True)
    body, events = reply(conversion.upstream, case)
    whole = call.whole(body)
    converted = streamed.events(encoded(conversion.provider, conversion.upstream, events))
    assert sorted(call.reply_dropped) == sorted(streamed.reply_dropped)
    mask = Mask()
    lines = [json.dumps([event.kind, event.data], ensure_ascii=False) for event in converted]
    reader = conversion.client.name if conversion.way == "envelope" else conversion.dialect
    stem = f"{conversion.upstream}/{case}/reply.to_{reader}"
    return {
        f"{stem}.json": _text(whole),
        f"{stem}.jsonl": "".join(_masked(line, mask) + "\n" for line in lines),
        **_dropped(stem, call.reply_dropped),
    }


def _call(conversion, case, *, stream=False):
    caps = capabilities(conversion.model, LACKING.get(case, {}))
    return conversion.call(request(conversion.dialect, case), stream=stream, caps=caps)


def _dropped(stem, pointers):
    return {f"{stem}.dropped.json": _text(sorted(pointers))} if pointers else {}


def _shown(upstream_request, body):
    headers = {name: value for name, value in upstream_request.headers.items() if SHOWN_HEADERS.match(name)}
    return {"method": upstream_request.method, "path": upstream_request.path, "headers": headers, "body": body}


def _text(value):
    return _masked(json.dumps(value, ensure_ascii=False, indent=1), Mask()) + "\n"


def _masked(text, mask):
    return without_padding(mask(text))


def check(files, rewriting):
    """Compare the texts with the files on the disk. With `--rewrite-golden`, write the files instead."""
    if rewriting:
        stem = next(iter(files)).removesuffix(".json")
        for old in FOLDER.glob(f"{stem}.*"):
            old.unlink()
        for path, text in files.items():
            (FOLDER / path).write_text(text)
    assert {path: (FOLDER / path).read_text() for path in files} == files


@pytest.mark.parametrize(("name", "case"), REQUESTS)
def test_a_request_becomes_what_its_files_say(name, case, rewriting):
    check(request_files(name, case), rewriting)


@pytest.mark.parametrize(("name", "case"), REPLIES)
def test_a_reply_becomes_what_its_files_say(name, case, rewriting):
    check(reply_files(name, case), rewriting)


def test_every_file_is_read():
    """Check that the golden folder has no file that the tests do not read, and lacks no file that they read."""
    read = {f"{SHOWN[name].dialect}/{case}/{REQUEST}" for name, case in REQUESTS}
    read |= {f"{SHOWN[name].upstream}/{case}/{file}" for name, case in REPLIES for file in (REPLY, STREAM)}
    for name, case in REQUESTS:
        read |= request_files(name, case).keys()
    for name, case in REPLIES:
        read |= reply_files(name, case).keys()
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert {path for path in there if not path.endswith((".py", ".pyc"))} == read
