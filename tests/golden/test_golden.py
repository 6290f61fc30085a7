"""Every conversion as data: what is sent for a client's request, and what the client gets for a provider's reply.

`inputs/<dialect>/<case>/` has what is written by hand: a client's request, a provider's reply and its stream. The
folders of the conversions have what comes of it, and are written by `pytest --rewrite-golden tests/golden`; their diff is
read as data. A case without a request of its own takes that of `text`. A translated conversion over InvokeModel has no folder:
it is the translator's, in the envelope of `anthropic_messages__bedrock_model_invoke`.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused
from tests.helpers.conversion import WAYS, Mask, encoded, refusal, without_padding

FOLDER = Path(__file__).parent
INPUTS = FOLDER / "inputs"
LACKING = {"structured_by_tool": {"json_schema": False}}
"""What the model of a case lacks that those of all others have."""
SHOWN_HEADERS = re.compile(r"anthropic-|x-amzn-bedrock-")
ROADS = {
    name: way for name, way in WAYS.items() if way.way != "translated" or way.provider.name != "bedrock_model_invoke"
}


def _cases():
    for name, way in ROADS.items():
        asked = {path.parent.name for path in INPUTS.glob(f"{way.dialect}/*/client_request.json")}
        replied = {path.parent.name for path in INPUTS.glob(f"{way.upstream}/*/upstream_reply.json")}
        for case in sorted(asked | replied):
            yield pytest.param(name, case, id=f"{name}-{case}")


CASES = list(_cases())


def made(way, case):
    """File name to its text."""
    path = INPUTS / way.dialect / case / "client_request.json"
    body = json.loads((path if path.exists() else INPUTS / way.dialect / "text" / path.name).read_text())
    try:
        caps = capabilities(way.model, LACKING.get(case, {}))
        whole, stream = way.call(body, caps=caps), way.call(body, stream=True, caps=caps)
    except Refused as refused:
        return {"lost.json": _text({"refused": refusal(refused)})}
    assert sorted(whole.lost) == sorted(stream.lost)
    lost = {"request": sorted(whole.lost)}
    if way.way == "translated":
        assert (whole.fault, stream.fault) == (None, None)
    elif whole.fault:  # the client's own dialect: what it says wrongly there is the provider's to refuse
        lost["refused_by_provider"] = whole.fault
    files = {"upstream_request.json": _text(_request(whole.send, whole.sent))} if path.exists() else {}
    source = INPUTS / way.upstream / case
    if (source / "upstream_reply.json").exists():
        files["client_reply.json"] = _text(whole.whole((source / "upstream_reply.json").read_bytes()))
        events = [json.loads(line) for line in (source / "upstream_stream.jsonl").read_text().splitlines()]
        told = stream.events(encoded(way.provider, way.upstream, events))
        mask = Mask()
        lines = (json.dumps([event.kind, event.data], ensure_ascii=False) for event in told)
        files["client_stream.jsonl"] = "".join(_masked(line, mask) + "\n" for line in lines)
        lost |= {"reply": sorted(whole.reply_lost), "stream": sorted(stream.reply_lost)}
    files["lost.json"] = _text(lost)
    return files


def _request(send, body):
    headers = {name: value for name, value in send.headers.items() if SHOWN_HEADERS.match(name)}
    return {"method": send.method, "path": send.path, "headers": headers, "body": body}


def _text(value):
    return _masked(json.dumps(value, ensure_ascii=False, indent=1), Mask()) + "\n"


def _masked(text, mask):
    return without_padding(mask(text))


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_conversion_makes_of_a_case_what_its_files_say(name, case, rewriting):
    folder = FOLDER / name / case
    files = made(ROADS[name], case)
    if rewriting:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text)
    assert {path.name: path.read_text() for path in folder.iterdir()} == files


def test_every_folder_is_a_case_of_a_conversion():
    there = {f"{path.parent.name}-{path.name}" for path in FOLDER.glob("*__*/*") if path.is_dir()}
    assert there == {case.id for case in CASES}
