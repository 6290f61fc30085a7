"""A table of every message about a configuration, each with its position.

Messages about keys that have no effect yet are in `tests/config/sections/test_unimplemented.py`.
"""

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.contract.registry import KnownPlugins
from tests.config.examples import KNOWN

PROVIDER = '"baseurl": "https://example.com", "apikey": "", "models": ["m", "a/b"], "cost_basis": "openai"'
APP = '"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {'
AT = 'grants[0].app."tailscale.com/cap/aperture"[1]'


MARK = "»"
"""A character that stands in a section at the position of the expected finding. If a section does not have it, a
finding at the document's beginning is expected.
"""


def said(section):
    """Return the findings of a document that has the section in its second line. A finding begins with its line and
    column.
    """
    rest = [line for key, line in DEFAULTS.items() if f'"{key}":' not in section.partition("{")[0]]
    text = "\n".join(["{", section + ",", *rest, "}"])
    try:
        findings = loads(text, plugins=KnownPlugins(KNOWN), environ={"SET": "x"}).warnings
    except ConfigError as error:
        findings = error.findings
    return [str(finding).removeprefix("config.hujson:") for finding in findings]


def assert_said(section, expected):
    """Assert that exactly one finding is at the position of `MARK` and has a message that begins with `expected`."""
    findings = said(section.replace(MARK, ""))
    place = f"2:{section.index(MARK) + 1}" if MARK in section else "1:1"
    assert sum(line.startswith(f"{place}: {expected}") for line in findings) == 1, findings


DEFAULTS = {
    "providers": f'"providers": {{"p": {{{PROVIDER}}}}},',
    "grants": f'"grants": [{{{APP}}}]}}}}],',
}


def provider(members):
    return f'"providers": {{"p": {{{PROVIDER}, {members}}}}}'


def capability(members):
    return f'"grants": [{{{APP}{members}}}]}}}}]'


def listener(item):
    return f'"server": {{"listeners": [{item}]}}'


PROVIDERS = [
    ('"providers": {}', "warning: no providers defined; users will not be able to access any models"),
    (
        '"grants": []',
        'warning: providers are configured but no "grants"; everyone will be denied',
    ),
    (
        '"grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "user"}]}}]',
        "warning: no grant in grants or temp_grants assigns role:admin; nobody will be able to manage this instance",
    ),
    (
        '"providers": {»"p": {"apikey": "", "models": ["m"]}}',
        "warning: providers.p: no baseurl configured; the provider is left out of routing",
    ),
    (
        '"providers": {»"p": {"baseurl": "https://x", "models": ["m"]}}',
        'warning: providers.p: no apikey configured; requests go without one (write "apikey": "" if that is meant)',
    ),
    (
        provider('»"authorization": "beaer"'),
        'providers.p.authorization: "beaer" is not one of bearer, x-api-key, x-goog-api-key',
    ),
    (
        provider('»"auth_mode": "overide"'),
        'providers.p.auth_mode: "overide" is not one of override, passthrough, none',
    ),
    (
        '"providers": {"p": {"baseurl": "https://x", "models": ["m"], »"apikey": "k", "auth_mode": "none"}}',
        'warning: providers.p.apikey: has no effect with "auth_mode": "none"; leave one of them out',
    ),
    (
        provider('"base_models": {»"n": "amazon.nova-lite-v1:0"}'),
        'warning: providers.p.base_models.n: is not among the provider\'s "models"; it has no effect',
    ),
    (
        provider('"base_models": {»"m": ""}'),
        "providers.p.base_models.m: must not be empty; write the id of the model behind the name",
    ),
    (
        provider('"add_headers": [»"X-Team research"]'),
        'providers.p.add_headers[0]: must be in "Header-Name: value" format',
    ),
    (
        provider('»"baseURL": "https://x"'),
        'warning: providers.p.baseURL: unknown key; it has no effect; did you mean "baseurl"?',
    ),
    (
        provider('»"preference": "1"'),
        "providers.p.preference: must be a whole number, not a string",
    ),
    (
        provider('"name": "a", »"name": "b"'),
        'providers.p.name: duplicate key "name": it stands at 2:117 and again at 2:130; keep one of them',
    ),
    (
        provider('»"apikey": "${UNSET} ${SET} ${OTHER}"'),
        "providers.p.apikey: unsubstituted macros: [UNSET, OTHER]",
    ),
]

GRANTS = [
    (
        '"grants": [{"src": ["*"], "app": {}, »"dst": ["tag:x"]}]',
        "warning: grants[0].dst: unknown key; it has no effect",
    ),
    (
        capability('»"models": "q/*"'),
        (
            f'warning: {AT}.models: models pattern "q/*" references provider "q" which does not match any declared '
            "provider"
        ),
    ),
    (capability('»"role": "amin"'), f'{AT}.role: "amin" is not one of user, admin'),
    (capability('"add_headers": [»"x"]'), f'{AT}.add_headers[0]: must be in "Header-Name: value" format'),
    (
        capability('"send_hooks": [{»"name": "audi"}]'),
        f'warning: {AT}.send_hooks[0].name: send_hooks references undefined hook "audi"',
    ),
    (
        capability('"quotas": [{»"bucket": "daily:<user>"}]'),
        f'warning: {AT}.quotas[0].bucket: quotas references undefined quota "daily:<user>"',
    ),
    (capability('"quotas": [»{}]'), f'{AT}.quotas[0].bucket: is missing; for example "bucket": "daily:<user>"'),
    (
        capability('»"mcp_tools": "wiki/*"'),
        (
            f'warning: {AT}.mcp_tools: mcp_tools pattern "wiki/*" references server "wiki" which does not match any '
            "declared server"
        ),
    ),
    (capability('»"mcp_tools": "**"'), f"warning: {AT}.mcp_tools: not supported yet; it has no effect"),
    ('»"temp_grants": [{"src": ["*"]}]', 'warning: temp_grants: deprecated; write it as "grants"'),
    (
        '"temp_grants": [»{"src": ["*"]}]',
        'warning: temp_grants[0]: has neither "grants" nor "app"; it gives nothing',
    ),
    (
        '"temp_grants": [{"src": ["*"], "grants": [{»"hook": {"hook": "a"}}]}]',
        "warning: temp_grants[0].grants[0].hook: not supported yet: no hook is called, so guardrails are NOT applied",
    ),
    (
        '"temp_grants": [{"src": ["*"], "grants": [{"providers": [»{"provider": "q"}]}]}]',
        (
            'warning: temp_grants[0].grants[0].providers[0]: models pattern "q/**" references provider "q" which '
            "does not match any declared provider"
        ),
    ),
    ('"temp_grants": [»{"grants": []}]', 'temp_grants[0].src: is missing; for example "src": ["*"]'),
]

ALIASES = [
    (
        '"model_aliases": {»"strategy": "heaviest"}',
        (
            'warning: model_aliases.strategy: "heaviest" is not one of first, random, round_robin, session, '
            'weighted, least_in_flight, cheapest; "first" is used'
        ),
    ),
    (
        '"model_aliases": {"models": {"f": {"dst": ["p/m"], »"strategy": "randon"}}}',
        (
            'warning: model_aliases.models.f.strategy: "randon" is not one of first, random, round_robin, session, '
            'weighted, least_in_flight, cheapest; "first" is used'
        ),
    ),
    (
        '"model_aliases": {"models": {»"f": {}}}',
        'model_aliases.models.f.dst: is missing; for example "dst": ["bedrock/us.amazon.nova-lite-v1:0"]',
    ),
    (
        '"model_aliases": {"models": {"f": {»"dst": []}}}',
        'model_aliases.models.f.dst: must not be empty; for example "dst": ["bedrock/us.amazon.nova-lite-v1:0"]',
    ),
    (
        '"model_aliases": {"models": {"f": {"dst": [»"m"]}}}',
        (
            'model_aliases.models.f.dst[0]: must be in "provider/model" format, such as '
            '"bedrock/us.amazon.nova-lite-v1:0"'
        ),
    ),
    (
        '"model_aliases": {"models": {"f": {"dst": [»"q/m"]}}}',
        'warning: model_aliases.models.f.dst[0]: dst references provider "q" which is not declared',
    ),
    (
        '"model_aliases": {"models": {"f": {"dst": [»"p/a/c"]}}}',
        (
            'warning: model_aliases.models.f.dst[0]: dst references model "a/c" which provider "p" does not have; '
            'did you mean "a/b"?'
        ),
    ),
    (
        '"model_aliases": {"models": {»"m": {"dst": ["p/a/b"]}}}',
        'warning: model_aliases.models.m: provider "p" has a model of this name; the alias comes first',
    ),
    (
        '"model_aliases": {"models": {»" ": {"dst": ["p/m"]}}}',
        'model_aliases.models." ": an alias needs a name, which clients send as the model',
    ),
]

_REACHED = "can be reached by others, so who they are must be said: set "
_ELSEWHERE = '"identity": "whois" on a tailnet, "static" and a "login" elsewhere, or listen on 127.0.0.1'
LISTENERS = [
    (listener('»{"listen": "0.0.0.0:80"}'), f'server.listeners[0]: "0.0.0.0:80" {_REACHED}{_ELSEWHERE}'),
    (
        listener('»{"listen": "unix:/x"}'),
        (
            f'server.listeners[0]: "unix:/x" {_REACHED}"identity": "serve-headers" behind tailscale serve, or '
            "listen on 127.0.0.1"
        ),
    ),
    (
        listener('»{"listen": "127.0.0.1:80", "identity": "serve-headers"}'),
        (
            'server.listeners[0]: "identity": "serve-headers" works on a unix socket only, since anyone could send '
            'the headers to an address; listen on "unix:/run/irisgate/http.sock" and point tailscale serve at it'
        ),
    ),
    (
        listener('»{"listen": "unix:/x", "identity": "whois"}'),
        (
            'server.listeners[0]: "identity": "whois" needs the address of the peer, and a unix socket has none; '
            'write "serve-headers" behind tailscale serve, or listen on an address'
        ),
    ),
    (
        listener('»{"listen": "0.0.0.0:80", "identity": "proxy-protocol"}'),
        (
            'server.listeners[0]: "identity": "proxy-protocol" believes whoever connects; name the proxies\' '
            'addresses, such as "proxies": ["10.0.0.7"], or listen on 127.0.0.1 or a unix socket'
        ),
    ),
    (
        listener('»{"listen": "127.0.0.1:80", "tailscaled": "/x"}'),
        (
            'server.listeners[0]: "tailscaled" and "service" need "identity": "whois" or "proxy-protocol"; leave '
            "them out otherwise"
        ),
    ),
    (
        listener('»{"listen": "unix:/x", "identity": "serve-headers", "service": "svc:ai"}'),
        (
            'server.listeners[0]: "tailscaled" and "service" need "identity": "whois" or "proxy-protocol"; leave '
            "them out otherwise"
        ),
    ),
    (
        listener('»{"listen": "0.0.0.0:80", "identity": "whois", "proxies": ["10.0.0.7"]}'),
        'server.listeners[0]: "proxies" needs "identity": "proxy-protocol"; leave it out otherwise',
    ),
    (
        listener('»{"listen": "0.0.0.0:80", "identity": "whois", "login": "x"}'),
        (
            'server.listeners[0]: "login", "groups" and "tags" need "identity": "static"; "whois" finds out who is '
            "calling"
        ),
    ),
    (
        listener('»{"listen": "[::1]:1", "groups": ["x"]}'),
        (
            'server.listeners[0]: "login", "groups" and "tags" need "identity": "static"; the login is (loopback) '
            "without"
        ),
    ),
    (
        listener('{"listen": "0.0.0.0:80", "identity": "whois", »"tailscaled": "x.sock"}'),
        (
            "server.listeners[0].tailscaled: must be the absolute path of a socket, such as "
            '"/var/run/tailscale/tailscaled.sock"'
        ),
    ),
    (
        listener('{"listen": "0.0.0.0:80", "identity": "whois", »"service": "ai"}'),
        'server.listeners[0].service: must be the name of a Tailscale Service, such as "svc:ai"',
    ),
    (
        listener('{"listen": "[::1]:1", "identity": "proxy-protocol", "proxies": [»"10.0.0.0/8"]}'),
        'server.listeners[0].proxies[0]: must be an IP address without a port, such as "10.0.0.7"',
    ),
    (
        listener('{"listen": "[::1]:1", »"identity": "whoami"}'),
        'server.listeners[0].identity: "whoami" is not one of loopback, static, whois, serve-headers, proxy-protocol',
    ),
]


SOUND = [
    '"$schema": "./irisgate.schema.json"',
    provider('"add_headers": ["X-A: ${SET}"]'),
    provider('"auth_mode": ""'),
    '"providers": {"p": {"baseurl": "https://x", "models": ["m"], "auth_mode": "passthrough"}}',
    '"providers": {"p": {"baseurl": "https://x", "models": ["m"], "auth_mode": "none"}}',
    '"model_aliases": {"models": {"f": {"dst": ["p/a/b"], "strategy": "session"}}}',
    listener('{"listen": "127.0.0.1:80", "identity": "whois", "service": "svc:ai-1"}'),
    listener('{"listen": "127.0.0.1:80", "identity": "proxy-protocol", "tailscaled": "/x", "proxies": ["127.0.0.1"]}'),
    listener('{"listen": "0.0.0.0:80", "identity": "proxy-protocol", "proxies": ["::0:1"]}'),
    listener('{"listen": "unix:/x", "identity": "proxy-protocol"}'),
]


@pytest.mark.parametrize(("section", "expected"), [*PROVIDERS, *GRANTS, *ALIASES, *LISTENERS])
def test_what_is_wrong_is_said_at_its_place(section, expected):
    assert_said(section, expected)


@pytest.mark.parametrize("section", SOUND)
def test_nothing_is_said_of_what_is_right(section):
    assert said(section) == []


@pytest.mark.parametrize("identity", ['"identity": "whois"', '"identity": "proxy-protocol", "proxies": ["10.0.0.7"]'])
def test_missing_grants_are_conditional_where_a_policy_may_grant(identity):
    """Check that the warning about missing grants says "unless the tailnet policy says otherwise" in the identity modes
    in which the tailnet policy can grant access.
    """
    on = listener(f'{{"listen": "0.0.0.0:80", {identity}}}')
    unless = "unless the tailnet policy says otherwise, "
    everyone = f'providers are configured but no "grants"; {unless}everyone will be denied'
    lacking = "no grant in grants or temp_grants assigns role:admin"
    assert said(f'"grants": [],\n{on}') == [f"1:1: warning: {everyone}"]
    unmanaged = said(f'"grants": [{{"src": ["*"], "app": {{}}}}],\n{on}')
    assert unmanaged == [f"1:1: warning: {lacking}; {unless}nobody will be able to manage this instance"]


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("localhost", "127.0.0.1")])
def test_a_listener_without_proxies_warns_with_the_fix(host, local):
    """Check the warning about a listener that has the mode `proxy-protocol` and no `proxies`. Such a listener trusts
    every local process.

    If this is intended, the warning tells the operator to set `proxies` to the local address. There is no warning then.
    """
    sound = listener('{"listen": "127.0.0.1:1"}, {"listen": "%s:80", "identity": "proxy-protocol"%s}')
    (warning,) = said(sound % (host, ""))
    assert 'server.listeners[1]: no "proxies", so every process of this machine can speak for anybody' in warning
    assert warning.endswith(f'write "proxies": ["{local}"] if that is meant')
    assert said(sound % (host, f', "proxies": ["{local}"]')) == []
