"""Tests that every golden reply is valid by its vendor's own types: those of OpenAI's and Anthropic's SDKs, and
botocore's model.

The types are applied strictly, without converting values. A field that the types lack is a fault, unless it is one of
the extensions that are listed here with their reasons. Replies to Responses clients also conform to Open Responses.
"""

import json
from functools import cache

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from botocore.loaders import Loader
from botocore.model import ServiceModel
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.golden.files import FOLDER
from tests.helpers.open_responses import conforms, event_conforms

WHOLE = {"openai_chat": ChatCompletion, "openai_responses": Response, "anthropic_messages": Message}
EVENT = {
    "openai_chat": ChatCompletionChunk,
    "openai_responses": ResponseStreamEvent,
    "anthropic_messages": RawMessageStreamEvent,
}
EXTENSIONS = {
    # member that the vendor's type lacks: the reason for it
    "thinking_blocks": "LiteLLM's form of signed thinking in Chat",
    "reasoning_content": "the usual form of thinking as text in Chat",
    "native_finish_reason": "OpenRouter's name for the provider's own reason",
    "amazon-bedrock-invocationMetrics": "Bedrock's counts in the last event of InvokeModel",
    "p": "Bedrock's padding",
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "store"), "a member of Open Responses"),
    "name": "the function of a call at the end of its arguments, which older SDKs of OpenAI demand",
    "cache_creation": "cache writes by lifetime, which translated streams know only in their last event",
    "annotations": "OpenAI's own streams of Chat have them in a delta, and its type has not",
}


def files(dialect, suffix):
    return sorted(FOLDER.glob(f"*/*/reply.to_{dialect}{suffix}"))


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(FOLDER)))


@cache
def adapter(kind):
    return TypeAdapter(kind)


def extras(value):
    """Yield the names of fields that the vendor's types lack, at any depth."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from extras(getattr(value, name))
    elif isinstance(value, list):
        for inner in value:
            yield from extras(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from extras(inner)


def check(kind, data):
    read = adapter(kind).validate_json(json.dumps(data), strict=True)
    assert set(extras(read)) <= EXTENSIONS.keys()
    return read


@pytest.mark.parametrize("dialect", WHOLE)
def test_there_are_golden_replies_of_both_forms(dialect):
    assert len(files(dialect, ".json")) > 10
    assert len(files(dialect, ".jsonl")) > 10


@named([path for dialect in WHOLE for path in files(dialect, ".json")])
def test_a_whole_reply_is_of_its_vendors_type(path):
    check(WHOLE[path.name.removeprefix("reply.to_").removesuffix(".json")], json.loads(path.read_text()))


@named([path for dialect in EVENT for path in files(dialect, ".jsonl")])
def test_each_event_is_of_its_vendors_type(path):
    dialect = path.name.removeprefix("reply.to_").removesuffix(".jsonl")
    for line in path.read_text().splitlines():
        _, data = json.loads(line)
        check(EVENT[dialect], data)


# ids

PREFIXES = {"openai_chat": "chatcmpl-", "openai_responses": "resp_", "anthropic_messages": "msg_"}


@named([path for dialect in PREFIXES for path in files(dialect, ".json*")])
def test_ids_of_replies_have_the_form_of_the_clients_api(path):
    dialect = path.name.removeprefix("reply.to_").partition(".")[0]
    datas = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else []
    bodies = [data for _, data in datas] or [json.loads(path.read_text())]
    ids = set()
    for body in bodies:
        inner = body.get("response") or body.get("message") or body
        if inner.get("object") != "response" and dialect == "openai_responses":
            continue
        ids |= {inner["id"]} if "id" in inner else set()
    (one,) = ids
    assert one.startswith(PREFIXES[dialect])


# Open Responses


@named(files("openai_responses", ".json"))
def test_a_whole_response_conforms_to_open_responses(path):
    conforms(json.loads(path.read_text()))


@named(files("openai_responses", ".jsonl"))
def test_each_event_of_a_response_conforms_to_open_responses(path):
    datas = [json.loads(line)[1] for line in path.read_text().splitlines()]
    for data in datas:
        event_conforms(data)
    assert [data["sequence_number"] for data in datas] == list(range(len(datas)))


# Converse


@cache
def service():
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")


SCALARS = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "float": (int, float),
    "double": (int, float),
    "blob": str,
}


def structure_faults(shape, value, at):
    if shape.is_document_type:
        return
    yield from (f"{at}.{name} is unknown" for name in value.keys() - shape.members.keys() - EXTENSIONS.keys())
    yield from (f"{at}.{name} is missing" for name in shape.required_members if name not in value)
    if shape.is_tagged_union and len(value.keys() & shape.members.keys()) != 1:
        yield f"{at} has not one member"
    for name in value.keys() & shape.members.keys():
        yield from shape_faults(shape.members[name], value[name], f"{at}.{name}")


def shape_faults(shape, value, at="reply"):
    """Yield a message for each value in a reply that does not match its type in botocore's service model (`shape`)."""
    if shape.type_name == "structure":
        yield from structure_faults(shape, value, at)
    elif shape.type_name == "list":
        for index, inner in enumerate(value):
            yield from shape_faults(shape.member, inner, f"{at}[{index}]")
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from shape_faults(shape.value, inner, f"{at}.{name}")
    elif not isinstance(value, SCALARS[shape.type_name]):
        yield f"{at} is no {shape.type_name}"
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{at} is {value}"


@named(files("bedrock_converse", ".json"))
def test_a_whole_reply_of_converse_has_its_shape(path):
    shape = service().operation_model("Converse").output_shape
    assert list(shape_faults(shape, json.loads(path.read_text()))) == []


@named(files("bedrock_converse", ".jsonl"))
def test_each_event_of_converse_has_its_shape(path):
    stream = service().operation_model("ConverseStream").output_shape.members["stream"]
    for line in path.read_text().splitlines():
        kind, data = json.loads(line)
        assert list(shape_faults(stream.members[kind], data)) == []
