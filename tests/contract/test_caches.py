"""Tests that every cache and table in memory has a maximum size. The size is small if clients or providers choose the
keys.

- The first test fails for a cache that is not in `CACHES`, so that a new cache must be listed with its maximum size.
- The other tests are about caches whose keys clients or providers choose. They put more keys into a cache than it may
  have, many of them long, and measure memory.
"""

import ast
import gc
import tracemalloc
from itertools import count

import pytest

from gateway.access.identity import loopback
from gateway.call import agents, guard
from gateway.call.sessions import MAX_OPEN, Sessions
from gateway.config.model import Provider
from gateway.contract.flag import ClientRequest
from gateway.contract.members import Members
from gateway.contract.registry import load_plugin
from gateway.money.prices.table import MAX_SERVED, Prices
from gateway.store import calls
from gateway.telemetry import log
from gateway_plugins import openai_chat
from tests.helpers.source_tree import SOURCES, name, trees

CHOSEN, CONFIGURED, CONSTANT = "chosen by clients or providers", "named by the configuration", "constant"
CONNECTIONS = "open connections"
CACHES = {
    # file: the caches in it, by who chooses their keys
    "gateway/access/grants.py": [CONFIGURED, CONFIGURED],  # callers of the tailnet, and configured models
    "gateway/access/identity/endpoints.py": [CONFIGURED],
    "gateway/access/identity/loopback.py": [CHOSEN, CONNECTIONS],
    "gateway/access/identity/modes.py": [CONNECTIONS],
    "gateway/access/identity/proxy_protocol.py": [CONNECTIONS, CONNECTIONS],
    "gateway/access/identity/serve_headers.py": [CONFIGURED],  # headers of tailscaled, of which only 1,024 are cached
    "gateway/access/identity/whois.py": [CONNECTIONS, CONFIGURED],
    "gateway/call/agents.py": [CHOSEN],
    "gateway/call/candidate_order.py": [CHOSEN],
    "gateway/call/direct/api.py": [CONSTANT],
    "gateway/call/direct/byte_redaction.py": [CONFIGURED],
    "gateway/call/guard.py": [CHOSEN],
    "gateway/call/key_redaction.py": [CONFIGURED],
    "gateway/call/middleware/auto_cache.py": [CHOSEN],
    "gateway/call/plan.py": [CONFIGURED],  # for granted models alone, of which 1,024 are cached
    "gateway/call/recorded_headers.py": [CHOSEN],
    "gateway/call/sessions.py": [CHOSEN],
    "gateway/config/section.py": [CONSTANT, CONSTANT],
    "gateway/contract/capabilities.py": [CONSTANT, CONFIGURED],
    "gateway/contract/client_api.py": [CONSTANT],
    "gateway/contract/filter_checks.py": [CONSTANT],
    "gateway/contract/losses.py": [CONSTANT],
    "gateway/contract/result_values.py": [CONSTANT],
    "gateway/contract/route_paths.py": [CONSTANT],
    "gateway/contract/small_cache.py": [CHOSEN],
    "gateway/money/prices/modifiers.py": [CONSTANT],
    "gateway/money/prices/rows.py": [CONFIGURED],
    "gateway/money/prices/table.py": [CONSTANT, CONFIGURED],
    "gateway/money/quotas/ledger.py": [CONFIGURED],  # a bucket for each caller, of which full ones are removed
    "gateway/money/quotas/windows.py": [CONFIGURED],
    "gateway/process/exports/cbor.py": [CHOSEN],  # 1,024 texts of at most 32 characters
    "gateway/process/workers/forwarded.py": [CONNECTIONS],  # those whose pages were asked for last, at most 4,096
    "gateway/store/calls.py": [CHOSEN],
    "gateway/store/header_index.py": [CHOSEN],
    "gateway/store/postgres/dialect.py": [CONSTANT, CONSTANT],  # the queries of the store
    "gateway/store/few_calls.py": [CONSTANT],
    "gateway/store/figures_writing.py": [CONSTANT],
    "gateway/store/units.py": [CONSTANT],  # months by their days
    "gateway/store/usage.py": [CONSTANT],  # hours and days
    "gateway/telemetry/log.py": [CHOSEN],
    "gateway/testkit/bedrock_jobs.py": [CONSTANT],
    "gateway/testkit/judge.py": [CONSTANT, CONSTANT],
    "gateway/upstream/catalog.py": [CONFIGURED],
    "gateway/upstream/credentials/aws_access.py": [CHOSEN],  # a role session for each caller, of which 1,000 are kept
    "gateway/upstream/http1/targets.py": [CONFIGURED],
    "gateway/upstream/http1/tls.py": [CONFIGURED],
    "gateway/upstream/key_pools.py": [CHOSEN],
    "gateway/upstream/refused_features.py": [CONFIGURED],
    "gateway/web/admin/openapi.py": [CONSTANT],
    "gateway/web/connection_limits.py": [CONNECTIONS],
    "gateway/web/dashboard/connect.py": [CONSTANT],
    "gateway/web/dashboard/frame.py": [CONSTANT],
    "plugins/examples/response_cache.py": [CHOSEN],  # as many replies as the filter's setting allows
    "plugins/gateway_plugins/dialects/anthropic_messages/beta_members.py": [CONSTANT, CONSTANT],
    "plugins/gateway_plugins/dialects/anthropic_messages/betas.py": [CONSTANT, CONFIGURED],
    "plugins/gateway_plugins/dialects/bedrock/runtime_api.py": [CONFIGURED],
    "plugins/gateway_plugins/dialects/anthropic_messages/places.py": [CHOSEN],
    "plugins/gateway_plugins/dialects/bedrock_converse/places.py": [CHOSEN],
    "plugins/gateway_plugins/dialects/gemini_generate_content/places.py": [CHOSEN],
    "plugins/gateway_plugins/dialects/openai_chat/places.py": [CHOSEN],
    "plugins/gateway_plugins/dialects/openai_responses/places.py": [CHOSEN],
    "plugins/gateway_plugins/filters/secret_scrubber.py": [CONFIGURED],
    "plugins/gateway_plugins/shared/remembered_schemas.py": [CHOSEN],  # 512 schemas of at most 8 KB
}
KINDS = ("cache", "lru_cache", "small_cache", "OrderedDict", "WeakKeyDictionary", "WeakSet")


def caches_of(tree):
    """Yield the source text of each place where a file creates a cache or table: a decorator's name, or the expression
    of a call.

    Names in types and imports do not count.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (kind for each in node.decorator_list if (kind := ast.unparse(each).partition("(")[0]) in KINDS)
        elif isinstance(node, ast.Call):
            is_partial = isinstance(node.func, ast.Call) and ast.unparse(node.func.func) == "lru_cache"
            is_factory = any(
                ast.unparse(each.value) in KINDS for each in node.keywords if each.arg == "default_factory"
            )
            if is_partial or is_factory or ast.unparse(node.func) in KINDS[3:]:
                yield ast.unparse(node)


def test_every_cache_is_in_the_table():
    used = {name(path): len(names) for path, tree in trees(SOURCES).items() if (names := list(caches_of(tree)))}
    assert used == {file: len(kinds) for file, kinds in CACHES.items()}


def sessions():
    table, body = Sessions(bytes(32)), b'{"messages":[{"role":"user","content":"%d"}]}'
    flag = load_plugin("openai_chat", openai_chat)

    def note(number, text):
        top = Members(body % number)
        chat = ClientRequest("openai_chat", "openai_chat", "generate", "POST", "/", "", {}, top, "m", False)
        table.id_of(chat, text[:64], "", flag)

    return note


def many_headers():
    return lambda _, text: loopback.forwarding_header([(f"{text}-{number}", "") for number in range(100)])


def served():
    prices = Prices.load()
    provider = Provider("p", "http://127.0.0.1:9", ("claude-haiku-4-5",), cost_basis="anthropic")
    return lambda _, text: prices.served(provider, "claude-haiku-4-5", f"claude-haiku-4-5-{text}", is_other=False)


FILLED = {
    # name: (a function that adds an entry for a number and a long text, entries to add, megabytes at most)
    "user agents": (lambda: lambda _, text: agents._by_user_agent(text), 512, 1),
    "hosts": (lambda: lambda _, text: guard._place(text), 512, 1),
    "names of log fields": (lambda: lambda _, text: log._is_secret(text), 2048, 1),
    "names of headers": (many_headers, 128, 1),
    "lists of dropped fields": (lambda: lambda _, text: calls._json_list((text[:200], *map(str, range(31)))), 2048, 6),
    "sessions by fingerprint": (sessions, 2 * MAX_OPEN, 8),
    "prices of served models": (served, 2 * MAX_SERVED, 8),
}


@pytest.mark.parametrize("table", FILLED)
def test_a_table_of_chosen_names_takes_little_memory(table):
    make, entries, megabytes = FILLED[table]
    tail = {"hosts": "h" * 8000, "user agents": "u" * 8000}.get(table, "x" * 4000)
    numbers = count()

    def fill(add, many):
        for _ in range(many):
            number = next(numbers)
            # two of three texts are as long as a cache may take, one is longer
            add(number, f"{number:08}" + tail[: (40, 200, len(tail))[number % 3]])

    add = make()
    fill(add, 10)
    gc.collect()
    tracemalloc.start()
    try:
        fill(add, entries)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < megabytes * 1_000_000
