"""Tests of the estimate of a call's maximum use. The estimate is made from the request's body alone."""

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.billing import common_parts
from gateway.contract.flag import Facts, HttpRequest, Members, Part, Usage
from gateway.contract.json_api import UNLIMITED
from gateway.contract.record import Small
from gateway.money.prices.rates import Priced
from gateway.money.prices.rows import parse_row
from gateway.money.quotas import estimate as estimates
from gateway.money.quotas.contents import IMAGE_TOKENS, REMOTE_DOCUMENT_TOKENS
from gateway.money.quotas.estimate import MAX_OUTPUT, Estimate, input_tokens, probable, rate_limited_tokens
from tests.helpers.cpu_time import cpu_units
from tests.helpers.own_plugins import discover_own

NAMES = [
    "messages",
    "input",
    "system",
    "contents",
    "content",
    "parts",
    "output",
    "role",
    "type",
    "source",
    "data",
    "bytes",
    "url",
    "file_data",
    "file",
    "file_id",
    "image_url",
    "input_audio",
    "image",
    "document",
    "video",
    "audio",
    "format",
    "media_type",
    "inlineData",
    "mimeType",
    "toolResult",
    "guardContent",
    "tools",
    "toolConfig",
    "systemTool",
    "name",
    "max_uses",
    "max_tool_calls",
    "web_search_options",
    "additionalModelRequestFields",
    "n",
    "inputImage",
    "s3Location",
    "previous_response_id",
    "conversation",
    "filename",
    "googleSearch",
    "result",
    "generationConfig",
    "candidateCount",
    "fileData",
    "fileUri",
    "functionResponse",
]
IMAGE = base64.b64encode(bytes(range(256)) * 40).decode()
FLAGS = discover_own().flags
MESSAGES_FLAGS = ("anthropic_messages", "bedrock_model_invoke")
CONVERSE_FLAGS = ("bedrock_converse", "bedrock_model_invoke")
CHAT_FLAGS = ("openai_chat", "openai_responses", "bedrock_model_invoke")
RESPONSES_FLAGS = ("openai_responses",)
GEMINI_FLAGS = ("gemini_generate_content",)


def measure(data, flag=None):
    """Return the size of a body, from which its tokens are estimated.

    The parts of the body that are not text, such as images, are found by the plugin of the compatibility flag `flag`.
    If `flag` is None, the function `common_parts` finds them.
    """
    return estimates.measure(Members(data), FLAGS[flag].billed_parts if flag else common_parts)


def estimate(request, limit, outputs):
    """Return the estimate for a request. The plugin of the request's compatibility flag measures the body."""
    return estimates.estimate(request, limit, outputs, measure(request.top.body, request.flag))


def body(content):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()


def test_text_usually_has_three_bytes_a_token():
    assert input_tokens(b"x" * 3000, common_parts) == 1000


def test_nothing_is_still_a_token():
    assert input_tokens(b"", common_parts) == measure(b"{}").usual == 1


DATA = f"data:image/png;base64,{IMAGE}"
PDF = f"data:application/pdf;base64,{IMAGE}"
MESSAGES_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}
CONVERSE_IMAGE = {"image": {"format": "png", "source": {"bytes": IMAGE}}}
MEDIA = [
    (MESSAGES_FLAGS, MESSAGES_IMAGE),
    (
        MESSAGES_FLAGS,
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": IMAGE[:6000]}},
    ),
    (MESSAGES_FLAGS, {"type": "document", "source": {"type": "content", "content": [MESSAGES_IMAGE]}}),
    (MESSAGES_FLAGS, {"type": "tool_result", "tool_use_id": "t", "content": [MESSAGES_IMAGE]}),
    (CONVERSE_FLAGS, CONVERSE_IMAGE),
    (CONVERSE_FLAGS, {"guardContent": CONVERSE_IMAGE}),
    (CONVERSE_FLAGS, {"toolResult": {"toolUseId": "t", "content": [CONVERSE_IMAGE]}}),
    (CHAT_FLAGS, {"type": "image_url", "image_url": {"url": DATA}}),
    (CHAT_FLAGS, {"type": "image_url", "image_url": DATA}),
    (CHAT_FLAGS, {"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}}),
    (CHAT_FLAGS, {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF[:6000]}}),
    (CHAT_FLAGS, {"type": "document_url", "document_url": PDF[:6000]}),
    (CHAT_FLAGS, {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{IMAGE}"}}),
    (CHAT_FLAGS, {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{IMAGE}"}}),
    (RESPONSES_FLAGS, {"type": "input_image", "image_url": DATA}),
    (
        RESPONSES_FLAGS,
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": DATA}]},
    ),
    (RESPONSES_FLAGS, {"type": "image_generation_call", "id": "i", "result": IMAGE}),
    (RESPONSES_FLAGS, {"type": "input_file", "filename": "a.pdf", "file_data": PDF[:6000]}),
    (GEMINI_FLAGS, {"inlineData": {"mimeType": "image/png", "data": IMAGE}}),
    (GEMINI_FLAGS, {"inline_data": {"mime_type": "image/png", "data": IMAGE}}),
    (
        GEMINI_FLAGS,
        {"functionResponse": {"name": "f", "parts": [{"inlineData": {"mimeType": "image/png", "data": IMAGE}}]}},
    ),
]
MEDIA = [(flag, part) for flags, part in MEDIA for flag in flags]
TURNS = {"openai_responses": ("input", "content"), "gemini_generate_content": ("contents", "parts")}
"""Names of two fields, by compatibility flag: the field of a request that has its turns, and the field of a turn that
has its content.

The flags that are not listed have `messages` and `content`.
"""


@pytest.mark.parametrize(("flag", "part"), MEDIA)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_medium_in_content_is_a_constant_in_every_dialect(flag, part, separators):
    turns, content = TURNS.get(flag, ("messages", "content"))
    data = json.dumps({turns: [{"role": "user", content: [part]}]}, separators=separators).encode()
    size = measure(data, flag)
    most = 100_000 if "pdf" in json.dumps(part) else IMAGE_TOKENS
    assert IMAGE_TOKENS <= size.usual <= IMAGE_TOKENS + 150
    assert most <= size.most <= most + 400


@pytest.mark.parametrize(
    ("flag", "part"),
    [
        ("anthropic_messages", MESSAGES_IMAGE),
        ("bedrock_converse", CONVERSE_IMAGE),
        ("openai_chat", {"type": "image_url", "image_url": {"url": DATA}}),
    ],
)
def test_a_name_with_escapes_counts_as_it_is_decoded(flag, part):
    data = json.dumps({"messages": [{"role": "user", "content": [part]}]})
    for name in ("messages", "content", "source", "image_url", "data", "bytes"):
        escaped = data.replace(f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"').encode()
        assert measure(escaped, flag).usual <= IMAGE_TOKENS + 150


TEXT = "A1" * 5_000
PLACES = [
    {"role": "user", "content": f"data:image/png;base64,{TEXT}"},
    {"role": "user", "content": [{"type": "text", "text": f"data:image/png;base64,{TEXT}"}]},
    {"role": "user", "content": [{"text": f";base64,{TEXT}"}]},
    {"role": "user", "content": [{"type": "text", "text": "x", "source": {"type": "base64", "data": TEXT}}]},
    {"role": "user", "content": [{"type": "text", "text": "x", "image_url": {"url": f"data:image/png;base64,{TEXT}"}}]},
    {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": TEXT}}]},
    {"role": "user", "content": [{"document": {"format": "txt", "source": {"text": TEXT}}}]},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"image": MESSAGES_IMAGE}}],
    },
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": [MESSAGES_IMAGE]}]},
    {"role": "assistant", "content": [{"toolUse": {"input": CONVERSE_IMAGE}}]},
    {"role": "user", "content": [{"toolResult": {"content": [{"json": CONVERSE_IMAGE}]}}]},
    {"role": "user", "content": [{"toolResult": {"content": [{"json": [CONVERSE_IMAGE]}]}}]},
    {"role": "assistant", "tool_calls": [{"function": {"arguments": json.dumps({"data": TEXT})}}]},
    {"type": "function_call", "arguments": TEXT},
    {"type": "function_call_output", "output": f"data:image/png;base64,{TEXT}"},
    {"type": "reasoning", "encrypted_content": TEXT},
]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("turn", PLACES)
def test_base64_where_a_dialect_has_text_counts_as_text(turn, flag):
    data = json.dumps({TURNS.get(flag, ("messages",))[0]: [turn]}).encode()
    assert measure(data, flag).usual == len(data) // 3
    assert measure(data, flag).most >= len(TEXT)


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"name": "n", "input_schema": {"default": MESSAGES_IMAGE, "examples": [MESSAGES_IMAGE]}}]},
        {"toolConfig": {"tools": [{"toolSpec": {"inputSchema": {"json": {"enum": [CONVERSE_IMAGE]}}}}]}},
        {"response_format": {"json_schema": {"schema": {"messages": [MESSAGES_IMAGE]}}}},
        {"instructions": f"data:image/png;base64,{TEXT}"},
        {"prompt": {"variables": {"x": MESSAGES_IMAGE}}},
        {"additionalModelRequestFields": {"messages": [MESSAGES_IMAGE]}},
        {"messages": f"data:image/png;base64,{TEXT}"},
        {"data": IMAGE, "bytes": IMAGE, "url": DATA},
    ],
)
@pytest.mark.parametrize("flag", FLAGS)
def test_base64_outside_of_turns_counts_as_text(members, flag):
    data = json.dumps(members).encode()
    assert measure(data, flag).usual == len(data) // 3


FILLING = "".join(map(chr, range(0x4E00, 0x4E00 + 4_000)))
DENSE = {
    # bytes for each token in OpenAI's o200k and cl100k and in Anthropic's published tokenizer, the lowest of the three
    "words": ("some words of a usual text and more of them " * 100, 3.5),
    "random letters": ("qzxjvkwbypghfmculdrhsnioate" * 200, 1.6),
    "capitals": ("QZXJVKWBYPGHFMCULDRHSNIOATE" * 200, 1.69),
    "base64": (IMAGE, 1.37),
    "digits": ("0123456789" * 500, 2.38),
    "hexadecimal": ("0f3a9c" * 900, 1.72),
    "Chinese": (FILLING, 1.29),
    "Korean": ("".join(map(chr, range(0xAC00, 0xAC00 + 4_000))), 1.16),
    "emoji": ("".join(map(chr, range(0x1F300, 0x1F300 + 700))), 1.38),
    "Amharic": ("".join(map(chr, range(0x1200, 0x1200 + 300))), 1.0),
    "signs": ("!#$%&()*+,-./:;<=>?@[]^_`{|}~" * 200, 1.46),
    "white space": ("\n \t" * 2_000, 1.5),
}


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("name", DENSE)
def test_a_reservation_is_enough_for_text_of_any_density(name, ascii_only):
    text, bytes_a_token = DENSE[name]
    data = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only).encode()
    assert measure(data).most >= len(text.encode()) / bytes_a_token
    assert measure(data).most <= len(data)


def test_images_do_not_make_the_text_beside_them_look_less_dense():
    text = "0123456789" * 1_000
    content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:" + "a" * 60_000}}]
    assert measure(body(content), "openai_chat").most >= len(text) + IMAGE_TOKENS


@pytest.mark.parametrize(
    ("part", "usual", "most"),
    [
        # an image of 15 MB has the tokens of the largest image
        ({"image": {"format": "png", "source": {"bytes": "A" * 20_000_000}}}, 5_000, 5_000),
        # 2 MB of PDF, and the pages of the longest PDF
        ({"document": {"format": "pdf", "source": {"bytes": "A" * 2_000_000}}}, 37_500, 600_000),
        # 17 KB of PDF once had 28,000 tokens
        ({"document": {"format": "pdf", "source": {"bytes": "A" * 22_000}}}, 5_000, 100_000),
        ({"document": {"format": "docx", "source": {"bytes": "A" * 200_000}}}, 5_000, 300_000),
        # text that is sent as a file
        ({"document": {"format": "txt", "source": {"bytes": "A" * 80_000}}}, 15_000, 60_000),
        ({"document": {"format": "csv", "source": {"bytes": "A" * 80_000}}}, 15_000, 60_000),
        (
            {"type": "file", "file": {"filename": "a.md", "file_data": "data:text/markdown;base64," + "A" * 80_000}},
            15_004,
            60_020,
        ),
        ({"video": {"format": "mp4", "source": {"bytes": "A" * 4_000_000}}}, 6_000, 300_000),
        # files that are only named
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, 5_000, 5_000),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, 5_000, 5_000),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, 100_000, 100_000),
        ({"document": {"format": "pdf", "source": {"s3Location": {"uri": "s3://x/y"}}}}, 100_000, 100_000),
        ({"type": "input_file", "file_url": "https://x/y.pdf"}, 100_000, 100_000),
    ],
)
def test_a_file_is_estimated_by_its_kind_and_size(part, usual, most):
    flag = (
        "anthropic_messages" if "source" in part else "bedrock_converse" if "type" not in part else "openai_responses"
    )
    size = measure(body([part]), flag)
    assert usual <= size.usual <= usual + 100
    assert most <= size.most <= most + 250


def test_a_conversation_that_the_provider_has_stored_is_not_free():
    data = json.dumps({"model": "m", "input": "go on", "previous_response_id": "resp_1"}).encode()
    assert measure(data, "openai_responses").most > REMOTE_DOCUMENT_TOKENS


@pytest.mark.parametrize("name", ["fileData", "file_data"])
@pytest.mark.parametrize(("mime", "most"), [("image/png", IMAGE_TOKENS), ("application/pdf", REMOTE_DOCUMENT_TOKENS)])
def test_a_file_that_gemini_has_stored_is_not_free(name, mime, most):
    data = json.dumps({"contents": [{"parts": [{name: {"mimeType": mime, "fileUri": "https://x/files/1"}}]}]}).encode()
    assert most <= measure(data, "gemini_generate_content").most <= most + 200


@pytest.mark.parametrize(
    ("flag", "members", "searches", "fees"),
    [
        ("anthropic_messages", {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, 3, 0),
        ("anthropic_messages", {"tools": [{"type": "web_search_20260209", "name": "web_search"}]}, 10, 0),
        ("anthropic_messages", {"tools": [{"type": "web_search_20250305", "max_uses": -1}]}, 10, 0),
        ("bedrock_model_invoke", {"tools": [{"type": "web_search_20250305", "max_uses": 2}, {"type": "custom"}]}, 2, 0),
        ("anthropic_messages", {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch", "max_uses": 3}]}, 0, 0),
        ("openai_responses", {"tools": [{"type": "web_search"}]}, 10, 0),
        ("openai_responses", {"tools": [{"type": "web_search_preview"}], "max_tool_calls": 4}, 4, 0),
        ("openai_chat", {"web_search_options": {}}, 1, 0),
        ("gemini_generate_content", {"tools": [{"googleSearch": {}}]}, 10, 0),
        ("gemini_generate_content", {"tools": [{"functionDeclarations": [], "google_search": {}}]}, 10, 0),
        ("bedrock_converse", {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}, 10, 0),
        ("bedrock_model_invoke", {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}, 10, 0),
        ("bedrock_converse", {"additionalModelRequestFields": {"tools": [{"type": "web_search_20250305", "max_uses": 1}]}}, 1, 0),
        ("openai_responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, 0, 30_000_000),
        ("openai_responses", {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}], "max_tool_calls": 2}, 0, 5_000_000),
        ("openai_chat", {"tools": [{"type": "function", "function": {"name": "web_search"}}]}, 0, 0),
        ("anthropic_messages", {"tools": [{"name": "web_search", "input_schema": {}}]}, 0, 0),
        *((flag, {"tools": "web_search"}, 0, 0) for flag in FLAGS),
    ],
)  # fmt: skip
def test_tools_that_the_provider_runs_reserve_their_fees(flag, members, searches, fees):
    size = measure(json.dumps({"model": "m", **members}).encode(), flag)
    assert (size.searches, size.fees) == (searches, fees)
    assert size.most >= searches * 10_000


@pytest.mark.parametrize("flag", [None, *FLAGS])
def test_the_instructions_about_tools_are_tokens_too(flag):
    tools = [{"name": "n", "input_schema": {}}]
    bodies = [{"tools": some} for some in (tools, [])]
    if flag == "bedrock_converse":
        bodies = [{"toolConfig": body} for body in bodies]
    with_tools, without = (measure(json.dumps(body).encode(), flag) for body in bodies)
    assert with_tools.most >= without.most + 1_000


def test_a_search_costs_its_price_or_else_the_highest_one():
    found = Estimate(10, 5, searches=3, fees=7)
    assert found.cost(Price(1, 1, 1)) == 15 + 3 * 35_000_000 + 7
    assert found.cost(Price(1, 1, 1, search=10_000_000_000_000)) == 15 + 3 * 10_000_000 + 7


@pytest.mark.parametrize(
    "escaped", ["cache\\u005fcontrol", "\\u0063ache_control", "cache_contro\\u006C", "cach\\u0065Point"]
)
def test_an_escape_in_a_name_hides_no_cache_and_no_tier(escaped):
    size = measure(b'{"settings": [{"%s": {"type": "ephemeral"}}]}' % escaped.encode())
    assert (size.caches, size.tiered) == (True, True)


@pytest.mark.parametrize("text", ["<a> & b", "caf\u00e9", "\u2028", "\u4e2d", 'a\\"b'])
def test_escapes_that_clients_write_mean_nothing(text):
    data = json.dumps({"x": text}).replace("<", "\\u003c").replace("&", "\\u0026").encode()
    assert (measure(data).caches, measure(data).tiered) == (False, False)


@pytest.mark.parametrize(
    ("before", "repeated", "times", "after"),
    [
        (b'{"messages": [', b'{"type":"image_url","image_url":{"url":"x"}},', 700_000, b"{}]}"),
        (b'{"messages": "', b"A", 31_000_000, b'"}'),
        (b'{"messages": [', b"[],", 10_000_000, b"[]]}"),
        (b"", b'"data"', 400_000, b""),
    ],
)
def test_a_body_at_the_limit_is_estimated_on_the_loop_in_a_moment(before, repeated, times, after):
    data = before + repeated * times + after
    assert input_tokens(data, common_parts) > 0
    assert cpu_units(lambda: input_tokens(data, common_parts), enough=400) < 400


def request_of(flag, path, **members):
    plugin = FLAGS[flag]
    route = next(route for route in plugin.routes if route.path == path)
    data = json.dumps({"model": "m", **members}).encode()
    return plugin, plugin.parse(HttpRequest(route, path, "", {}, {"model": "m"}, data))


CHAT = ("openai_chat", "/v1/chat/completions")
MESSAGES = ("anthropic_messages", "/v1/messages")
INVOKE = ("bedrock_model_invoke", "/bedrock/model/{model:.+}/invoke")
CONVERSE = ("bedrock_converse", "/bedrock/model/{model:.+}/converse")


@pytest.mark.parametrize(
    ("where", "members"),
    [
        (CHAT, {"max_tokens": 77}),
        (CHAT, {"max_completion_tokens": 77}),
        (CHAT, {"max_tokens": 11, "n": 7}),
        (CHAT, {"max_tokens": 77, "n": -1}),
        (MESSAGES, {"max_tokens": 77}),
        (INVOKE, {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 77}),
        (INVOKE, {"inferenceConfig": {"maxTokens": 77}}),
        (INVOKE, {"inferenceConfig": {"max_new_tokens": 77}}),
        (INVOKE, {"textGenerationConfig": {"maxTokenCount": 77}}),
        (INVOKE, {"max_gen_len": 77}),
        (INVOKE, {"maxTokens": 77}),
        (CONVERSE, {"inferenceConfig": {"maxTokens": 77}}),
    ],
)
def test_every_flag_finds_the_clients_own_limit(where, members):
    plugin, ask = request_of(*where, **members)
    assert plugin.limit(ask) == 77


@pytest.mark.parametrize("where", [CHAT, MESSAGES, INVOKE, CONVERSE])
@pytest.mark.parametrize(
    "members", [{}, {"max_tokens": "many"}, {"max_tokens": True}, {"inferenceConfig": [1]}, {"inferenceConfig": {}}]
)
def test_what_is_no_number_is_no_limit(where, members):
    plugin, ask = request_of(*where, **members)
    assert plugin.limit(ask) is None


@pytest.mark.parametrize(
    ("limit", "expected"), [(77, 77), (None, 128_000), (0, 128_000), (-5, 128_000), (10**12, MAX_OUTPUT)]
)
def test_the_output_is_what_the_client_allows_or_else_what_the_model_can(limit, expected):
    _, ask = request_of(*CHAT)
    assert estimate(ask, limit, [100, 128_000]).output == expected


def test_a_call_without_a_limit_holds_more_than_a_demanded_limit():
    """Check that a call without an output limit reserves `UNLIMITED` output tokens.

    This is more than the limit that the gateway sends to a provider that demands one.
    """
    _, ask = request_of(*CHAT)
    assert estimate(ask, None, [4096]).output == UNLIMITED


@pytest.mark.parametrize(("limit", "held"), [(None, 4096), (50_000, 50_000)])
def test_a_rate_holds_the_clients_limit_or_the_models(limit, held):
    """Check how many output tokens are reserved in a rate limit: the client's output limit, or the model's typical
    output if the client sets no limit.
    """
    _, ask = request_of(*CHAT)
    amounts = estimate(ask, limit, [4096])
    assert amounts.tokens == amounts.probable_input + held


@pytest.mark.parametrize(
    ("where", "members", "expected"),
    [
        (CHAT, {"max_completion_tokens": 1, "max_tokens": 900}, 900),
        (CHAT, {"max_output_tokens": 1}, None),
        (CHAT, {"n": 3}, 3 * UNLIMITED),
        (CHAT, {"n": 3.0}, 3 * UNLIMITED),
        (CHAT, {"n": "3"}, 3 * UNLIMITED),
        (CHAT, {"n": 3, "max_tokens": -1}, 3 * UNLIMITED),
        (MESSAGES, {"max_completion_tokens": 900, "max_tokens": 1}, 1),
        (INVOKE, {"max_tokens": 1, "inferenceConfig": {"max_new_tokens": 900}}, 900),
        (CONVERSE, {"inferenceConfig": {"maxTokens": 1}, "additionalModelRequestFields": {"max_tokens": 900}}, 900),
    ],
)
def test_of_several_limits_the_one_counts_that_the_provider_might_go_by(where, members, expected):
    plugin, ask = request_of(*where, **members)
    assert plugin.limit(ask) == expected


@pytest.mark.parametrize("asks", [{"service_tier": "priority"}, {"speed": "fast"}, {"serviceTier": {"type": "flex"}}])
def test_a_tier_that_is_asked_for_holds_what_the_dearest_costs(asks):
    _, ask = request_of(*MESSAGES, **asks)
    held = estimate(ask, 10, [])
    assert held.cost(Price(1, 2, 1)) == 7 * (held.input + 20)


class Price:
    """Prices of a model in nanodollars per token: of input, of output and of a cache write.

    The most expensive service tier costs seven times as much.
    """

    def __init__(self, *units, search=None):
        self.units, self.search = units, search

    def unit(self, kind):
        return {"web_search": self.search, "cache_write_5m": 10**6, "cache_write_1h": 10**6}.get(kind)

    def cost(self, usage):
        if None in self.units:
            return None
        written = usage.cache_write_5m + 2 * usage.cache_write_1h
        return usage.input * self.units[0] + usage.output * self.units[1] + written * self.units[2]

    def highest_cost(self, usage):
        return 7 * self.cost(usage)


def test_the_cost_depends_on_the_prices_of_the_model():
    costs = [Estimate(10, 5).cost(price) for price in (Price(1, 2, 1), Price(3, 1, 3), Price(None))]
    assert costs == [20, 35, 0]


def test_thinking_counts_where_it_is_dearer_than_other_output():
    rates = parse_row({"book": "google", "model": "m", "input": "1", "output": "2", "reasoning": "5"}).rates
    assert Estimate(10, 4).cost(Priced("m", ((0.0, rates),))) == 10 * 1_000 + 4 * 5_000


def test_a_model_that_writes_every_prompt_to_a_cache_costs_what_that_costs():
    rates = parse_row({"book": "openai", "model": "m", "input": "4", "output": "2", "cache_write_5m": "5"}).rates
    assert Estimate(10, 4).cost(Priced("m", ((0.0, rates),))) == 10 * 5_000 + 4 * 2_000


@pytest.mark.parametrize(("answers", "output"), [(1, 10**6), (3, 3 * 10**6), (10**9, 128 * 10**6), (-4, 10**6)])
def test_every_answer_may_be_as_long_as_the_longest(answers, output):
    _, ask = request_of(*CHAT, n=answers)
    assert estimate(ask, 10**12, []).output == output


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.text(max_size=8)
    | st.sampled_from([DATA, "image", "base64"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
def test_no_body_is_too_odd_to_be_measured(members):
    data = json.dumps(members).encode()
    for flag in (None, *FLAGS):
        size = measure(data, flag)
        assert min(size.usual, size.most) >= 1
        assert min(size.searches, size.fees) >= 0
        assert 1 <= size.answers <= 128


def test_a_body_that_may_be_written_to_a_cache_costs_what_that_costs():
    _, ask = request_of(*MESSAGES, system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])
    held = estimate(ask, 1, [])
    assert held.caches
    assert held.cost(Price(1, 1, 1)) == 2 * held.input + 1


def test_a_huge_number_of_calls_costs_what_the_journal_can_have():
    searches = {"tools": [{"type": "file_search"}], "max_tool_calls": 2**63 - 1}
    rates = parse_row({"book": "openai", "model": "m", "input": "4", "output": "2"}).rates
    size = measure(json.dumps({"input": "hi", **searches}).encode(), "openai_responses")
    cost = Estimate(1, 1, fees=size.fees).cost(Priced("m", ((0.0, rates),)))
    assert msgspec.convert(cost, Small) == cost


def reported(**usage):
    return Facts((Part(usage=Usage(**usage)),), reported=True)


@pytest.mark.parametrize(
    ("facts", "seconds", "expected"),
    [
        (None, 0.0, Usage(input=30, output=1)),
        (Facts(), 1.0, Usage(input=30, output=100)),
        (Facts(), 3600.0, Usage(input=30, output=500)),
        (reported(input=9, output=1), 2.0, Usage(input=9, output=200)),
        (reported(input=9, output=900), 2.0, Usage(input=9, output=900)),
        (reported(input=9, cache_read=50), 0.0, Usage(input=9, output=1, cache_read=50)),
    ],
)
def test_a_cut_calls_probable_use_is_the_report_and_text_since(facts, seconds, expected):
    """Check the probable usage of an interrupted call.

    The input is the reported number, or the estimate if nothing was reported. The output is the number of tokens that a
    model can write in the call's seconds, but at most half of the estimate, and at least the reported number.
    """
    assert probable(facts, Estimate(30, 1000), seconds) == expected


def test_what_was_reported_is_not_changed_by_an_estimate():
    facts = reported(input=9)
    probable(facts, Estimate(30, 1000), 10.0)
    assert facts.usage == Usage(input=9)


def test_tokens_that_were_read_from_a_cache_do_not_count_towards_a_rate():
    assert rate_limited_tokens(Usage(1, 2, 1000, 4, 8, 2)) == 15
