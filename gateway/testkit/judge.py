"""Validates a JSON body by botocore's service model of bedrock-runtime, and reports the first fault in AWS's words.

- The service model has no rules about turns or about differences between models. Such rules are in
  `gateway/testkit/rules/`.
- The real service accepts some unknown fields. Here every unknown field is a fault, because the gateway should not send
  any.
"""

from __future__ import annotations

import binascii
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Final

Shape = Mapping[str, Any]

_ECHOED: Final = 100
"""Maximum number of characters of a value that an error message repeats. AWS leaves out long or sensitive values."""
_NOT_IN_BODY: Final = frozenset({"uri", "header", "headers", "querystring"})
BAD_MODEL: Final = "The provided model identifier is invalid."
"""The real service's message about a wrong model id (recorded traffic of pydantic-ai, test_bedrock_error)."""


class TestkitError(ImportError):
    """The error for a missing package, such as botocore, that the simulators need."""

    __test__ = False
    """False, because pytest would take a class whose name begins with "Test" for a test."""


def judge(operation: str, body: Any) -> str | None:
    """Return the first fault of a decoded body, or None.

    `operation` is the operation's name in botocore, such as `Converse`. Raises `KeyError` for an unknown operation.
    """
    top = _service()["operations"][operation]["input"]["shape"]
    shape = _shape(top)
    if "payload" in shape:  # each language model has its own body, which the service model does not describe
        return None
    members = {name: ref for name, ref in shape["members"].items() if ref.get("location") not in _NOT_IN_BODY}
    required = [name for name in shape.get("required", ()) if name in members]
    return next(_structure({**shape, "members": members, "required": required}, body, ()), None)


def model_id_fault(model_id: str) -> str | None:
    """Return an error message for a malformed model id or ARN. Return None if it is well-formed. The model need not
    exist.
    """
    fault = next(_string(_shape("ConversationalModelId"), model_id, ("modelId",)), None)
    return BAD_MODEL if fault else None


@cache
def _service() -> Shape:
    try:
        loaders = importlib.import_module("botocore.loaders")
    except ImportError:
        message = "the simulated Bedrock needs botocore's service model: install irisgate[testkit]"
        raise TestkitError(message) from None
    model: Shape = loaders.Loader().load_service_model("bedrock-runtime", "service-2")
    return model


def _shape(name: str) -> Shape:
    shape: Shape = _service()["shapes"][name]
    return shape


Path = tuple[str, ...]
Check = Callable[[Shape, Any, Path], Iterator[str]]


_TAKEN_ALL_THE_SAME: Final = (("VideoFormat", "video/mp4"),)
"""Values that the real service accepts, although botocore's service model does not list them. Each is a pair (shape,
value).

The source is recorded traffic (pydantic-ai, test_video_url_input).
"""


def _faults(name: str, value: Any, at: Path) -> Iterator[str]:
    shape = _shape(name)
    if not shape.get("document") and (name, value) not in _TAKEN_ALL_THE_SAME:
        yield from _CHECKS[shape["type"]](shape, value, at)


def _structure(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _wrong_type(at, "JSONObject", value)
        return
    members = shape.get("members", {})
    given = {name: item for name, item in value.items() if item is not None}
    for name in given:
        if name not in members:
            yield f"Malformed input request: {_pointer(at)}: extraneous key [{name}] is not permitted, {_AGAIN}"
    for name in shape.get("required", ()):
        if name not in given:
            yield _broken(None, (*at, name), "Member must not be null")
    if shape.get("union") and len(given) != 1:
        yield f"Malformed input request: {_pointer(at)}: exactly one of [{', '.join(members)}] must be set, {_AGAIN}"
    for name, item in given.items():
        yield from _faults(members[name]["shape"], item, (*at, name))


def _list(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if not isinstance(value, list):
        yield _wrong_type(at, "JSONArray", value)
        return
    yield from _length(shape, len(value), value, at)
    for index, item in enumerate(value, 1):
        yield from _faults(shape["member"]["shape"], item, (*at, str(index), "member"))


def _map(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _wrong_type(at, "JSONObject", value)
        return
    yield from _length(shape, len(value), value, at)
    for key, item in value.items():
        yield from _faults(shape["key"]["shape"], key, (*at, "key"))
        yield from _faults(shape["value"]["shape"], item, (*at, key, "value"))


def _string(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if not isinstance(value, str):
        yield _wrong_type(at, "String", value)
        return
    yield from _length(shape, len(value), value, at)
    if "enum" in shape and value not in shape["enum"]:
        yield _broken(value, at, f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]")
    if "pattern" in shape and not _pattern(shape["pattern"]).fullmatch(value):
        yield _broken(value, at, f"Member must satisfy regular expression pattern: {shape['pattern']}")


def _blob(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if not isinstance(value, str):
        yield _wrong_type(at, "String", value)
        return
    try:
        decoded = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        yield f"Malformed input request: {_pointer(at)}: is no valid base64, {_AGAIN}"
        return
    yield from _length(shape, len(decoded), None, at)


def _integer(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int):
        yield _wrong_type(at, "Integer", value)
    else:
        yield from _range(shape, value, at)


def _number(shape: Shape, value: Any, at: Path) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield _wrong_type(at, "Number", value)
    else:
        yield from _range(shape, value, at)


def _boolean(_: Shape, value: Any, at: Path) -> Iterator[str]:
    if not isinstance(value, bool):
        yield _wrong_type(at, "Boolean", value)


_CHECKS: Final[Mapping[str, Check]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "blob": _blob,
    "integer": _integer,
    "long": _integer,
    "float": _number,
    "double": _number,
    "boolean": _boolean,
}


def _length(shape: Shape, length: int, value: Any, at: Path) -> Iterator[str]:
    if length < shape.get("min", 0):
        yield _broken(value, at, f"Member must have length greater than or equal to {shape['min']}")
    if length > shape.get("max", length):
        yield _broken(value, at, f"Member must have length less than or equal to {shape['max']}")


def _range(shape: Shape, value: float, at: Path) -> Iterator[str]:
    if value < shape.get("min", value):
        yield _broken(value, at, f"Member must have value greater than or equal to {shape['min']}")
    if value > shape.get("max", value):
        yield _broken(value, at, f"Member must have value less than or equal to {shape['max']}")


@cache
def _pattern(java: str) -> re.Pattern[str]:
    r"""Return a Java pattern compiled for Python. As in Java, classes such as \s match ASCII only."""
    return re.compile(java, re.ASCII)


_AGAIN: Final = "please reformat your input and try again."
_JSON_TYPES: Final = {dict: "JSONObject", list: "JSONArray", str: "String", bool: "Boolean", type(None): "Null"}


def _wrong_type(at: Path, expected: str, value: Any) -> str:
    kind = _JSON_TYPES.get(type(value), "Number")
    return f"Malformed input request: {_pointer(at)}: expected type: {expected}, found: {kind}, {_AGAIN}"


def _broken(value: Any, at: Path, constraint: str) -> str:
    text = str(value)
    echoed = f"Value '{text}'" if value is not None and len(text) <= _ECHOED else "Value"
    return f"1 validation error detected: {echoed} at '{'.'.join(at)}' failed to satisfy constraint: {constraint}"


def _pointer(at: Path) -> str:
    """Return a path as a JSON pointer, as in AWS's messages about malformed input.

    Paths count the items of a list from 1, and pointers count from 0. For example, the path `messages.1.member.content`
    becomes `#/messages/0/content`.
    """
    steps = [
        str(int(step) - 1) if following == "member" else step
        for step, following in pairwise((*at, ""))
        if step != "member"
    ]
    return "#/" + "/".join(steps) if steps else "#"
