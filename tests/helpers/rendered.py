"""A predefined reply in the dialect of a provider, as the simulated providers send it."""

from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.render import chat as render_chat
from gateway.testkit.render import converse as render_converse
from gateway.testkit.render import gemini as render_gemini
from gateway.testkit.render import responses as render_responses

INPUT_TOKENS = 9


def rendered(dialect, canned, model="m"):
    """Return a predefined reply as events, each (event type, data), and as an unstreamed body."""
    if dialect == "openai_chat":
        chunks = render_chat.chunks(canned, model, INPUT_TOKENS, include_usage=True)
        return [("chat.completion.chunk", chunk) for chunk in chunks], render_chat.completion(
            canned, model, INPUT_TOKENS
        )
    if dialect == "bedrock_converse":
        return render_converse.events(canned, INPUT_TOKENS), render_converse.whole(canned, INPUT_TOKENS)
    if dialect == "gemini_generate_content":
        chunks = render_gemini.chunks(canned, model, INPUT_TOKENS)
        return [("chunk", chunk) for chunk in chunks], render_gemini.response(canned, model, INPUT_TOKENS)
    if dialect == "openai_responses":
        events, whole = render_responses.events, render_responses.response
    else:
        events, whole = render_anthropic.events, render_anthropic.message
    typed = [(event["type"], event) for event in events(canned, model, INPUT_TOKENS)]
    return typed, whole(canned, model, INPUT_TOKENS)
