"""Tests of large configurations: the time that they take, their limits, and the messages at the limits.

Times are CPU times of the process, with a margin for a slow machine. Without the limits, comparing many names with many
names would take minutes.
"""

import json
from functools import partial

import pytest

from gateway.config.document import hujson
from gateway.config.document.hujson import MAX_DOCUMENT_BYTES, Document, HujsonError, parse
from gateway.config.findings import MAX_FINDINGS, PATIENCE, ConfigError, Report
from gateway.config.load import load, loads
from tests.helpers.cpu_time import cpu_units

MOST_UNITS = 2_500
"""Maximum CPU time for loading a large configuration, in units of `cpu_time`: about 20 seconds."""
"""Maximum CPU seconds of each test. Usually a test takes about one second."""


def provider(models, **more):
    return {"baseurl": "http://127.0.0.1:1", "models": models, "apikey": "", **more}


def grant(source, models):
    return {"src": [source], "app": {"tailscale.com/cap/aperture": [{"role": "admin", "models": models}]}}


def many(count, make):
    return {f"p{index}": make(index) for index in range(count)}


LARGE = {
    "providers": {"providers": many(4000, lambda index: provider([f"m{index}"]))},
    "grants": {
        "providers": many(1000, lambda index: provider([f"m{index}"])),
        "grants": [grant(f"u{index}@example.com", f"p{index % 1000}/**") for index in range(10_000)],
    },
    "grants of providers that are not there": {
        "providers": many(1000, lambda index: provider([f"m{index}"])),
        "grants": [grant("*", f"q{index}/**") for index in range(4000)],
    },
    "grants with globs": {
        "providers": many(1000, lambda index: provider([f"m{index}"])),
        "grants": [grant("*", f"q*{index}/**") for index in range(4000)],
    },
    "unknown keys": {f"x{index}": 0 for index in range(20_000)},
    "shared models": {"providers": many(2, lambda _: provider([f"m{index}" for index in range(20_000)]))},
    "names without a model": {
        "providers": {
            "p": provider(
                [f"m{index}" for index in range(5000)], base_models={f"n{index}": "x" for index in range(5000)}
            )
        }
    },
    "aliases": {
        "providers": many(2000, lambda index: provider([f"m{index}"])),
        "model_aliases": {"models": {f"a{index}": {"dst": [f"p{index}/m{index}"]} for index in range(4000)}},
    },
    "quotas": {"quotas": {f"q{index}:<user>": {"capacity": "$1"} for index in range(4000)}},
}


@pytest.mark.parametrize("document", LARGE.values(), ids=LARGE)
def test_a_large_configuration_is_read_within_seconds(document):
    text = json.dumps(document)
    assert cpu_units(partial(loads, text), enough=MOST_UNITS) < MOST_UNITS


def test_many_macros_and_many_findings_are_read_within_seconds():
    environ = {f"KEY{index}": f"sk-value-{index:06d}" for index in range(1000)}
    providers = many(1000, lambda index: {**provider(["m"]), "apikey": f"${{KEY{index}}}", "unknown": 1})
    text = json.dumps({"providers": providers})
    assert cpu_units(partial(loads, text, environ=environ), enough=MOST_UNITS) < MOST_UNITS


def test_surplus_warnings_are_counted_and_errors_still_listed():
    """Check that a configuration with too many warnings gets 1,000 of them and all errors. One more line says that
    there are more warnings.
    """
    document = {**{f"x{index}": 0 for index in range(MAX_FINDINGS + 500)}, "providers": []}
    with pytest.raises(ConfigError) as caught:
        loads(json.dumps(document))
    messages = [str(finding) for finding in caught.value.findings]
    assert "providers: must be an object, not a list" in messages[0]
    assert messages.count("config.hujson: warning: there are more than 1000 warnings; the others are not told") == 1
    assert len(messages) == 1 + MAX_FINDINGS + 1


def test_hints_stop_at_the_patience_except_for_short_lists():
    """Check that a misspelt name gets no hint if comparing it with all names would exceed the budget `PATIENCE`.

    A later name with a short list of names still gets a hint.
    """
    report = Report("", Document("", None, {}))
    assert report.hint("baseURL", ["baseurl"]) == '; did you mean "baseurl"?'
    assert report.hint("baseURL", ["baseurl"], [f"p{index}" for index in range(PATIENCE)]) == ""
    assert report.hint("baseURL", ["baseurl"]) == '; did you mean "baseurl"?'
    assert report.hint("baseURL" * 20, ["baseurl" * 20]) == ""


def test_a_file_beyond_the_limit_is_refused_and_not_read_to_its_end(tmp_path):
    path = tmp_path / "config.hujson"
    path.write_text("{}" + " " * (MAX_DOCUMENT_BYTES - 2))
    load(path)
    path.write_text("{}" + " " * (MAX_DOCUMENT_BYTES - 1))
    with pytest.raises(ConfigError, match=f"is larger than {MAX_DOCUMENT_BYTES} bytes, which is the most that is read"):
        load(path)


def test_a_text_of_too_many_values_is_refused_where_they_are_too_many(monkeypatch):
    monkeypatch.setattr(hujson, "MAX_PIECES", 1000)
    with pytest.raises(HujsonError, match="at most 1000 keys, values and marks") as caught:
        parse("[" + "0," * 1000 + "0]")
    assert caught.value.offset == 1000
    parse("[" + "0," * 498 + "0]")


def test_a_long_value_is_cut_where_it_is_quoted():
    document = {"providers": {"p": provider(["m"])}, "grants": [grant("*", "x" * 100_000 + "/**")]}
    (warning,) = loads(json.dumps(document)).warnings
    assert warning.message.startswith('models pattern "' + "x" * 100 + '..." references provider')
    warning = loads(json.dumps({"y" * 100_000: 1})).warnings[-1]
    assert (warning.path, len(str(warning)) < 300) == ("y" * 100 + "...", True)
    assert len(str(loads("{}", name="n" * 100_000).warnings[0])) < 300
