"""Tests of a provider's `options`. The plugin of each compatibility flag declares its options in a Pydantic model,
which checks their values.
"""

import json
from typing import Annotated, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import AliasChoices, AliasPath, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from gateway.config.export import json_schema
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.contract.flag import Settings
from gateway.contract.registry import KnownPlugins
from gateway.testkit.laws.settings_laws import can_be_written
from tests.config.examples import config, errors, warnings
from tests.helpers.own_plugins import discover_own


class Retry(Settings):
    times: int = 2


class Options(Settings):
    tier: Literal["economy", "express"] = Field("economy", description='The queue: "express".')
    retry: Retry = Retry()
    regions: list[Retry] = Field(default_factory=list)
    by_model: dict[str, Retry] = Field(default_factory=dict)
    key: SecretStr | None = None


class Needed(Settings):
    account: str


KNOWN = KnownPlugins(
    {"acme_text", "openai_chat", "needs"},
    {"broken": "acme 1.0: it is broken"},
    left_out=("off",),
    options={"acme_text": Options, "needs": Needed},
)
ACME = {"acme_text": True}


def provider(options, flags=ACME):
    return {"compatibility": flags, "options": options}


def load(options, flags=ACME, **environ):
    return loads(config(provider(options, flags)), plugins=KNOWN, environ=environ)


def test_a_flag_gets_its_own_options_checked():
    loaded = load({"acme_text": {"tier": "express", "retry": {"times": 3}}})
    assert loaded.config.providers["p"].options == {"acme_text": Options(tier="express", retry=Retry(times=3))}
    assert loaded.warnings == ()


def test_a_flag_gets_the_defaults_of_its_options():
    assert load({}).config.providers["p"].options == {"acme_text": Options()}
    assert load({}, {"openai_chat": True}).config.providers["p"].options == {}


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({"acme_text": {"tier": "expres"}}, "acme_text.tier", '"expres" is not one of economy, express'),
        ({"acme_text": []}, "acme_text", "must be an object, not a list"),
        ({"acme_text": {"retry": {"times": "2"}}}, "acme_text.retry.times", "must be a whole number, not a string"),
        ({"acme_text": {"key": "literal"}}, "acme_text.key", "is a secret; write env:NAME or file:PATH in place of it"),
        ({"acme_txt": {}}, "acme_txt", 'there is no flag "acme_txt"; flags with options are acme_text, needs; did you mean "acme_text"?'),
        ({"tier": "express"}, "tier", 'is an option of the flag "acme_text"; write "options": {"acme_text": {"tier": …}}'),
        ({"openai_chat": {}}, "openai_chat", 'the flag "openai_chat" has no options'),
        ({"openai_chat": {"x": 1}}, "openai_chat", 'the flag "openai_chat" has no options'),
        ({"broken": {}}, "broken", "its plugin cannot be used: acme 1.0: it is broken"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(options, place, message):
    (told,) = errors(config(provider(options)), plugins=KNOWN, environ={})
    where, _, words = told.partition(f"providers.p.options.{place}: ")
    assert where.startswith("config.hujson:")
    assert words == message


def test_a_missing_option_is_told_also_without_any_options():
    for options in ({}, {"needs": {}}):
        (told,) = errors(config(provider(options, {"needs": True})), plugins=KNOWN)
        assert "providers.p.options.needs.account: is missing" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acme_text": {"teir": "express"}}, 'acme_text.teir: unknown key; it has no effect; did you mean "tier"?'),
        ({"acme_text": {"retry": {"time": 3}}}, 'acme_text.retry.time: unknown key; it has no effect; did you mean "times"?'),
        ({"acme_text": {"regions": [{}, {"time": 3}]}}, 'acme_text.regions[1].time: unknown key; it has no effect; did you mean "times"?'),
        ({"acme_text": {"by_model": {"m": {"time": 3}}}}, 'acme_text.by_model.m.time: unknown key; it has no effect; did you mean "times"?'),
        ({"needs": {"account": "a"}}, 'needs: is not among the enabled flags of "compatibility"; it has no effect'),
        ({"off": {"x": 1}}, "off: is switched off on the command line (--without); it has no effect"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_a_warning(options, message):
    assert warnings(config(provider(options)), plugins=KNOWN) == [f"providers.p.options.{message}"]


def test_the_key_of_an_earlier_version_is_an_error_that_names_the_options():
    (told,) = errors(config({"compatibility": {"bedrock_converse": True}, "anthropic_betas": {"drop": ["x-*"]}}))
    assert "providers.p.anthropic_betas: has no effect here any more" in told
    assert 'write "options": {FLAG: {"allow_betas": [...], "drop_betas": [...]}} for each flag in use' in told


def test_a_secret_is_read_from_where_it_is_and_hidden_from_then_on():
    loaded = load({"acme_text": {"key": "env:ACME_KEY"}}, ACME_KEY="the-secret-key")
    assert loaded.config.providers["p"].options["acme_text"].key.get_secret_value() == "the-secret-key"
    assert "the-secret-key" in active_secrets(loaded.config)
    assert "the-secret-key" not in repr(loaded.config)


class Aliased(Settings):
    key: SecretStr = Field(alias="apiKey")


class AliasedForReading(Settings):
    key: SecretStr = Field(validation_alias="apiKey")


class AliasedByChoice(Settings):
    key: SecretStr = Field(validation_alias=AliasChoices(AliasPath("keys", 0), "api_key", "apiKey"))


class AliasedByRule(Settings):
    model_config = ConfigDict(alias_generator=to_camel)
    api_key: SecretStr


class AliasedOrNamed(Settings):
    model_config = ConfigDict(populate_by_name=True)
    apiKey: SecretStr = Field(alias="key")  # noqa: N815 (the name under test)


class ReadByName(Settings):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    apiKey: SecretStr = Field(alias="key")  # noqa: N815 (the name under test)


class Annotations(Settings):
    key: Annotated[SecretStr, Field(min_length=3)] | None = Field(None, alias="apiKey")


@pytest.mark.parametrize(
    "model",
    [Aliased, AliasedForReading, AliasedByChoice, AliasedByRule, AliasedOrNamed, ReadByName, Annotations],
    ids=lambda model: model.__name__,
)
def test_a_secret_is_read_under_every_key_that_its_field_has(model):
    known = KnownPlugins({"acme_text"}, {}, options={"acme_text": model})
    document = config(provider({"acme_text": {"apiKey": "env:ACME_KEY"}}))
    loaded = loads(document, plugins=known, environ={"ACME_KEY": "the-secret-key"})
    assert loaded.warnings == ()
    assert active_secrets(loaded.config) >= {"the-secret-key"}
    (settings,) = loaded.config.providers["p"].options.values()
    can_be_written(settings, "acme_text")
    (told,) = errors(config(provider({"acme_text": {"apiKey": "literal"}})), plugins=known, environ={})
    assert "apiKey: is a secret; write env:NAME or file:PATH in place of it" in told


def test_the_schema_has_the_options_of_each_flag():
    schema = json_schema(KNOWN.flags, KNOWN.filters, KNOWN.options)
    editor = Draft202012Validator(schema)
    Draft202012Validator.check_schema(schema)

    def faults(options):
        return [error.message for error in editor.iter_errors(json.loads(config(provider(options))))]

    assert faults({"acme_text": {"tier": "express", "retry": {"times": 3}, "regions": [{"times": 1}]}}) == []
    assert len(faults({"acme_text": {"teir": "express"}})) == 1
    assert len(faults({"acme_text": {"retry": {"times": "x"}}})) == 1
    assert len(faults({"openai_chat": {"x": 1}})) == 1
    assert len(faults({"needs": {}})) == 1


def test_the_built_in_flags_declare_their_options():
    options = discover_own().known.options
    assert {name: set(model.model_fields) for name, model in options.items()} == {
        "anthropic_messages": {"envelope", "allow_betas", "drop_betas"},
        "bedrock_converse": {"allow_betas", "drop_betas"},
        "bedrock_model_invoke": {"allow_betas", "drop_betas", "jobs"},
    }
    assert all(info.description for model in options.values() for info in model.model_fields.values())
