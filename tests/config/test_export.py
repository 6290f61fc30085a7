"""Tests of the JSON Schema for editors: it is valid, agrees with the loader, and explains every key."""

import json

import pytest
from jsonschema import Draft202012Validator

from gateway.config.document.hujson import parse
from gateway.config.example import MINIMAL
from gateway.config.export import DIALECT, json_schema
from gateway.config.load import loads
from gateway.config.root import RootSection
from gateway.config.section import holds_of, keys, planned_keys
from tests.config.examples import HOSTED, KNOWN, config, errors
from tests.config.sections.test_unimplemented import NOT_BUILT
from tests.config.test_messages import ALIASES, DEFAULTS, GRANTS, LISTENERS, MARK, PROVIDERS
from tests.helpers.processes import irisgate

SCHEMA = json_schema(KNOWN)
EDITOR = Draft202012Validator(SCHEMA)


def sections(section):
    """Yield a section, and all sections inside it."""
    yield section
    for info in keys(section).values():
        if (mark := holds_of(info)) is not None:
            yield from sections(mark.section)


SECTIONS = list(dict.fromkeys(sections(RootSection)))

EVERY_KEY = {
    "server": {
        "listeners": [
            {"listen": "[::1]:0", "identity": "loopback"},
            {"listen": "0.0.0.0:80", "identity": "static", "login": "ci", "groups": ["g"], "tags": ["tag:a"]},
            {"listen": "0.0.0.0:81", "identity": "whois", "tailscaled": "/x", "service": "svc:ai"},
            {"listen": "0.0.0.0:82", "identity": "proxy-protocol", "proxies": ["10.0.0.7"]},
            {"listen": "unix:/x", "identity": "serve-headers"},
        ],
        "hosts": ["ai"],
        "limits": {"body_bytes": 2048, "header_bytes": 2048},
        "drain_seconds": 0.5,
    },
    "storage": {"url": "sqlite:/tmp/x.db", "retention": "90d"},
    "resilience": {"timeouts": {"read_seconds": 5, "connect_seconds": 1}, "max_attempts": 2},
}
SOUND = {**HOSTED, "minimal": MINIMAL, "every key of our own": config({"models": None}, **EVERY_KEY)}


def properties(shape, path=()):
    """Yield the path and the schema of every property, at any depth."""
    for part in (shape, *shape.get("anyOf", ())):
        for key, inner in part.get("properties", {}).items():
            yield (*path, key), inner
            yield from properties(inner, (*path, key))
        for under in ("items", "additionalProperties"):
            if isinstance(part.get(under), dict):
                yield from properties(part[under], (*path, "*"))


def test_it_is_a_json_schema_of_2020():
    assert SCHEMA["$schema"] == DIALECT
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_a_configuration_that_loads_is_valid(text):
    loads(text)
    assert [error.message for error in EDITOR.iter_errors(parse(text).value)] == []


WRONG_TYPES = [
    config({"baseurl": 1}),
    config({"models": "m"}),
    config({"models": [3]}),
    config({"authorization": "hmac"}),
    config({"auth_mode": "x"}),
    config({"base_models": []}),
    config({"compatibility": ["openai_chat"]}),
    config({"compatibility": {"openai_chat": 1}}),
    config({"preference": 1.5}),
    config({"disabled": "no"}),
    config({"on_loss": "ignore"}),
    config({"add_headers": [{"x": "y"}]}),
    config(grants={}),
    config(grants=[{"src": "*", "app": {}}]),
    config(grants=[{"app": {}}]),
    config(grants=[{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": 3}]}}]),
    config(grants=[{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "root"}]}}]),
    config(temp_grants={}),
    config(temp_grants=[{"src": ["*"], "grants": [{"providers": [3]}]}]),
    config(model_aliases=[]),
    config(model_aliases={"models": {"a": {"dst": "p/m"}}}),
    config(model_aliases={"models": {"a": {"dst": []}}}),
    config(server=[]),
    config(server={"listeners": []}),
    config(server={"listeners": [{"listen": 80}]}),
    config(server={"listeners": [{}]}),
    config(server={"limits": {"body_bytes": 1}}),
    config(server={"drain_seconds": -1}),
    config(storage=[]),
    config(resilience={"timeouts": {"read_seconds": 0}}),
    config(quotas={"a": []}),
    config(hooks={"a": {"disabled": 1}}),
    config(exporters={"s3": {"limit": "x"}}),
    config(database={"save_raws": 1}),
    config(mcp={"servers": {"a": {"url": 1}}}),
    config(connectors={"servers": {"a": {"protocol": "ftp"}}}),
]


@pytest.mark.parametrize("text", WRONG_TYPES)
def test_a_configuration_with_a_value_of_a_wrong_type_is_invalid(text):
    assert errors(text)
    assert not EDITOR.is_valid(json.loads(text))


@pytest.mark.parametrize(
    "section",
    [
        section.replace(MARK, "")
        for section, expected in [*PROVIDERS, *GRANTS, *ALIASES, *LISTENERS, *NOT_BUILT]
        if expected and ("unknown key" in expected or "is not one of" in expected or "is missing" in expected)
    ],
)
def test_a_key_or_word_that_is_not_known_is_marked_in_an_editor(section):
    rest = [line for key, line in DEFAULTS.items() if f'"{key}":' not in section.partition("{")[0]]
    assert not EDITOR.is_valid(parse("\n".join(["{", section + ",", *rest, "}"])).value)


def test_every_property_is_described_in_a_sentence():
    for path, shape in properties(SCHEMA):
        assert len(shape.get("description", "")) > 10, path
        assert shape["description"].endswith("."), path


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_a_section_is_there_and_says_whether_it_is_supported(section):
    shapes = {}
    for path, shape in properties(SCHEMA):
        shapes.setdefault(path[-1], []).append(shape["description"])
    for key, info in keys(section).items():
        marked = ["Not supported yet: " in text for text in shapes[key] if info.description in text]
        assert marked, key
        assert all(marked) is (key in planned_keys(section)), key


def test_flags_are_those_that_there_are():
    provider = SCHEMA["properties"]["providers"]["additionalProperties"]["properties"]
    block = next(part for part in provider["compatibility"]["anyOf"] if part["type"] == "object")
    assert sorted(block["properties"]) == sorted(KNOWN)


async def test_the_command_prints_it(tmp_path):
    status, out, err = await irisgate(tmp_path, "schema")
    assert (status, err) == (0, "")
    assert json.loads(out)["properties"].keys() == SCHEMA["properties"].keys()
