"""Tests of configuration keys that are checked but have no effect yet. Each has a warning, whose text and position are
tested.
"""

import pytest

from tests.config.test_messages import assert_said, capability, said

LACKING = {
    "hooks": ": no hook is called, so guardrails are NOT applied, and no hook learns of calls",
    "database.retention.require_export": ": what is too old is removed all the same, whether it was exported or not",
    "database.retention.purge": ": bodies are removed, and the names of tools stay with their calls",
    "database.keep_encrypted_blobs": ": bodies are stored as they came, with everything that is in them",
    "mcp": ": no server of tools is called, so nothing of it is allowed or refused",
    "connectors": ": no server of tools is called, so nothing of it is allowed or refused",
}


def not_supported(key):
    return f"warning: {key}: not supported yet" + LACKING.get(key, "; it has no effect")


NOT_BUILT = [
    ('»"hooks": {"h": {"url": "https://x"}}', not_supported("hooks")),
    ('"hooks": {»"h": {}}', "warning: hooks.h: no url configured"),
    ('"hooks": {"h": {»"url": "ftp://x"}}', "warning: hooks.h.url: invalid scheme; write an http or https URL"),
    (
        '"hooks": {"h": {"url": "https://x", »"authorization": "basic"}}',
        'hooks.h.authorization: "basic" is not one of bearer, x-api-key, x-goog-api-key, hec, cf-aig-authorization',
    ),
    (
        '"hooks": {"h": {"url": "https://x", »"timeout": "5"}}',
        'hooks.h.timeout: must be a duration such as "5s", "1m30s" or "500ms"; "0" is none',
    ),
    (
        '"hooks": {"h": {"url": "https://x", »"fail_policy": "open"}}',
        'hooks.h.fail_policy: "open" is not one of fail_open, fail_closed',
    ),
    ('"database": {»"keep_encrypted_blobs": true}', not_supported("database.keep_encrypted_blobs")),
    (
        '"database": {"retention": {»"require_export": true}}',
        not_supported("database.retention.require_export"),
    ),
    ('"database": {"retention": {»"purge": ["captures"]}}', not_supported("database.retention.purge")),
    ('»"mcp": {}', not_supported("mcp")),
    ('"mcp": {"servers": {"w": {»"url": 1}}}', "mcp.servers.w.url: must be a string, not a number"),
    ('»"connectors": {}', not_supported("connectors")),
    (
        '"connectors": {"servers": {»"1a": {}}}',
        "warning: connectors.servers.1a: a connector's id is a letter followed by letters and digits",
    ),
    (
        '"connectors": {"servers": {»"internal": {}}}',
        "warning: connectors.servers.internal: this id is reserved; choose another",
    ),
    ('»"flags": {}', not_supported("flags")),
    ('»"chat_models": []', not_supported("chat_models")),
]


@pytest.mark.parametrize(("section", "expected"), NOT_BUILT)
def test_what_is_wrong_with_a_key_without_effect_is_said_at_its_place(section, expected):
    assert_said(section, expected)


def test_a_server_of_tools_that_is_declared_may_be_referred_to():
    for declared in ('"mcp": {"servers": {"wiki": {}}}', '"connectors": {"servers": {"wiki": {}}}'):
        assert not any("references" in line for line in said(capability('"mcp_tools": "wiki/*"') + ",\n" + declared))


def test_servers_that_register_themselves_are_not_missed():
    text = capability('"mcp_tools": "wiki/*"') + ',\n"mcp": {"accept_registrations": true}'
    assert not any("references" in line for line in said(text))


def test_what_grants_refer_to_is_found_where_it_is_defined():
    text = capability('"quotas": [{"bucket": "d:<user>"}], "send_hooks": [{"name": "h"}]')
    more = ',\n"quotas": {"d:<user>": {"capacity": "$1"}}, "hooks": {"h": {"url": "https://x"}}'
    assert not any("references" in line for line in said(text + more))


@pytest.mark.parametrize(
    ("timeout", "sound"),
    [
        ("0", True),
        ("5s", True),
        ("1m30s", True),
        ("500ms", True),
        (".5s", True),
        ("1d", False),
        ("s", False),
        ("", False),
    ],
)
def test_a_hooks_timeout_is_a_duration_as_go_writes_it(timeout, sound):
    hook = said(f'"hooks": {{"h": {{"url": "https://x", "timeout": "{timeout}"}}}}')
    assert (hook == ["2:1: " + not_supported("hooks")]) is sound
