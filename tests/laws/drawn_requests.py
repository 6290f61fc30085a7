"""Random requests from the vendors' own descriptions: botocore's service model, and the types of the SDKs.

A random request is a small valid request in which a few fields have any value that the description allows. A text comes
from a short list for the field's name, because a random text is hardly ever an image, a URL or a schema.

A top-level field without a value in `member_values.py` does not occur in random requests. A test in
`test_conversions.py` fails if there is such a field.
"""

import json
import re
from functools import cache
from types import UnionType
from typing import Annotated, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from anthropic.types.message_create_params import MessageCreateParamsBase
from botocore.loaders import Loader
from hypothesis import assume
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from typing_extensions import is_typeddict

from tests.helpers.conversion import BASES, PNG
from tests.laws.gemini_types import GenerateContentRequest
from tests.laws.member_values import MEMBER_VALUES

PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMAS = [
    SCHEMA,
    {"type": "object", "properties": {}},
    {},
    {"type": "string"},
    {"anyOf": [SCHEMA, {"type": "object"}]},
]
MAX_DEPTH = 7
"""Maximum depth in a random request at which an object gets optional fields. Deeper objects have only required fields.
"""

TEXTS = {
    "bytes": [PNG, PDF, "QUJD"],
    "data": [PNG, PDF, "irisgate1:claude:ZW5j", "some text"],
    "file_data": [f"data:application/pdf;base64,{PDF}", PDF],
    "url": [f"data:image/png;base64,{PNG}", "https://example.com/a.png"],
    "image_url": [f"data:image/png;base64,{PNG}", "https://example.com/a.png"],
    "signature": ["irisgate1:claude:sig-sim-1", "irisgate1:nova:x", "foreign"],
    "encrypted_content": ["foreign", ""],
    "name": ["look", "an odd/name", "Report.pdf", ""],
    "arguments": ['{"city":"x"}', "", "[]", "{"],
    "schema": [json.dumps(SCHEMA), "{}", "{"],
    "format": ["png", "pdf", "wav", "txt"],
    "filename": ["a.pdf", "Jahres_bericht  1.txt", ""],
    "uri": ["s3://bucket/key"],
    "fileUri": ["https://example.com/a.png", "gs://bucket/key"],
    "mimeType": ["image/png", "application/pdf", "text/plain", "audio/wav"],
    "responseMimeType": ["text/plain", "application/json"],
    "thoughtSignature": ["Zm9yZWlnbg==", ""],
}
"""Texts for random values of fields, by field name. The values of fields with ids are chosen from `_IDS` instead."""
_ID = re.compile(r".*_id|id|.*Id")
_PLAIN = ["Hi", "", " ", "two\nlines", "Grüße", "END"]
_IDS = ["a", "b", "call 1"]
_NUMBERS = st.sampled_from([0, 1, 2, 0.5, 100, 1.5, -1, 2000])
_INTEGERS = st.sampled_from([0, 1, 2, 20, 100, 1500, 5000, -1])
_VALUES = st.sampled_from([{"city": "x"}, {}, "text", 1, None, ["a"]])
_OBJECTS = {
    "parameters", "input_schema", "schema", "json", "definition", "parametersJsonSchema", "responseJsonSchema",
    "responseSchema",
}  # fmt: skip

TYPES = {
    "openai_chat": CompletionCreateParamsBase,
    "openai_responses": ResponseCreateParamsBase,
    "anthropic_messages": MessageCreateParamsBase,
    "gemini_generate_content": GenerateContentRequest,
}
UNDRAWN = {"toolAddition", "toolRemoval"}
"""Types of blocks that random requests do not have. They need a beta, and the simulated provider does not know them."""
_OFFERS = ("tools", "toolConfig", "functions")
_IN_ENVELOPE = {"model", "modelId"}


@cache
def _shapes():
    return Loader().load_service_model("bedrock-runtime", "service-2")["shapes"]


@cache
def members(dialect):
    """Return the documented top-level fields of a request. The value of each is a Hypothesis strategy for the field's
    values.
    """
    if dialect in TYPES:
        hints = get_type_hints(TYPES[dialect], include_extras=True)
        strategies = {name: typed(hint, name, 0) for name, hint in hints.items()}
    else:
        given = _shapes()["ConverseRequest"]["members"]
        strategies = {name: shaped(ref["shape"], name, 0) for name, ref in given.items()}
    return {name: values for name, values in strategies.items() if name not in _IN_ENVELOPE}


@st.composite
def requests(draw, dialect, valid=()):
    """Generate a request body: one of several valid bodies, in which one to four top-level fields get random values.

    `valid` has further valid bodies to choose from. No two tools have the same name, because every provider refuses
    that.
    """
    known = {name: values for name, values in members(dialect).items() if name in MEMBER_VALUES[dialect]}
    names = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=4, unique=True))
    body = draw(st.sampled_from([BASES[dialect], *valid])) | {name: draw(known[name]) for name in names}
    offered = re.findall(r'"name": "([^"]*)"', json.dumps([body.get(name) for name in _OFFERS]))
    assume(len(offered) == len(set(offered)))
    return body


def _text(name, pattern=None, shortest=0, longest=100):
    pool = _IDS if _ID.fullmatch(name) else TEXTS.get(name, _PLAIN)
    fit = [
        text
        for text in pool
        if shortest <= len(text) <= longest and (pattern is None or re.fullmatch(pattern, text, re.ASCII))
    ]
    if fit:
        return st.sampled_from(fit)
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).map(lambda text: text[:longest])


@cache
def typed(hint, name, depth):
    """Return a Hypothesis strategy for values of a type from an SDK (`hint`).

    `name` is the name of the field with the value, and `depth` the field's level in the request.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Annotated, Required, NotRequired):
        return typed(inner[0], name, depth)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        kinds = [typed(kind, name, depth) for kind in inner if _is_json(kind)]
        return st.one_of(kinds)
    if is_typeddict(hint):
        return st.deferred(lambda: _structure(hint, depth + 1))
    if origin is dict or hint is dict:
        return st.sampled_from(SCHEMAS) if name in _OBJECTS else st.sampled_from([{}, {"a": "b"}])
    if origin is not None and inner:  # any kind of list
        return st.lists(typed(inner[0], name, depth + 1), max_size=2 if depth < MAX_DEPTH else 1)
    return _plain(hint, name)


def _plain(hint, name):
    if hint is str:
        return _text(name)
    strategy = {int: _INTEGERS, float: _NUMBERS, bool: st.booleans(), type(None): st.none()}.get(hint)
    return strategy if strategy is not None else st.sampled_from(SCHEMAS) if name in _OBJECTS else _VALUES


def _is_json(kind):
    """Return whether values of a type can be sent as JSON.

    The SDKs' types also allow reply objects, open files and paths as values.
    """
    return not isinstance(kind, type) or is_typeddict(kind) or kind in (str, int, float, bool, dict, object, type(None))


def _structure(hint, depth):
    hints = get_type_hints(hint, include_extras=True)
    needed = {name: typed(kind, name, depth) for name, kind in hints.items() if get_origin(kind) is Required}
    free = {name: typed(kind, name, depth) for name, kind in hints.items() if name not in needed}
    return _object(needed, free if depth < MAX_DEPTH else {})


@st.composite
def _object(draw, needed, free):
    """Draw an object with all fields of `needed` and at most two fields of `free`."""
    chosen = draw(st.lists(st.sampled_from(sorted(free)), max_size=2, unique=True)) if free else []
    return {name: draw(values) for name, values in needed.items()} | {name: draw(free[name]) for name in chosen}


@cache
def shaped(name, member, depth):
    """Return a Hypothesis strategy for values of the type `name` in botocore's service model.

    `member` is the name of the field with the value, and `depth` the field's level in the request.
    """
    shape = _shapes()[name]
    kind = shape["type"]
    if shape.get("document"):
        return (
            _VALUES.filter(lambda value: isinstance(value, dict))
            if member not in _OBJECTS
            else st.sampled_from(SCHEMAS)
        )
    if kind == "structure":
        return st.deferred(lambda: _shaped_structure(shape, depth + 1))
    if kind == "list":
        most = min(shape.get("max", 2), 2)
        return st.lists(
            shaped(shape["member"]["shape"], member, depth + 1), min_size=shape.get("min", 0), max_size=most
        )
    if kind == "map":
        return st.sampled_from([{}, {"a": "b"}]) if member != "promptVariables" else st.just({"a": {"text": "b"}})
    if kind == "string":
        if "enum" in shape:
            return st.sampled_from(shape["enum"])
        return _text(member, shape.get("pattern"), shape.get("min", 0), shape.get("max", 100))
    if kind == "blob":
        return st.sampled_from(TEXTS["bytes"])
    if kind == "boolean":
        return st.booleans()
    numbers = _INTEGERS if kind in ("integer", "long") else _NUMBERS
    return numbers.filter(lambda value: shape.get("min", value) <= value <= shape.get("max", value))


def _shaped_structure(shape, depth):
    given = shape["members"].items()
    known = {name: shaped(ref["shape"], name, depth) for name, ref in given if name not in UNDRAWN}
    if shape.get("union"):
        return st.sampled_from(sorted(known)).flatmap(lambda name: known[name].map(lambda value: {name: value}))
    needed = {name: known[name] for name in shape.get("required", ())}
    return _object(needed, {name: values for name, values in known.items() if name not in needed and depth < MAX_DEPTH})
