"""Tests of the section `plugins`: the order of the filters, and the check of a filter's settings by its Pydantic
model.
"""

import json

import pytest
from pydantic import SecretStr

from gateway.config.export import json_schema
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.contract import filter as filters
from gateway.contract.registry import KnownPlugins
from tests.config.examples import config, errors, warnings


class Guard(filters.Settings):
    words: list[str]
    limit: int = 5
    key: SecretStr | None = None


KNOWN = KnownPlugins({"openai_chat"}, filters={"guard": Guard, "scrub": filters.Settings}, left_out=("off",))


def load(plugins, **environ):
    return loads(config(plugins=plugins), plugins=KNOWN, environ=environ)


def test_filters_stand_in_the_order_of_the_file_with_their_settings():
    loaded = load({"scrub": {}, "guard": {"words": ["a"], "on_error": "pass"}})
    first, second = loaded.config.plugins
    assert (first.name, first.on_error) == ("scrub", None)
    assert (second.name, second.settings, second.on_error) == ("guard", Guard(words=["a"]), "pass")
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("plugins", "place", "message"),
    [
        ({"gard": {}}, "plugins.gard", 'there is no filter "gard"; there are guard, scrub; did you mean "guard"?'),
        ({"openai_chat": {}}, "plugins.openai_chat", '"openai_chat" is a flag, which is switched on in a provider\'s'),
        ({"guard": {}}, "plugins.guard.words", "is missing"),
        ({"guard": []}, "plugins.guard", "must be an object, not a list"),
        ({"guard": {"words": "a"}}, "plugins.guard.words", "must be a list, not a string"),
        ({"guard": {"words": [1]}}, "plugins.guard.words[0]", "must be a string, not a number"),
        ({"guard": {"words": [], "limit": "5"}}, "plugins.guard.limit", "must be a whole number, not a string"),
        ({"guard": {"words": [], "on_error": "stop"}}, "plugins.guard.on_error", 'must be "refuse" or "pass"'),
        ({"guard": {"words": [], "key": "literal"}}, "plugins.guard.key", "is a secret; write env:NAME or file:PATH"),
    ],
)
def test_a_fault_is_told_with_its_place(plugins, place, message):
    (told,) = errors(config(plugins=plugins), plugins=KNOWN, environ={})
    where, _, words = told.partition(f"{place}: ")
    assert where.startswith("config.hujson:")
    assert words.startswith(message)


def test_a_key_without_meaning_is_a_warning():
    plugins = {"guard": {"words": [], "limt": 3}, "off": {}}
    assert warnings(config(plugins=plugins), plugins=KNOWN) == [
        'plugins.guard.limt: unknown key; it has no effect; did you mean "limit"?',
        "plugins.off: is switched off on the command line (--without); it has no effect",
    ]


def test_a_secret_is_read_from_where_it_is_and_hidden_from_then_on():
    loaded = load({"guard": {"words": [], "key": "env:GUARD_KEY"}}, GUARD_KEY="the-secret-key")
    (plugin,) = loaded.config.plugins
    assert plugin.settings.key.get_secret_value() == "the-secret-key"
    assert "the-secret-key" in active_secrets(loaded.config)
    assert "the-secret-key" not in repr(loaded.config)


def test_the_schema_has_the_settings_of_each_filter():
    plugins = json_schema(KNOWN.flags, KNOWN.filters)["properties"]["plugins"]
    guard = plugins["properties"]["guard"]
    assert set(guard["properties"]) == {"words", "limit", "key", "on_error"}
    assert guard["required"] == ["words"]
    assert plugins["additionalProperties"] is False
    assert json.dumps(plugins)
