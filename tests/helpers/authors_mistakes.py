"""Mistakes that authors of plugins make, each with the message that names it.

`LOAD` has the mistakes that are found when the gateway starts, and `RUN` those that are found when a hook is called.
`tests/contract/test_authors_mistakes.py` makes each of them, and `plugins/mistakes.md` lists them.
"""

from typing import NamedTuple

FLAG = '''"""Acme's text API."""

from gateway.contract.flag import Facts, Route, UpstreamRequest

api = 1
dialects = ("acme_text",)
routes = (Route("POST", "/acme/v1/text", "generate"),)


def build(request, target, drop):
    return UpstreamRequest("POST", "/v1/text", request.top.body)


class Meter:
    def feed(self, event):
        pass

    def whole(self, body):
        pass

    def facts(self):
        return Facts()


def meter(request, target, head):
    return Meter()
'''
TRANSLATOR = """api = 1
loses = 40
operations = ("generate",)


def open(request, target, drop):
    return None
"""
OBSERVER = """api = 1


def seen(record):
    pass
"""


LAST = len(FLAG.splitlines()) + 3
"""A line number in `acme.py`: the first line of the code that is appended to the correct plugin `FLAG`."""
FILTER = """api = 1


class Guard:
    def text(self, kind, piece, last):
        return piece


def open(call, settings):
    return Guard()
"""


class Mistake(NamedTuple):
    """A mistake that the author of a plugin makes, and the gateway's message about it.

    In the message, DIR stands for the folder of the plugin.
    """

    title: str
    message: str
    files: dict[str, str]
    hook: str = ""
    """The hook whose call shows the mistake, or "" if the mistake is already shown when the plugin is loaded."""


def flag(title, old, new, message):
    """Return a mistake in a file `acme.py`: a correct compatibility flag in which `new` replaces `old`."""
    assert old in FLAG
    return Mistake(title, message, {"acme.py": FLAG.replace(old, new)})


def more(title, code, message):
    """Return a mistake in a file `acme.py`: a correct compatibility flag, followed by more code."""
    return Mistake(title, message, {"acme.py": f"{FLAG}\n\n{code}"})


def run(title, hook, code, message, line=LAST):
    """Return a mistake that appears when the hook `hook` is called.

    The file `acme.py` is a correct plugin (`FLAG`), followed by `code`, which defines the hook. `line` is the line
    number in the gateway's message.
    """
    return Mistake(
        title, f"DIR/acme.py:{line}: plugin acme failed in {hook}: {message}", {"acme.py": f"{FLAG}\n\n{code}"}, hook
    )


def returning(title, hook, arguments, value, message):
    """Return a mistake in which the hook `hook` returns the wrong value `value`."""
    return run(title, hook, f"def {hook}({arguments}):\n    return {value}\n", message)


def billed(title, part, kind):
    """Return a mistake in which the hook `billed_parts` returns a part with a wrong number.

    `part` is the Python expression for this part, without the prefix `billing.`. `kind` is the name of the part in the
    gateway's message.
    """
    message = f"returned {kind}; {kind} with whole numbers from 0 to {2**53} is expected"
    code = f"from gateway.contract import billing\n\n\ndef billed_parts(body):\n    return [billing.{part}]\n"
    return run(title, "billed_parts", code, message, LAST + 3)


def guard(title, old, new, message):
    """Return a mistake in a file `acme.py`: a correct filter in which `new` replaces `old`. The mistake appears in the
    first call of the filter.
    """
    assert old in FILTER
    text = FILTER.replace(old, new)
    line = text[: text.index("def open")].count("\n") + 1
    shown = f"DIR/acme.py:{line}: plugin acme failed in filter.open: {message}"
    return Mistake(title, shown, {"acme.py": text}, "filter.open")


def translator(title, old, new, message, name="openai_chat__openai_responses.py"):
    assert old in TRANSLATOR
    return Mistake(title, message, {name: TRANSLATOR.replace(old, new)})


def file(title, name, text, message):
    return Mistake(title, message, {name: text})


NEEDS = (
    "a flag needs api, dialects, routes, build, meter; a translator needs api, operations, open; "
    "an observer needs api, seen; a filter needs api, open"
)
DIALECTS = 'write a tuple of names without "__": dialects = ("acme_text",)'
ROUTES = 'write a tuple of Route: routes = (Route("POST", "/acme/v1/text", "generate"),)'
BUILD = "write def build(request, target, drop)"

LOAD = (
    # files
    file("the folder has no plugin", "notes.txt", "", "DIR: has no plugin; a plugin is a file NAME.py or a folder with __init__.py"),
    file("the folder has helpers alone", "_acme.py", FLAG, "DIR: has no plugin; a plugin is a file NAME.py or a folder with __init__.py"),
    file("a file's name is no identifier", "acme-text.py", FLAG, 'DIR/acme-text.py: plugin acme-text: "acme-text" is no name for a plugin; write letters, digits and underscores, such as acme_text.py'),
    file("a file's name is a keyword", "class.py", FLAG, 'DIR/class.py: plugin class: "class" is no name for a plugin; write letters, digits and underscores, such as acme_text.py'),
    file("a folder NAME.py", "acme.py/notes.txt", "", "DIR/acme.py: plugin acme: is no file that can be read; a plugin is a file NAME.py or a folder with __init__.py"),
    file("a package whose __init__.py is misspelt", "acme/_init_.py", FLAG, "DIR/acme: plugin acme: is no file that can be read; a plugin is a file NAME.py or a folder with __init__.py"),
    Mistake("a file and a package of one name", "DIR/acme.py: plugin acme: there is one of that name already: DIR/acme; take another name", {"acme.py": FLAG, "acme/__init__.py": FLAG}),
    file("the name of a built-in plugin", "openai_chat.py", FLAG, "DIR/openai_chat.py: plugin openai_chat: there is one of that name already: the gateway itself; take another name"),
    # imports
    file("a syntax error", "acme.py", "api = 1\ndef build(:\n", "DIR/acme.py:2: plugin acme: SyntaxError: invalid syntax (acme.py, line 2)"),
    file("an indentation error", "acme.py", "api = 1\n  dialects = ()\n", "DIR/acme.py:2: plugin acme: IndentationError: unexpected indent (acme.py, line 2)"),
    file("a package that is not installed", "acme.py", "import acme_sdk\n", "DIR/acme.py:1: plugin acme: ModuleNotFoundError: No module named 'acme_sdk'; install acme_sdk where the gateway is installed"),
    Mistake("a helper imported without a dot", "DIR/acme.py:1: plugin acme: ModuleNotFoundError: No module named '_shared'; write \"from ._shared import …\"", {"acme.py": "import _shared\n", "_shared.py": ""}),
    file("a helper that does not exist", "acme.py", "from ._shared import label\n", "DIR/acme.py:1: plugin acme: ModuleNotFoundError: No module named 'irisgate_folder._shared'; there is no _shared.py beside the plugin"),
    file("a wrong name in an import", "acme.py", "from gateway.contract.flag import Rout\n", "DIR/acme.py:1: plugin acme: ImportError: cannot import name 'Rout' from 'gateway.contract.flag' (CONTRACT/flag.py)"),
    file("a missing environment variable", "acme.py", 'import os\n\nKEY = os.environ["ACME_NO_KEY"]\n', "DIR/acme.py:3: plugin acme: KeyError: 'ACME_NO_KEY'"),
    Mistake("a helper that fails", "DIR/_shared.py:1: plugin acme: ZeroDivisionError: division by zero", {"acme.py": "from . import _shared\n", "_shared.py": "1 / 0\n"}),
    file("the end of the process", "acme.py", "import sys\n\nsys.exit(3)\n", "DIR/acme.py:3: plugin acme: SystemExit: 3; a plugin must not end the process"),
    # members of flags
    file("a file that is no plugin", "acme.py", "LIMIT = 5\n", f"DIR/acme.py:1: plugin acme: is no plugin: {NEEDS}; the name of a helper begins with _"),
    flag("no version", "api = 1\n", "", 'DIR/acme.py:1: plugin acme: has no "api"; write api = 1, the version of this gateway'),
    flag("another version", "api = 1\n", "api = 2\n", "DIR/acme.py:5: plugin acme: api = 2; write api = 1, the version of this gateway"),
    flag("the version as a text", "api = 1\n", 'api = "1"\n', "DIR/acme.py:5: plugin acme: api = '1'; write api = 1, the version of this gateway"),
    flag("no dialects", 'dialects = ("acme_text",)\n', "", f'DIR/acme.py:1: plugin acme: has no "dialects"; {DIALECTS}'),
    flag("a tuple without its comma", '("acme_text",)', '("acme_text")', f"DIR/acme.py:6: plugin acme: dialects = 'acme_text'; {DIALECTS}"),
    flag("a list of dialects", '("acme_text",)', '["acme_text"]', f"DIR/acme.py:6: plugin acme: dialects = ['acme_text']; {DIALECTS}"),
    flag("an empty tuple of dialects", '("acme_text",)', "()", f"DIR/acme.py:6: plugin acme: dialects = (); {DIALECTS}"),
    flag("a dialect that no translator's name can hold", '("acme_text",)', '("acme-text",)', f"DIR/acme.py:6: plugin acme: dialects = ('acme-text',); {DIALECTS}"),
    flag("routes misspelt", "routes =", "rout =", f'DIR/acme.py:1: plugin acme: has no "routes"; {ROUTES}; did you mean it by "rout"?'),
    flag("one route without a tuple", '"generate"),)', '"generate"))', f"DIR/acme.py:7: plugin acme: routes = Route(method='POST', path='/acme/v1/text', operation='generate'); {ROUTES}"),
    flag("a path for a route", '(Route("POST", "/acme/v1/text", "generate"),)', '("/acme/v1/text",)', f"DIR/acme.py:7: plugin acme: routes = ('/acme/v1/text',); {ROUTES}"),
    flag("a method in small letters", '"POST", "/acme', '"post", "/acme', "DIR/acme.py:7: plugin acme: Route(method='post', path='/acme/v1/text', operation='generate'): write one of GET, POST, PUT, PATCH, DELETE"),
    flag("a path without its slash", '"/acme/v1/text"', '"acme/v1/text"', "DIR/acme.py:7: plugin acme: Route(method='POST', path='acme/v1/text', operation='generate'): write a path that begins with \"/\", without a query: \"/acme/v1/text\""),
    flag("a placeholder without an end", '"/acme/v1/text"', '"/acme/{model"', "DIR/acme.py:7: plugin acme: Route(method='POST', path='/acme/{model', operation='generate'): the path has a wrong placeholder (/acme/{model); write \"{model}\" or \"{model:.+}\""),
    flag("a route without an operation", '"generate"', '""', "DIR/acme.py:7: plugin acme: Route(method='POST', path='/acme/v1/text', operation=''): name the operation, such as \"generate\""),
    flag("one route twice", '"generate"),)', '"generate"), Route("POST", "/acme/v1/text", "count_tokens"))', "DIR/acme.py:7: plugin acme: this plugin claims POST /acme/v1/text already; take another path"),
    flag("a route of another flag", "/acme/v1/text", "/v1/chat/completions", "DIR/acme.py:7: plugin acme: openai_chat claims POST /v1/chat/completions already; take another path"),
    flag("a route of the gateway itself", '"POST", "/acme/v1/text"', '"GET", "/readyz"', "DIR/acme.py:7: plugin acme: GET /readyz would hide the gateway's own /readyz; take a path with the plugin's name"),
    flag("a route for every path", '"POST", "/acme/v1/text"', '"GET", "/{path:.*}"', "DIR/acme.py:7: plugin acme: GET /{path:.*} would hide the gateway's own /aperture/config; take a path with the plugin's name"),
    more("accepted requests without pairs", 'accepts = ("openai_chat", "generate")\n', f"DIR/acme.py:{LAST}: plugin acme: accepts = ('openai_chat', 'generate'); write a tuple of pairs: accepts = ((\"openai_chat\", \"generate\"),)"),
    more("marks that are text", 'slow_marks = ("document",)\n', f"DIR/acme.py:{LAST}: plugin acme: slow_marks = ('document',); write a tuple of bytes: slow_marks = (b'\"document\"',)"),
    more("lists that are paths", 'model_lists = ("/acme/models",)\n', f"DIR/acme.py:{LAST}: plugin acme: model_lists = ('/acme/models',); write a tuple of ModelList: model_lists = (ModelList(\"/acme/v1/models\"),)"),
    more("a list at another flag's path", 'from gateway.contract.flag import ModelList\nmodel_lists = (ModelList("/v1/models"),)\n', f"DIR/acme.py:{LAST + 1}: plugin acme: openai_chat claims GET /v1/models already; take another path"),
    more("a content type that is none", 'content_type = "sse"\n', f"DIR/acme.py:{LAST}: plugin acme: content_type = 'sse'; write one line: content_type = \"text/event-stream\""),
    more("cache marks that are text", 'has_cache_marks = "yes"\n', f"DIR/acme.py:{LAST}: plugin acme: has_cache_marks = 'yes'; write has_cache_marks = True, or leave it out"),
    # functions of flags
    flag("no build", "def build(", "def make(", f'DIR/acme.py:1: plugin acme: has no "build"; {BUILD}'),
    flag("build misspelt", "def build(", "def build_(", f'DIR/acme.py:1: plugin acme: has no "build"; {BUILD}; did you mean it by "build_"?'),
    flag("too few arguments", "def build(request, target, drop)", "def build(request)", f"DIR/acme.py:10: plugin acme: build must take 3 argument(s) by position; {BUILD}"),
    flag("too many arguments", "def build(request, target, drop)", "def build(request, target, drop, log)", f"DIR/acme.py:10: plugin acme: build must take 3 argument(s) by position; {BUILD}"),
    flag("arguments by name alone", "def build(request, target, drop)", "def build(*, request, target, drop)", f"DIR/acme.py:10: plugin acme: build must take 3 argument(s) by position; {BUILD}"),
    flag("arguments in another order", "def build(request, target, drop)", "def build(target, request, drop)", f"DIR/acme.py:10: plugin acme: build has its arguments in another order; {BUILD}"),
    flag("an async hook", "def build(", "async def build(", f"DIR/acme.py:10: plugin acme: build is an async function; the gateway does not await hooks; {BUILD}"),
    flag("yield in a hook that returns", "    return UpstreamRequest", "    yield UpstreamRequest", "DIR/acme.py:10: plugin acme: build is a generator, since it has yield; only steps may be one; return the result"),
    more("a hook that is no function", "limit = 4096\n", f"DIR/acme.py:{LAST}: plugin acme: limit is not a function; write def limit(request)"),
    more("two letters exchanged", "def prase(request):\n    pass\n", f'DIR/acme.py:{LAST}: plugin acme: "prase" has no meaning; did you mean "parse"?'),
    more("a hook's name in capitals", "def replyHeaders(request_id, usage):\n    return {}\n", f'DIR/acme.py:{LAST}: plugin acme: "replyHeaders" has no meaning; did you mean "reply_headers"?'),
    more("a letter that is missing", "def retr(request, target, problem, drop):\n    pass\n", f'DIR/acme.py:{LAST}: plugin acme: "retr" has no meaning; did you mean "retry"?'),
    more("a constant misspelt", 'accept = (("openai_chat", "generate"),)\n', f'DIR/acme.py:{LAST}: plugin acme: "accept" has no meaning; did you mean "accepts"?'),
    # translators
    translator("a translator with no second dialect", "api = 1\n", "api = 1\n", "DIR/openai_chat__.py:1: plugin openai_chat__: a translator's name is <client dialect>__<provider dialect>, with two underscores once", "openai_chat__.py"),
    translator("a translator with one underscore", "api = 1\n", "api = 1\n", "DIR/openai_chat_acme.py:1: plugin openai_chat_acme: is a translator by its members; name it <client dialect>__<provider dialect>", "openai_chat_acme.py"),
    translator("a translator for a dialect that no flag has", "api = 1\n", "api = 1\n", 'DIR/openai_chats__openai_responses.py:1: plugin openai_chats__openai_responses: no flag has the client dialect "openai_chats"; did you mean "openai_chat"?', "openai_chats__openai_responses.py"),
    translator("a translator without its loss", "loses = 40\n", "", 'DIR/openai_chat__openai_responses.py:1: plugin openai_chat__openai_responses: has no "loses"; write a number, the lower the better: loses = 40'),
    translator("a loss that is no number", "loses = 40\n", 'loses = "little"\n', "DIR/openai_chat__openai_responses.py:2: plugin openai_chat__openai_responses: loses = 'little'; write a number, the lower the better: loses = 40"),
    translator("a text for operations", '("generate",)', '("generate")', "DIR/openai_chat__openai_responses.py:3: plugin openai_chat__openai_responses: operations = 'generate'; write a tuple of names: operations = (\"generate\",)"),
    translator("a translator without open", "def open(", "def opened(", 'DIR/openai_chat__openai_responses.py:1: plugin openai_chat__openai_responses: has no "open"; write def open(request, target, drop); did you mean it by "opened"?'),
    # observers
    file("seen misspelt", "acme.py", OBSERVER.replace("seen", "sene"), f'DIR/acme.py:1: plugin acme: is no plugin: {NEEDS}; the name of a helper begins with _; did you mean "seen" by "sene"?'),
    file("an async observer", "acme.py", OBSERVER.replace("def", "async def"), "DIR/acme.py:4: plugin acme: seen is an async function; the gateway does not await hooks; write def seen(record)"),
    file("an observer with no argument", "acme.py", OBSERVER.replace("record", ""), "DIR/acme.py:4: plugin acme: seen must take 1 argument(s) by position; write def seen(record)"),
    file("an event's hook misspelt", "acme.py", OBSERVER + "\n\ndef seen_events(event):\n    pass\n", 'DIR/acme.py:8: plugin acme: "seen_events" has no meaning; did you mean "seen_event"?'),
    # filters
    file("a filter with too many arguments", "acme.py", FILTER.replace("call, settings", "call, settings, log"), "DIR/acme.py:9: plugin acme: open must take 2 argument(s) by position; write def open(call, settings)"),
    file("open misspelt", "acme.py", FILTER.replace("open", "opne"), f'DIR/acme.py:1: plugin acme: is no plugin: {NEEDS}; the name of a helper begins with _; did you mean "open" by "opne"?'),
    file("blocks that is no boolean", "acme.py", FILTER + 'blocks = "yes"\n', "DIR/acme.py:11: plugin acme: blocks = 'yes'; write blocks = True, if a call is refused when the filter fails"),
    file("blocks misspelt", "acme.py", FILTER + "block = True\n", 'DIR/acme.py:11: plugin acme: "block" has no meaning; did you mean "blocks"?'),
    more("a header that clients must not get", 'passed_headers = ("set-cookie",)\n', f"DIR/acme.py:{LAST}: plugin acme: passed_headers = ('set-cookie',); write a tuple of names in lower case: passed_headers = (\"acme-request-id\",)"),
    more("a header's name with capitals", 'passed_headers = ("Acme-Request-Id",)\n', f"DIR/acme.py:{LAST}: plugin acme: passed_headers = ('Acme-Request-Id',); write a tuple of names in lower case: passed_headers = (\"acme-request-id\",)"),
    more("options of another class", "class Options:\n    tier = 'economy'\n", f"DIR/acme.py:{LAST}: plugin acme: Options = <class 'irisgate_folder.acme.Options'>; write class Options(Settings), with Settings of gateway.contract.flag"),
    more("options under another name", "from gateway.contract.flag import Settings\n\n\nclass Option(Settings):\n    tier: str = 'economy'\n", f'DIR/acme.py:{LAST + 3}: plugin acme: "Option" has no meaning; did you mean "Options"?'),
    more("an option that JSON cannot have", "from collections.abc import Callable\n\nfrom gateway.contract.flag import Settings\n\n\nclass Options(Settings):\n    clock: Callable[[], float]\n", f"DIR/acme.py:{LAST + 5}: plugin acme: Options: Cannot generate a JsonSchema for core_schema.CallableSchema; the configuration is JSON, so take types that JSON has"),
    more("a secret inside of a list", "from pydantic import SecretStr\n\nfrom gateway.contract.flag import Settings\n\n\nclass Options(Settings):\n    keys: list[SecretStr] = []\n", f"DIR/acme.py:{LAST + 5}: plugin acme: Options: a SecretStr is only read in a field of its own; take it out of the list, the object or the model"),
    more("a secret at a path of keys", "from pydantic import AliasPath, Field, SecretStr\n\nfrom gateway.contract.flag import Settings\n\n\nclass Options(Settings):\n    key: SecretStr | None = Field(None, validation_alias=AliasPath('login', 'key'))\n", f"DIR/acme.py:{LAST + 5}: plugin acme: Options: a SecretStr is only read in a field of its own; take it out of the list, the object or the model"),
    more("a secret inside of a model", "from pydantic import BaseModel, SecretStr\n\nfrom gateway.contract.flag import Settings\n\n\nclass Login(BaseModel):\n    key: SecretStr\n\n\nclass Options(Settings):\n    key: SecretStr | None = None\n    login: Login | None = None\n", f"DIR/acme.py:{LAST + 9}: plugin acme: Options: a SecretStr is only read in a field of its own; take it out of the list, the object or the model"),
    file("settings of another class", "acme.py", FILTER + "class Settings:\n    word = ''\n", "DIR/acme.py:11: plugin acme: Settings = <class 'irisgate_folder.acme.Settings'>; write class Settings(filter.Settings), without a field \"on_error\""),
)  # fmt: skip

ENCODER = """class Encoder:
    def feed(self, event):
        return "data: x"

    def whole(self, body):
        return None

    def ping(self):
        return b""

    def fail(self, problem):
        return b""

    def close(self):
        pass


def encoder(request):
    return Encoder()
"""
RUN = (
    returning("no return", "build", "request, target, drop", "None", "returned NoneType; UpstreamRequest is expected"),
    returning("the body as a dict", "build", "request, target, drop", 'UpstreamRequest("POST", "/v1", {})', "returned UpstreamRequest whose body is dict; bytes is expected"),
    returning("the body as a text", "build", "request, target, drop", 'UpstreamRequest("POST", "/v1", "{}")', "returned UpstreamRequest whose body is str; bytes is expected"),
    returning("a path without its slash", "build", "request, target, drop", 'UpstreamRequest("POST", "v1/text", b"")', "returned UpstreamRequest whose path is wrong; one line that begins with / is expected"),
    returning("a path that names another host", "build", "request, target, drop", 'UpstreamRequest("POST", "@example.com/v1", b"")', "returned UpstreamRequest whose path is wrong; one line that begins with / is expected"),
    returning("a header that is a number", "build", "request, target, drop", 'UpstreamRequest("POST", "/v1", b"", headers={"x-retries": 3})', "returned UpstreamRequest with a wrong value; it needs headers whose names and values are text of one line"),
    returning("a header of two lines", "build", "request, target, drop", 'UpstreamRequest("POST", "/v1", b"", headers={"x-name": "a\\nb"})', "returned UpstreamRequest with a wrong value; it needs headers whose names and values are text of one line"),
    run("an exception of the plugin's own", "build", "def build(request, target, drop):\n    return {}['none']\n", "KeyError: 'none'", LAST + 1),
    run("the end of the process", "build", "import sys\n\n\ndef build(request, target, drop):\n    sys.exit(3)\n", "SystemExit: 3", LAST + 4),
    returning("a dict for a request", "parse", "request", "{}", "returned dict; ClientRequest is expected"),
    returning("a request with a changed type", "retry", "request, target, problem, drop", "__import__('dataclasses').replace(request, stream=None)", "returned ClientRequest whose stream is NoneType; bool is expected"),
    returning("a list for steps", "steps", "request, target, drop", "[]", "returned list; a generator or ClientRequest is expected"),
    returning("a number as a text", "limit", "request", '"4096"', "returned str; int or None is expected"),
    billed("more added tokens than there can be", "AddedTokens(usual=0, most=10**30)", "AddedTokens"),
    billed("added tokens that are a fraction", "AddedTokens(usual=0.5, most=1)", "AddedTokens"),
    billed("a negative number of searches", "Search(-1)", "Search"),
    billed("a number of answers that is a boolean", "Answers(True)", "Answers"),
    billed("a fee that is too high", "Fee(2**53 + 1)", "Fee"),
    billed("a negative size of a file", 'File("image", -1)', "File"),
    returning("a text for a problem", "problem", "head, body", '"overloaded"', "returned str; Problem or None is expected"),
    returning("a decoder without its methods", "decoder", "request, target, head", "object()", "returned object; an object with a method feed is expected"),
    returning("a class for an object", "meter", "request, target, head", "Meter", "returned the class Meter; an object of it is expected"),
    returning("an error as a dict", "error", "problem", "{}", "returned dict; a tuple of status, headers and body is expected"),
    returning("an error with status 200", "error", "problem", '200, {}, b""', "returned int; a status of 400 to 599 is expected"),
    returning("an error whose body is a text", "error", "problem", '500, {}, "{}"', "returned str; bytes is expected"),
    returning("headers as pairs", "reply_headers", "request_id, usage", '[("x-id", request_id)]', "returned list; headers whose names and values are text of one line is expected"),
    run("a text for a stream's bytes", "encoder.feed", ENCODER, "returned str; bytes is expected", LAST + 1),
    run("no body for a whole reply", "encoder.whole", ENCODER, "returned NoneType; bytes is expected", LAST + 4),
    run("tokens that are a fraction", "meter.facts", "from gateway.contract.flag import Part, Usage\n\n\nclass Counting(Meter):\n    def facts(self):\n        return Facts((Part(usage=Usage(output=0.5)),))\n\n\ndef meter(request, target, head):\n    return Counting()\n", "returned float; a number of tokens is expected", LAST + 4),
    run("facts without a part", "meter.facts", "class Silent(Meter):\n    def facts(self):\n        return Facts(())\n\n\ndef meter(request, target, head):\n    return Silent()\n", "returned tuple; a sequence of parts is expected", LAST + 1),
    run("an async method", "meter", "class Waiting(Meter):\n    async def feed(self, event):\n        pass\n\n\ndef meter(request, target, head):\n    return Waiting()\n", "returned Waiting; an object whose method feed is not async is expected", LAST + 5),
    guard("a filter's method misspelt", "def text(", "def txet(", 'returned Guard, whose method "txet" has no meaning; did you mean "text"?'),
    guard("a filter's method with too few arguments", "kind, piece, last", "piece", "returned Guard, whose method text must take 3 argument(s) by position; write def text(kind, piece, last)"),
    guard("a filter's arguments in another order", "kind, piece, last", "piece, kind, last", "returned Guard, whose method text has its arguments in another order; write def text(kind, piece, last)"),
    guard("yield in a filter's method", "return piece", "yield piece", "returned Guard, whose method text is a generator, since it has yield; only steps may be one; return the result"),
    guard("a filter without methods", "def text(", "def check(", "returned Guard; None or an object with one of the methods request, headers, text, replied, done is expected"),
    guard("a class for a filter's object", "Guard()", "Guard", "returned the class Guard; an object of it is expected"),
)  # fmt: skip
