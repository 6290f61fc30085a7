"""Tests that a beta and the fields that need it are sent together or left out together, on every conversion with betas.

Each case in `PAIRS` is a beta with fields that need it. For the case that the beta is not sent, `PAIRS` has the
expected fields and the expected losses. Some cases are requests of Claude Code (claude-code#82549: a field without its
beta).
"""

import copy
import json

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, Problem
from gateway.contract.flag import ClientRequest, Members, Target
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke
from gateway_plugins.dialects.anthropic_messages import beta_members

CLAUDE = capabilities("anthropic.claude-opus-5")
SEARCH, EXAMPLES = "tool-search-tool-2025-10-19", "tool-examples-2025-10-29"
EAGER, COMPACT, EDITS = "fine-grained-tool-streaming-2025-05-14", "compact-2026-01-12", "context-management-2025-06-27"
BINDING, UPDATES = "thinking-binding-controls-2026-08-01", "thinking-display-updates-2026-08-18"
OUTPUT, CHANGES = "mid-conversation-output-config-2026-07-01", "mid-conversation-tool-changes-2026-07-01"
SCOPE = "prompt-caching-scope-2026-01-05"
DANGEROUS, COMPUTER = "dangerous-tool-use-2026-09-03", "computer-use-2025-11-24"
TOOL = {"name": "f", "input_schema": {"type": "object"}}
REGEX = {"type": "tool_search_tool_regex", "name": "tool_search_tool_regex"}
USER = {"role": "user", "content": "x"}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}]}
FOUND = {"type": "tool_reference", "tool_name": "f"}


def answer(*content):
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": list(content)}]}


def said(*content):
    return {"role": "assistant", "content": list(content)}


SERVED = {"type": "server_tool_use", "id": "s1", "name": "tool_search_tool_regex", "input": {}}
HITS = {"type": "tool_search_tool_result", "tool_use_id": "s1", "content": {"type": "tool_search_tool_search_result"}}
TEXT = {"type": "text", "text": "I found it."}
CLEAR = {"type": "clear_tool_uses_20250919"}
PAIRS = {
    # case: (beta, members of the client, the members without the beta, pointers that are then reported)
    "a deferred tool": (SEARCH, {"tools": [TOOL, TOOL | {"name": "g", "defer_loading": True}]}, {"tools": [TOOL, TOOL | {"name": "g"}]}, ["/tools/1/defer_loading"]),
    "a tool that searches": (SEARCH, {"tools": [REGEX, TOOL]}, {"tools": [TOOL]}, ["/tools/0"]),
    "only a tool that searches": (SEARCH, {"tools": [REGEX], "tool_choice": {"type": "auto"}}, {"tools": None, "tool_choice": None}, ["/tools/0"]),
    "Claude Code's search": (
        SEARCH,
        {"tools": [TOOL], "messages": [USER, CALL, answer(FOUND)]},
        {"messages": [USER, CALL, answer({"type": "text", "text": "f"})]},
        ["/messages/2/content/0/content/0"],
    ),
    "a search on the server": (
        SEARCH,
        {"messages": [USER, said(SERVED, HITS, TEXT), USER]},
        {"messages": [USER, said(TEXT), USER]},
        ["/messages/1/content/0", "/messages/1/content/1"],
    ),
    "nothing but a search on the server": (
        SEARCH,
        {"messages": [USER, said(SERVED, HITS), USER]},
        {"messages": [USER, said({"type": "text", "text": "(no output)"}), USER]},
        ["/messages/1/content/0", "/messages/1/content/1"],
    ),
    "examples of a tool": (EXAMPLES, {"tools": [TOOL | {"input_examples": [{}]}]}, {"tools": [TOOL]}, ["/tools/0/input_examples"]),
    "an input that streams": (EAGER, {"tools": [TOOL | {"eager_input_streaming": True}]}, {"tools": [TOOL]}, ["/tools/0/eager_input_streaming"]),
    "a compaction": (COMPACT, {"context_management": {"edits": [{"type": "compact_20260112"}]}}, {"context_management": None}, ["/context_management/edits/0"]),
    "an edit of the context": (EDITS, {"context_management": {"edits": [CLEAR]}}, {"context_management": None}, ["/context_management/edits/0"]),
    "one of two edits": (
        COMPACT,
        {"context_management": {"edits": [{"type": "compact_20260112"}, CLEAR]}, "anthropic_beta": [EDITS]},
        {"context_management": {"edits": [CLEAR]}},
        ["/context_management/edits/0"],
    ),
    "a binding of thinking": (BINDING, {"thinking": {"type": "adaptive", "block_binding": "drop"}}, {"thinking": {"type": "adaptive"}}, ["/thinking/block_binding"]),
    "updates of thinking": (UPDATES, {"thinking": {"type": "adaptive", "display": "updates"}}, {"thinking": {"type": "adaptive"}}, ["/thinking/display"]),
    "settings of one message": (
        OUTPUT,
        {"messages": [USER | {"output_config": {"effort": "low"}}]},
        {"messages": [USER]},
        ["/messages/0/output_config"],
    ),
}  # fmt: skip
SCOPED = {"type": "ephemeral", "scope": "global"}
ANTHROPICS = {
    # the same for what Bedrock takes under no beta, so that only Anthropic's own API gets it
    "Claude Code's edit of thinking": (EDITS, {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}, {"context_management": None}, ["/context_management/edits/0"]),
    "a scope of the cache": (
        SCOPE,
        {
            "system": [{"type": "text", "text": "s", "cache_control": SCOPED}],
            "messages": [USER | {"content": [{"type": "text", "text": "x", "cache_control": SCOPED}]}],
            "tools": [TOOL | {"cache_control": SCOPED}],
        },
        {
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "messages": [USER | {"content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}],
            "tools": [TOOL | {"cache_control": {"type": "ephemeral"}}],
        },
        ["/system/0/cache_control/scope", "/messages/0/content/0/cache_control/scope", "/tools/0/cache_control/scope"],
    ),
}  # fmt: skip
ESSENTIAL = {
    "safeguards": (DANGEROUS, {"safeguards": {"mode": "on"}}),
    "a computer": (COMPUTER, {"tools": [{"type": "computer_20251124", "name": "computer"}]}),
    "a tool that is added": (CHANGES, {"messages": [USER, {"role": "system", "content": [{"type": "tool_addition", "tool": FOUND}]}]}),
}  # fmt: skip
REFUSED = Problem(INVALID_REQUEST, "invalid beta flag", "ValidationException", 400)


def body(members, **more):
    return {"model": "m", "max_tokens": 50, "messages": [USER], **copy.deepcopy(members), **more}


def ask(flag, members, betas, *, client="anthropic_messages", without=()):
    """Return a client's request that names the betas where the client's dialect expects them."""
    headers = {"anthropic-beta": ",".join(betas)} if client == "anthropic_messages" and betas else {}
    given = members.get("anthropic_beta", [])
    inside = [*given, *([] if headers else betas)]
    made = body(members) | ({"anthropic_beta": inside} if inside else {})
    dialect = "anthropic_messages"
    if flag is bedrock_converse:
        made = {
            "messages": [],
            "additionalModelRequestFields": {n: v for n, v in made.items() if n not in ("model", "max_tokens")},
        }
        client = dialect = "bedrock_converse"
    elif client == "bedrock_model_invoke":
        made["anthropic_version"] = "bedrock-2023-05-31"
    top = Members(json.dumps(made).encode())
    return ClientRequest(client, dialect, "generate", "POST", "/", "", headers, top, "m", False, without)


def target(flag, **options):
    name = flag.__name__.rpartition(".")[2]
    return Target("p", name, "m", flag.dialects[0], CLAUDE, flag.Options(**options))


def built(flag, request, **options):
    """Return the sent fields, the sent betas, and the JSON pointers that are reported as dropped."""
    dropped = []
    send = flag.build(request, target(flag, **options), dropped.append)
    sent = json.loads(send.body)
    sent = sent.get("additionalModelRequestFields", {}) if flag is bedrock_converse else sent
    header = send.headers.get("anthropic-beta", "")
    return sent, sent.get("anthropic_beta", []) + [name for name in header.split(",") if name], dropped


ROADS = {
    # road: (flag of the provider, flag of the client)
    "native Messages": (anthropic_messages, "anthropic_messages"),
    "native InvokeModel": (bedrock_model_invoke, "bedrock_model_invoke"),
    "Messages to InvokeModel": (bedrock_model_invoke, "anthropic_messages"),
    "InvokeModel to Messages": (anthropic_messages, "bedrock_model_invoke"),
    "Converse to InvokeModel": (bedrock_model_invoke, "bedrock_converse"),
    "native Converse": (bedrock_converse, "bedrock_converse"),
}


def compared(sent, members, replaced):
    names = (members.keys() | replaced.keys()) - {"anthropic_beta"}
    expected = {**members, **replaced}
    return {name: sent.get(name) for name in names}, {name: expected.get(name) for name in names}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", PAIRS)
def test_a_pair_is_sent_whole(case, road):
    beta, members, _, _ = PAIRS[case]
    flag, client = ROADS[road]
    sent, betas, dropped = built(flag, ask(flag, members, [beta], client=client))
    got, expected = compared(sent, members, {})
    assert got == expected
    assert beta in betas
    assert dropped == []


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("why", ["refused before", "configured"])
def test_a_pair_is_left_out_whole(why, case, road):
    beta, members, replaced, lost = PAIRS[case]
    flag, client = ROADS[road]
    request = ask(flag, members, [beta], client=client, without=(beta,) if why == "refused before" else ())
    sent, betas, dropped = built(flag, request, **({"drop_betas": [beta]} if why == "configured" else {}))
    got, expected = compared(sent, members, replaced)
    assert got == expected
    assert beta not in betas
    prefix = "/additionalModelRequestFields" if flag is bedrock_converse else ""
    assert sorted(dropped) == sorted([f"/anthropic-beta/{beta}", *(prefix + pointer for pointer in lost)])


@pytest.mark.parametrize("case", ANTHROPICS)
def test_a_pair_that_only_anthropic_takes_is_left_out_whole_elsewhere(case):
    beta, members, replaced, lost = ANTHROPICS[case]
    request = ask(anthropic_messages, members, [beta])
    assert built(anthropic_messages, request)[1:] == ([beta], [])
    refused = ask(anthropic_messages, members, [beta], without=(beta,))
    for flag, ask_, options in (
        (anthropic_messages, refused, {}),
        (anthropic_messages, request, {"drop_betas": [beta]}),
        (bedrock_model_invoke, ask(bedrock_model_invoke, members, [SCOPE] if beta == SCOPE else []), {}),
        *([(anthropic_messages, request, {"envelope": "mantle"})] if beta == SCOPE else []),
    ):
        sent, betas, dropped = built(flag, ask_, **options)
        got, expected = compared(sent, members, replaced)
        assert got == expected
        assert beta not in betas
        edits = ["/context_management/edits"] if flag is bedrock_model_invoke and beta == EDITS else lost
        assert {*dropped} - {f"/anthropic-beta/{beta}"} == {*edits}
    message = f"{'context_management' if beta == EDITS else 'system.0.cache_control.ephemeral.scope'}: Extra inputs are not permitted"
    again = anthropic_messages.retry(
        request, target(anthropic_messages), Problem(INVALID_REQUEST, message, "", 400), pytest.fail
    )
    assert beta in again.without


@pytest.mark.parametrize("case", [*PAIRS, *ESSENTIAL])
def test_invoke_gets_the_beta_that_a_member_needs(case):
    """Check that the gateway sends InvokeModel the beta that a field needs there, although the client did not name it.

    Anthropic's own API accepts the field without the beta.
    """
    beta, members = (PAIRS.get(case) or ESSENTIAL[case])[:2]
    for client in ("anthropic_messages", "bedrock_converse"):
        _, betas, dropped = built(bedrock_model_invoke, ask(bedrock_model_invoke, members, [], client=client))
        assert beta in betas
        assert dropped == []


@pytest.mark.parametrize("case", PAIRS)
def test_a_member_goes_where_its_beta_is_not_taken(case):
    """Check that a field is left out if it needs a beta that neither the client names nor the provider accepts."""
    beta, members, replaced, lost = PAIRS[case]
    sent, betas, dropped = built(bedrock_model_invoke, ask(bedrock_model_invoke, members, []), drop_betas=[beta])
    got, expected = compared(sent, members, replaced)
    assert got == expected
    assert beta not in betas
    assert dropped == lost


def test_the_older_beta_of_tool_search_becomes_the_two_that_invoke_has():
    members = {"tools": [TOOL | {"defer_loading": True, "input_examples": [{}]}]}
    request = ask(bedrock_model_invoke, members, ["advanced-tool-use-2025-11-20"])
    assert built(bedrock_model_invoke, request)[1:] == ([SEARCH, EXAMPLES], [])
    request = ask(bedrock_model_invoke, members, ["advanced-tool-use-2025-11-20"], without=(SEARCH,))
    sent, betas, dropped = built(bedrock_model_invoke, request)
    assert (sent["tools"], betas) == ([TOOL | {"input_examples": [{}]}], [EXAMPLES])
    assert dropped == ["/tools/0/defer_loading"]


def test_a_native_member_without_its_beta_is_left_to_the_provider():
    """Check that a native request with a field that needs a beta is not changed, although the request does not name the
    beta.

    The provider decides whether to accept the field.
    """
    for road in ("native Messages", "native InvokeModel", "native Converse"):
        flag, client = ROADS[road]
        members = {"tools": [TOOL | {"defer_loading": True}]}
        request = ask(flag, members, [], client=client)
        assert built(flag, request)[0]["tools"] == members["tools"]


def test_a_beta_that_is_refused_alone_is_not_sent_alone():
    """Check that the beta for dangerous tools is sent only together with safeguards, because some models refuse it
    alone.
    """
    _, betas, dropped = built(bedrock_model_invoke, ask(bedrock_model_invoke, {}, [DANGEROUS]))
    assert (betas, dropped) == ([], [f"/anthropic-beta/{DANGEROUS}"])


@pytest.mark.parametrize("case", ESSENTIAL)
def test_what_gives_the_request_its_meaning_is_never_left_out(case):
    beta, members = ESSENTIAL[case]
    request = ask(bedrock_model_invoke, members, [beta])
    aim = target(bedrock_model_invoke)
    assert bedrock_model_invoke.retry(request, aim, REFUSED, pytest.fail) is None
    named = Problem(INVALID_REQUEST, f"invalid beta flag: {beta}", "ValidationException", 400)
    assert bedrock_model_invoke.retry(request, aim, named, pytest.fail) is None


@pytest.mark.parametrize("road", ["native Messages", "native InvokeModel", "Messages to InvokeModel"])
@pytest.mark.parametrize(
    ("message", "beta", "members"),
    [
        ("tools.11.custom.defer_loading: Extra inputs are not permitted", SEARCH, {"tools": [TOOL | {"defer_loading": True}]}),
        ("tools.0.custom.input_examples: Extra inputs are not permitted", EXAMPLES, {"tools": [TOOL | {"input_examples": [{}]}]}),
        ("context_management: Extra inputs are not permitted", EDITS, {"context_management": {"edits": [CLEAR]}}),
    ],
)  # fmt: skip
def test_a_refused_member_is_left_out_in_a_retry(message, beta, members, road):
    flag, client = ROADS[road]
    request = ask(flag, members, [], client=client)
    again = flag.retry(request, target(flag), Problem(INVALID_REQUEST, message, "", 400), pytest.fail)
    assert beta in again.without
    sent, betas, dropped = built(flag, again)
    assert "Extra" not in str(sent)
    assert beta not in betas
    assert not any(word in str(sent) for word in ("defer_loading", "input_examples", "context_management"))
    assert dropped
    assert flag.retry(again, target(flag), Problem(INVALID_REQUEST, message, "", 400), pytest.fail) is None


def test_claude_codes_own_betas_go_one_by_one_and_the_likely_one_first():
    """Check that after Bedrock's refusal, the retry leaves out only one beta: the one that most likely caused the
    refusal.

    Claude Code sends several betas to Bedrock, of which Opus 4.7 accepts only the oldest (claude-code#49370).
    """
    interleaved = "interleaved-thinking-2025-05-14"
    members = {"tools": [TOOL | {"defer_loading": True}]}
    request = ask(bedrock_model_invoke, members, [interleaved, SEARCH], client="bedrock_model_invoke")
    again = bedrock_model_invoke.retry(request, target(bedrock_model_invoke), REFUSED, pytest.fail)
    sent, betas, dropped = built(bedrock_model_invoke, again)
    assert (sent["tools"], betas) == ([TOOL], [interleaved])
    assert sorted(dropped) == [f"/anthropic-beta/{SEARCH}", "/tools/0/defer_loading"]


def test_many_refused_betas_cost_a_bounded_number_of_tries():
    names = [f"x-{number}-2026-0{number}-01" for number in range(1, 9)]
    request = ask(anthropic_messages, {}, names)
    tries = []
    while request is not None:
        tries.append(built(anthropic_messages, request)[1])
        request = anthropic_messages.retry(request, target(anthropic_messages), REFUSED, pytest.fail)
    assert [len(betas) for betas in tries] == [8, 7, 6, 5, 0]
    assert tries[1] == names[:7]  # the newest goes first


def test_every_feature_of_the_data_is_read():
    assert len({feature.beta for feature in beta_members.features()}) == len(beta_members.features())
    assert {beta for beta, *_ in (*PAIRS.values(), *ESSENTIAL.values())} <= {
        each.beta for each in beta_members.features()
    }
