"""The order of the reference for plugin authors, and the texts that introduce its chapters.

Everything else on the page comes from the source (`reference_page.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.contract.errors import STATUS


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a chapter, which explains names of one module."""

    title: str
    module: str
    only: tuple[str, ...] = ()
    """The names that the part explains. If it is empty, the part explains all public names of the module, except those
    in `only` of another part.
    """
    head: bool = False
    """Whether the docstring of the module introduces the part."""
    prefix: str = ""
    """The module that the page shows before the names of this part's classes.

    It is "" unless other modules have classes of the same names.
    """
    imported: str = ""
    """The module from which plugins import the names. It is "" if this is `module`."""


@dataclass(frozen=True, slots=True)
class Chapter:
    title: str
    text: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a call, in which hooks of plugins are called."""

    hook: str
    """The name of the hook as the page shows it, such as `Flag.parse`."""
    whose: str
    """The plugin whose hook is called in this step."""
    when: str


HEAD: Final = """\
# Reference for authors of plugins

<!-- Written by `python -m tests.tools.reference_page` from the source; a change made here is lost. -->

All names that a plugin may use, with their types and an example each. [README.md](README.md) says how to write a
plugin. [`examples/`](examples/guard.py) has whole plugins. The examples here are run by a test.
"""
VALUES: Final = """\
## Values in the examples

The examples use these imports and values.
"""
STEPS: Final = {
    "The request": (
        Step("Flag.parse", "client's flag", "The request has arrived."),
        Step("Flag.session_ids", "client's flag", "The headers name no session."),
        Step("Flag.opening", "client's flag", "The client has named no session."),
        Step("Flag.dialect_for", "provider's flag", "It is the caller's first call for the model since a reload."),
        Step("FilterModule.open", "filters", "The caller may use the model. The filters are opened in their order."),
        Step("Filter.request", "filters", "All filters are open. Nothing is charged or sent yet."),
        Step("Filter.headers", "filters", "No filter has blocked or answered the call."),
        Step("Flag.limit", "client's flag", "The largest cost of the call is estimated."),
        Step("Flag.steps", "client's flag", "The quotas have room for the call."),
        Step("Translator.open", "translator", "Client and provider have different dialects."),
        Step(
            "Flag.steps",
            "provider's flag",
            "The request has the provider's dialect. If both flags are the same, the steps run once.",
        ),
        Step(
            "Flag.mark_cache",
            "provider's flag",
            "The provider has `auto_cache`, and the call is not the first one of its session.",
        ),
        Step("Flag.build", "provider's flag", "The request is sent."),
    ),
    "A whole reply": (
        Step("Flag.meter", "provider's flag", "The head of the reply has come."),
        Step("Flag.problem", "provider's flag", "The body has come."),
        Step(
            "Flag.retry",
            "provider's flag",
            "The request has failed. After a changed request, this goes on with `build`.",
        ),
        Step("Flag.advice", "provider's flag", "The provider has refused the request, and it is not sent again."),
        Step("Meter.whole", "provider's flag", "The reply is no error."),
        Step("Flag.decoder", "provider's flag", "At once."),
        Step("Decoder.whole", "provider's flag", "At once."),
        Step("Translation.whole", "translator", "At once."),
        Step("Filter.text", "filters", "Each text of the reply."),
        Step("Filter.replied", "filters", "All texts are filtered."),
        Step("Meter.facts", "provider's flag", "The call is charged."),
        Step("Flag.encoder", "client's flag", "The client does not get the provider's bytes."),
        Step("Encoder.whole", "client's flag", "At once."),
        Step("Flag.reply_headers", "client's flag", "The reply is sent."),
    ),
    "A stream": (
        Step("Flag.meter", "provider's flag", "The head of the reply has come."),
        Step("Flag.stream_type", "provider's flag", "At once."),
        Step("Flag.decoder", "provider's flag", "At once."),
        Step("Decoder.feed", "provider's flag", "A chunk has come."),
        Step("Meter.feed", "provider's flag", "Each event of the chunk."),
        Step("Flag.output_bytes", "provider's flag", "Each event of the chunk."),
        Step("Translation.feed", "translator", "Each event of the chunk."),
        Step("Filter.text", "filters", "Each text of the events, after translation."),
        Step("Flag.encoder", "client's flag", "The first events have come."),
        Step("Encoder.ping", "client's flag", "At once, for the time when the stream is idle."),
        Step("Flag.stream_type", "client's flag", "The client does not get the provider's bytes."),
        Step("Flag.reply_headers", "client's flag", "The head of the reply is sent."),
        Step("Encoder.feed", "client's flag", "Each event that the gateway made or changed."),
        Step("Decoder.close", "provider's flag", "The stream has ended."),
        Step("Translation.close", "translator", "The stream has ended."),
        Step("Filter.replied", "filters", "The stream is complete."),
        Step("Meter.facts", "provider's flag", "The call is charged. Also for a stream that broke off."),
        Step("Encoder.close", "client's flag", "The stream has ended without an error."),
    ),
    "After the call": (
        Step("Filter.done", "filters", "The record is made, however the call ended."),
        Step("Observer.seen", "observers", "The record is made, however the call ended."),
    ),
}
"""The hooks of a call, in the order of their first calls. A test compares the order with that of real calls."""
CALLED: Final = (
    "A compatibility flag is the plugin of one API format. A call has two: the flag of the client's route, and the flag of "
    "the chosen provider. They are often the same. Then no translator is needed. The tables have the hooks in the order of "
    "their first use."
)
RULES: Final = (
    (
        "**Errors of a call.** [`Flag.error`](#flagerror) of the client's flag writes an error reply. Within a stream, "
        "[`Encoder.fail`](#encoderfail) writes the error. [`Encoder.ping`](#encoderping) keeps an idle stream open."
    ),
    (
        "**Event loop.** A hook runs on the event loop, unless one of the next two rules names it. All other calls wait "
        "until the hook returns. A hook that takes over 100 ms is logged (`plugin.slow`)."
    ),
    (
        "**Worker processes.** With a large request, reply or event, these hooks run in a worker process: `parse`, "
        "`mark_cache`, `build`, `retry`, `problem` and `places` of a flag, `open` of a translator, the function of a "
        "[`Work`](#work), and the methods of decoders, meters, encoders and translations. Such an object is copied by "
        "pickle. If it cannot be pickled, the hook runs on the event loop."
    ),
    (
        "**Threads.** Each observer has a thread of its own. A method of a filter that is not `async` runs in a thread if "
        "the request, the reply or the text is [large](guide.md#filters). The methods of one object never run at the "
        "same time. Methods for different calls may run at the same time, so shared state needs a lock."
    ),
    (
        "**Exceptions.** A hook may raise a [`GatewayError`](#gatewayerror), unless its entry says that it must raise "
        "nothing. A hook that reads the client's request raises [`Refused`](#refused), usually by "
        "[`errors.invalid`](#errorsinvalid). A hook that reads the provider's reply raises [`BadFrame`](#badframe). Any other "
        "exception, and a result of a wrong type, is a failure of the plugin: the call ends with an error, and the log names "
        "the plugin, the hook, the file and the line (`plugin.failed`)."
    ),
    "**Arguments** are passed by position.",
    "**Async.** Only `open` and the methods of filters may be `async`.",
)
CHAPTERS: Final = (
    Chapter(
        "A flag",
        "A compatibility flag is a module with these members. The optional ones have defaults, which fit a plain JSON API "
        "with server-sent events.",
        (
            Part("Members of a flag", "flag", ("Flag",)),
            Part("Objects for one reply", "codecs", imported="flag"),
            Part("Requests and replies", "messages", imported="flag"),
            Part("Tokens and other facts", "facts", imported="flag"),
            Part("Places of text", "places", ("REQUEST", "REPLY", "Kind", "Places", "Place", "End", "Copy"), head=True),
            Part(
                "Lists of models",
                "model_lists",
                ("ModelList", "ListedModel", "ModelSearch", "ModelPages", "DiscoveredModel"),
                imported="flag",
            ),
            Part("Clients", "client_api", ("ClientApi",), imported="flag"),
            Part("Members of a body", "members", imported="flag", head=True),
            Part("Capabilities of a model", "capabilities", ("Caps",), head=True, imported="flag"),
            Part("Options and settings", "settings", imported="flag"),
            Part("Samples", "samples", ("Sample",)),
            Part("Constants", "flag"),
        ),
    ),
    Chapter(
        "A translator",
        "A translator is a module named `<client dialect>__<provider dialect>` with these members.",
        (Part("Members of a translator", "translator", imported="flag"),),
    ),
    Chapter(
        "A filter",
        "A filter is a module with these members. Its settings are a class below [`Settings`](#settings).",
        (
            Part("Members of a filter", "filter", ("FilterModule",), head=True),
            Part("The object of one call", "filter", ("Filter",)),
            Part("Values of filters", "filter_values", imported="filter"),
            Part("Texts of a request", "places", ("Text",), imported="filter"),
            Part("Functions and constants for filters", "filter"),
            Part("Samples of a filter", "samples"),
        ),
    ),
    Chapter(
        "An observer",
        "An observer is a module with these members. [vocabulary.md](../deploy/vocabulary.md) lists the words of a record.",
        (Part("Members of an observer", "observer", imported="flag"),),
    ),
    Chapter(
        "Errors",
        "An exception carries a [`Problem`](#problem), from which the client's flag writes the error reply.",
        (
            Part("Problems and exceptions", "errors", head=True),
            Part("Codes of problems", "errors", (*map(str.upper, STATUS), "STATUS")),
        ),
    ),
    Chapter(
        "Helpers",
        "Modules that plugins of every kind may use.",
        (
            Part("JSON bodies", "json_api", head=True),
            Part("Streams of server-sent events", "sse_api"),
            Part("Streams of a JSON array", "array_api"),
            Part("Frames of server-sent events", "framing.sse", prefix="framing.sse", head=True),
            Part("Frames of a JSON array", "framing.json_array", prefix="framing.json_array", head=True),
            Part("Frames of an AWS event stream", "framing.eventstream", prefix="framing.eventstream", head=True),
            Part("Texts in bodies", "places"),
            Part("Openings of chats", "openings", head=True),
            Part("Ids of sessions", "session_ids", head=True),
            Part("Files in requests", "billing", head=True),
            Part("The common list of models", "model_lists"),
            Part("Errors of providers", "provider_errors", head=True),
            Part("JSON with incomplete characters", "lenient_json", head=True),
            Part("Names of models", "capabilities"),
            Part("Patterns", "globs", head=True),
            Part("Wrong base URLs", "client_api"),
            Part("Domains of AWS", "aws_domains", head=True),
        ),
    ),
    Chapter(
        "Test tools",
        "The pytest plugin `irisgate` comes with the package, and needs `pip install 'irisgate[testkit]'` and no setting. "
        "In these examples the fixtures are arguments of the test, and `EXAMPLES` is the folder of the examples. A test that "
        "awaits needs a plugin such as pytest-asyncio.",
        (
            Part(
                "Fixtures",
                "gateway.pytest_plugin",
                ("irisgate_upstream", "irisgate_gateway", "irisgate_chunkings", "irisgate_check", "irisgate_golden"),
            ),
            Part("A gateway in a test", "gateway.pytest_plugin.running", ("RunningGateway", "Reply"), prefix="running"),
            Part("Simulated providers", "gateway.testkit.simulator", ("Simulator", "Seen", "Refusal")),
            Part("A simulated prompt cache", "gateway.testkit.prompt_cache", ("PromptCache", "blocks")),
            Part(
                "Replies of simulated providers",
                "gateway.testkit.scenarios",
                (
                    "Canned",
                    "Gate",
                    "NAMED",
                    "Raw",
                    "Scenario",
                    "Tokens",
                    "Tool",
                    "cut",
                    "error",
                    "error_in_stream",
                    "raw",
                    "text",
                    "thinking",
                    "tools",
                ),
            ),
        ),
    ),
)
