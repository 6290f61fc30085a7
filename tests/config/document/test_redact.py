"""Tests of hiding the secrets in the text of a configuration.

They check which parts are hidden, and how a placeholder becomes the secret again.
"""

import json
import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document.hujson import parse
from gateway.config.document.redact import MARK, redact, scrub
from gateway.config.edit import propose
from gateway.config.load import loads
from gateway.config.model import active_secrets
from gateway.contract.registry import KnownPlugins
from tests.helpers.cpu_time import cpu_units

KEY = b"a key of the gateway"
SECRET = "s3cret+of-the-team"
SHORT = "s3cr3t+"


def redacted(text, *active):
    return redact(parse(text), KEY, active).text


def hidden(text, *active):
    """Return the text with *** in place of each secret. `active` are the secrets that are in use."""
    return MARK.sub("***", redacted(text, *active))


@pytest.mark.parametrize(
    "text",
    [
        '{"providers": {"a": {"apikey": "%s"}}}',
        '{"providers": {"a": {"APIKEY": "%s"}}}',
        '{"providers": {"a": {"add_headers": ["X-Any: %s"]}}}',
        '{"providers": {"a": {"options": {"deep": [{"client_secret": "%s"}]}}}}',
        '{"providers": {"a": {"options": {"headers": {"Authorization": "Bearer %s"}}}}}',
        '{"providers": {"a": {"baseurl": "https://user:%s@example.com"}}}',
        '{"hooks": {"h": {"apikey": "%s"}}}',
        '{"exporters": {"s3": {"access_key_id": "%s"}}}',
        '{"exporters": {"s3": {"access_secret": "%s"}}}',
        '{"connectors": {"servers": {"c": {"auth": {"type": "bearer_token", "secret": "%s"}}}}}',
        '{"connectors": {"servers": {"c": {"auth": {"username": "u", "password": "%s"}}}}}',
        '{"grants": [{"app": {"cap": [{"add_headers": ["X-Any: %s"]}]}}]}',
        '{"nobody": {"knows": {"private_key": "%s", "Refresh-Token": "%s"}}}',
        '{"credentials": {"user": "%s"}}',
        '{"tokens": ["%s", "%s"]}',
        '{"a": 1, // "apikey": "%s"\n}',
        "{/* api_key: '%s' */}",
        "{} // password = %s",
        '{} // "add_headers": [\n//  "X-Any: %s",\n// ]',
        '{} // was "X-Api-Key: %s" until May',
        '{"apikey": "one", "apikey": "%s"}',
        '{"hooks": {"h": {"url": "https://%s@h.example/x"}}}',
        '{"hooks": {"h": {"url": "https://%s:@h.example/x"}}}',
        '{"hooks": {"h": {"url": "https://h.example/x?user=1&token=%s&more=1"}}}',
        '{"hooks": {"h": {"url": "/x?api_key=%s#y"}}}',
        '{"hooks": {"h": {"url": "https:\\/\\/user:%s@h.example"}}}',
        '{"providers": {"p": {"options": {"auth": "%s", "bearer": "%s", "Proxy-Authorization": "%s"}}}}',
        '{"connectors": {"servers": {"w": {"headers": {"X-Auth": "%s"}}}}}',
        '{"apikey": "ENV:%s"}',
        '{"apikey": " env:KEY_%s"}',
        '{"add_headers": ["X-Key: env:KEY_%s"]}',
        '/* "Authorization": "Bearer %s" */ {}',
        "{} // Authorization: Bearer %s1234",
        '{} // "X-Auth": "%s"',
        "{} // old key: %s",
        "{} // https://%s@h.example",
        "{} // curl https://h.example/?key=%s",
    ],
)
def test_a_secret_is_hidden_wherever_a_name_tells_of_it(text):
    # a short secret is searched for nowhere else
    for secret in (SECRET, SHORT):
        full = text.replace("%s", secret)
        redaction = redacted(full)
        assert secret not in redaction
        assert len(redaction.splitlines()) == len(full.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        '{"apikey": ""}',
        '{"apikey": "env:BEDROCK_KEY"}',
        '{"apikey": "file:/run/secrets/key"}',
        '{"apikey": "${BEDROCK_KEY}"}',
        '{"apikey": "keyfile::/etc/account.json"}',
        '{"apikey": "keyfile::secrets/account.json"}',
        '{"add_headers": ["X-Key: ${KEY}", "Authorization: Bearer ${KEY}"]}',
        '{"providers": {"token": {"baseurl": "https://example.com"}}}',
        '{"authorization": "x-api-key", "cost_basis": "bedrock-us"}',
        '{"max_tokens": 4096, "token_url": "https://example.com/token"}',
        '{} // "apikey": "env:BEDROCK_KEY"',
        "{} // the password: ask the team",
        '{} // "authorization": "bearer"',
        "{} // basic authentication by bearer tokens",
        '{"auth": {"type": "bearer_token"}, "options": {"auth": "basic"}}',
        '{"hooks": {"h": {"url": "https://${USER}@h.example/?token=${TOKEN}"}}}',
        '{"hooks": {"h": {"url": "https://h.example:8080/a@b?kind=x"}}}',
        '{"providers": {"p": {"base_models": {"my-token": "amazon.nova-lite-v1:0"}}}}',
        '{"model_aliases": {"models": {"secret": {"dst": ["p/m"]}}}}',
        '{"quotas": {"token": {"rate": "$5.00/day"}}}',
    ],
)
def test_what_is_no_secret_is_shown(text):
    assert redacted(text) == text


def test_what_looks_like_a_reference_and_is_none_is_hidden():
    assert hidden('{"apikey": "keyfile::{\\"private_key\\": 1}"}') == '{"apikey": "***"}'
    assert hidden('{"apikey": "env:not a name"}') == '{"apikey": "***"}'
    # these are sent as they stand, for nothing looks them up
    assert hidden('{"apikey": "ENV:abcdef0123456789"}') == '{"apikey": "***"}'
    assert hidden('{"apikey": " env:abcdef0123456789"}') == '{"apikey": "***"}'
    assert hidden('{"add_headers": ["X-Key: env:abcdef0123456789"]}') == '{"add_headers": ["X-Key: ***"]}'
    assert hidden('{"apikey": "sk-${HALF}"}') == '{"apikey": "***"}'


@pytest.mark.parametrize(
    "line",
    [
        "secret=%d, ",
        'secret="',
        "'secret='",
        'secret:\\"',
        "secret: // ",
        "secret=" * 8,
        "bearer ",
        "://a",
        "://a:b",
        "?token",
        "?a=1&key=b%d",
        '"key: value%d" ',
        "sk-abc ",
        "token: sk-proj-%d ",
    ],
)
def test_twice_the_text_takes_no_more_than_twice_the_time(line):
    """Check that the regular expressions take linear time. While they run, they block the whole process."""
    small, large = (
        parse("{} /*\n" + "".join(line.replace("%d", str(at)) for at in range(size // len(line))) + "*/")
        for size in (25_000, 200_000)
    )
    # eight times the text: 64 times the time if a length counted twice
    allowed = 24 * cpu_units(partial(redact, small, KEY)) + 13
    assert cpu_units(partial(redact, large, KEY), allowed) < allowed


@pytest.mark.parametrize(("before", "repeated"), [("", "secret="), ("token: ", " ")])
def test_a_megabyte_without_a_secret_takes_no_more_than_its_length(before, repeated):
    small, large = (parse(f"// {before}{repeated * (size // len(repeated))}\n{{}}") for size in (125_000, 1_000_000))
    allowed = 24 * cpu_units(partial(redact, small, KEY)) + 13
    assert cpu_units(partial(redact, large, KEY), allowed) < allowed
    assert redact(large, KEY).text == large.text


def test_a_secret_is_hidden_in_every_other_place_too():
    text = '{"apikey": "%s", "name": "with %s", "%s": 1} // %s, /* %s */'
    assert hidden(text.replace("%s", SECRET)) == text.replace("%s", "***")
    assert hidden('{"name": "in-use-elsewhere"}', "in-use-elsewhere") == '{"name": "***"}'
    assert hidden('{"name": "short"}', "short") == '{"name": "short"}'


def test_other_letters_for_the_same_secret_hide_nothing():
    escaped = "".join(f"\\u{ord(character):04x}" for character in SECRET)
    redaction = redacted(f'{{"apikey": "{SECRET}", "name": "it is {escaped}", "{escaped}": 1}}')
    assert SECRET not in json.dumps(parse(redaction).value)


def test_the_key_behind_a_scheme_is_looked_for_on_its_own():
    assert hidden('{"add_headers": ["A: Bearer abcdefgh"], "name": "abcdefgh"}').endswith('"name": "***"}')


def test_equal_keys_look_equal_and_only_under_the_same_key_of_the_gateway():
    text = '{"a": {"apikey": "same"}, "b": {"apikey": "same"}, "c": {"apikey": "other"}}'
    first, second, third = MARK.findall(redacted(text))
    assert first == second != third
    assert MARK.findall(redact(parse(text), b"another").text)[0] != first


def test_a_text_that_holds_a_mark_already_stays_what_it_is():
    text = '{"apikey": "k1"} // redacted:' + "0" * 32
    redaction = redact(parse(text), KEY)
    assert redaction.text.endswith("0" * 32)
    assert redaction.known["redacted:" + "0" * 32].text == "redacted:" + "0" * 32


def test_a_message_loses_the_secrets_that_it_quotes():
    assert scrub(f"no file {SECRET}", [SECRET, "no"]) == "no file [redacted]"


def test_a_message_loses_secrets_that_overlap():
    assert scrub("see abcdefghijkl", ["abcdefgh", "efghijkl"]) == "see [redacted]"


def test_the_secrets_in_use_are_those_of_providers_and_of_headers():
    text = """{"providers": {"a": {"baseurl": "http://h", "apikey": "env:K", "add_headers": ["X: header-1"]}}}"""
    assert active_secrets(loads(text, environ={"K": "from-outside"}).config) == {"from-outside", "header-1"}


LETTERS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
GAPS = st.sampled_from(["", " ", "\n", "// a comment\n", "/* api */", "\t"])


@given(st.lists(st.tuples(LETTERS, st.sampled_from(["apikey", "name", "Token", "x"]), GAPS), max_size=6), st.booleans())
def test_what_is_saved_as_it_was_shown_is_what_was_there(tmp_path_factory, members, ascii_only):
    inner = ",".join(
        f"{gap}{json.dumps(f'{key}{number}' if key in 'namex' else key)}:{gap}{json.dumps(value, ensure_ascii=ascii_only)}"
        for number, (value, key, gap) in enumerate(members)
    )
    text = "{" + ",".join(f'"{at}": {{{part}}}' for at, part in enumerate([inner])) + "}"
    redaction = redact(parse(text), KEY)
    back = propose(redaction.text, tmp_path_factory.getbasetemp(), redaction.known, active=(), plugins=KnownPlugins(()))
    assert back.text == text
    keys = [value for value, key, _ in members if key in {"apikey", "Token"} and len(value) >= 8]
    assert not [key for key in keys if not re.match("env:|file:|keyfile:", key) and key in redaction.text]
