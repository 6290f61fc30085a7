"""Tests of the range of a citation in a stream, if the citation comes before the text that it supports.

Claude's streams have this order. Source: recorded streams of Claude's web search (vercel/ai,
`anthropic-web-search-tool`).
"""

import pytest

from tests.helpers.conversion import BASES, CONVERSIONS, encoded
from tests.helpers.fold import fold

URL = "https://a.example"
USAGE = {"input_tokens": 3, "output_tokens": 2}
CITATION = {
    "type": "web_search_result_location", "url": URL, "title": "A", "cited_text": "q", "encrypted_index": "e",
}  # fmt: skip


def started(index, **block):
    return "content_block_start", {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, **inner):
    return "content_block_delta", {"type": "content_block_delta", "index": index, "delta": inner}


def said(index, text):
    return delta(index, type="text_delta", text=text)


def stopped(index):
    return "content_block_stop", {"type": "content_block_stop", "index": index}


def cited(index):
    return delta(index, type="citations_delta", citation=CITATION)


MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": USAGE}
OF_CLAUDE = [
    ("message_start", {"type": "message_start", "message": MESSAGE}),
    started(0, type="text", text=""), said(0, "It is "), stopped(0),
    started(1, type="text", text="", citations=[]), cited(1), said(1, "grün"), said(1, "."), stopped(1),
    started(2, type="text", text=""), said(2, " So"), stopped(2),
    ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}),
    ("message_stop", {"type": "message_stop"}),
]  # fmt: skip
OF_CONVERSE = [
    ("messageStart", {"role": "assistant"}),
    *[
        ("contentBlockDelta", {"contentBlockIndex": index, "delta": inner})
        for index, inner in (
            (0, {"text": "It is "}),
            (1, {"citation": {"title": "A", "location": {"web": {"url": URL}}}}),
            (1, {"text": "grün."}),
            (2, {"text": " So"}),
        )
    ],
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 1}}),
]
STREAMS = {"anthropic_messages": OF_CLAUDE, "bedrock_converse": OF_CONVERSE}


@pytest.mark.parametrize("upstream", STREAMS)
@pytest.mark.parametrize("client", ["openai_chat", "gemini_generate_content"])
def test_a_citation_before_its_text_has_the_texts_range(client, upstream):
    """Check that the range of a citation before its text is the range of the whole text block.

    Chat's positions are in characters, Gemini's in bytes.
    """
    conversion = CONVERSIONS[f"{client}__{upstream}"]
    passed = conversion.call(BASES[client], stream=True)
    body = fold(client, passed.events(encoded(conversion.provider, upstream, STREAMS[upstream])))
    if client == "openai_chat":
        (annotation,) = body["choices"][0]["message"]["annotations"]
        place = [annotation["url_citation"][name] for name in ("start_index", "end_index")]
    else:
        (source,) = body["candidates"][0]["citationMetadata"]["citationSources"]
        place = [source[name] for name in ("startIndex", "endIndex")]
    assert place == [6, 11 if client == "openai_chat" else 12]
