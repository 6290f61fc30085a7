"""Tests that every mistake of a plugin's author is reported with the plugin, the file, the line and the correction."""

import asyncio
import os
import re
from pathlib import Path

import pytest

import gateway.contract.flag
from gateway.contract.capabilities import Caps
from gateway.contract.errors import UNAVAILABLE, PluginFailed, Problem
from gateway.contract.flag import Event, Head, HttpRequest, Target
from gateway.contract.plugin_checks import FLAG as FLAG_KIND
from gateway.contract.plugin_source import is_slip
from gateway.contract.registry import PluginError, discover, load_plugin
from gateway.process.app import own_routes
from gateway_plugins import openai_chat
from tests.helpers.authors_mistakes import FLAG, LOAD, OBSERVER, RUN
from tests.tools import mistakes_page

CONTRACT = str(Path(gateway.contract.flag.__file__).parent)

PROBLEM = Problem(UNAVAILABLE, "busy")
ACME = load_plugin("openai_chat", openai_chat)
"""A plugin without mistakes. Its function `parse` makes the requests that the tests pass to the hooks of other plugins.
"""


def drop(path):
    """Ignore the report of a dropped field."""


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def shown(error, folder):
    return str(error).replace(str(folder), "DIR").replace(CONTRACT, "CONTRACT")


@pytest.mark.parametrize("mistake", LOAD, ids=lambda mistake: mistake.title)
def test_a_mistake_is_reported_when_the_plugin_is_loaded(tmp_path, mistake):
    write(tmp_path, mistake.files)
    with pytest.raises(PluginError) as error:
        discover(tmp_path, own=own_routes)
    assert shown(error.value, tmp_path) == mistake.message


def call(registry, hook):
    """Call a hook as the gateway does. Raises `PluginFailed` if the hook fails."""
    if hook == "filter.open":
        opening = registry.filters["acme"].hooks[hook]
        asyncio.run(opening.settled(opening.function, None, None, seconds=1))
    flag = registry.flags["acme"]
    if hook == "billed_parts":
        flag.hooks[hook].as_list({"model": "m"})
    request = HttpRequest(flag.routes[0], "/acme/v1/text", "", {}, {}, b'{"model":"m"}')
    ask, head = ACME.parse(request), Head(200, {})
    target = Target("p", "acme", "m", "acme_text", Caps())
    arguments = {
        "parse": (request,), "limit": (ask,), "encoder": (ask,), "error": (PROBLEM,), "reply_headers": ("id", None),
        "retry": (ask, target, PROBLEM, drop), "problem": (head, b""), "build": (ask, target, drop),
        "steps": (ask, target, drop), "decoder": (ask, target, head), "meter": (ask, target, head),
    }  # fmt: skip
    maker, _, method = hook.partition(".")
    made = getattr(flag, maker)(*arguments[maker])
    of_methods = {"feed": (Event("message", b"{}"),), "whole": (b"{}",), "facts": ()}
    if method:
        flag.hooks[hook].run(getattr(made, method), *of_methods[method])


@pytest.mark.parametrize("mistake", RUN, ids=lambda mistake: mistake.title)
def test_a_mistake_is_reported_when_the_hook_is_called(tmp_path, mistake):
    write(tmp_path, mistake.files)
    registry = discover(tmp_path)
    with pytest.raises(PluginFailed) as error:
        call(registry, mistake.hook)
    failure = error.value
    message = f"{failure.place}: plugin {failure.plugin} failed in {failure.hook}: {failure.cause}"
    assert message.replace(str(tmp_path), "DIR") == mistake.message


def test_the_page_lists_every_mistake(rewriting):
    if rewriting:
        mistakes_page.PAGE.write_text(mistakes_page.page())
    assert mistakes_page.PAGE.read_text() == mistakes_page.page()


def test_the_plugins_of_the_table_have_no_mistake_but_those(tmp_path):
    write(tmp_path, {"acme.py": FLAG, "watching.py": OBSERVER})
    registry = discover(tmp_path, own=own_routes)
    assert "acme" in registry.flags
    assert "watching" in registry.observers


INNOCENT = {
    "a helper that the module uses": "def text(event):\n    return text(event)\n",
    "a helper with other arguments": "def text(body, name, limit):\n    pass\n",
    "a private helper": "def _parse(request):\n    pass\n\n\ndef parse_(a, b):\n    pass\n",
    "a helper beside the hook itself": "def parse(request):\n    pass\n\n\ndef parsed(request):\n    pass\n",
    "a name far from every hook": "def tokens(event):\n    return 0\n",
    "a class": "class Decoder:\n    def __init__(self, request, target, head):\n        pass\n",
    "an imported function": "from orjson import loads as limits\n",
    "a constant with another type": "accept = 5\n",
    "arguments with names of their own": "def retry(ask, to, fault, lose):\n    pass\n",
    "more arguments with defaults": "def limit(request, most=5, *, least=1):\n    pass\n",
    "any arguments": "def retry(*args, **more):\n    pass\n",
    "a class for a hook": "class encoder:\n    def __init__(self, request):\n        pass\n",
    "a decorated hook": "import functools\n\n\n@functools.cache\ndef limit(request):\n    pass\n",
    "a partial for a hook": "import functools\n\nlimit = functools.partial(getattr, None)\n\n\ndef _f(): ...\n",
    "steps with yield": "def steps(request, target, drop):\n    yield 1\n",
}


@pytest.mark.parametrize("code", INNOCENT.values(), ids=INNOCENT)
def test_correct_code_is_not_taken_for_a_mistake(tmp_path, code):
    write(tmp_path, {"acme.py": f"{FLAG}\n\n{code}"})
    assert "acme" in discover(tmp_path).flags


def test_a_helper_that_another_plugin_imports_is_no_misspelt_hook(tmp_path):
    write(
        tmp_path, {"acme.py": f"{FLAG}\n\ndef text(event):\n    pass\n", "z.py": f"from .acme import text\n{OBSERVER}"}
    )
    assert "acme" in discover(tmp_path).flags


def test_all_mistakes_of_all_plugins_are_reported_at_once(tmp_path):
    write(tmp_path, {"a.py": "import acme_sdk\n", "b.py": OBSERVER.replace("api = 1", "api = 2").replace("record", "")})
    with pytest.raises(PluginError) as error:
        discover(tmp_path)
    places = [line.split(": ")[0] for line in shown(error.value, tmp_path).splitlines()]
    assert places == ["DIR/a.py:1", "DIR/b.py:1", "DIR/b.py:4"]


HOSTILE = {
    "an exception without a text": ("class E(Exception):\n    def __str__(self):\n        raise self\n\n\nraise E\n", "E: (its text"),
    "no exception": ("raise BaseException('x')\n", "BaseException: x"),
    "a cancelled task": ("import asyncio\n\nraise asyncio.CancelledError\n", "CancelledError:"),
    "a recursion": ("def f():\n    f()\n\n\nf()\n", "RecursionError: maximum"),
    "zero bytes": ("api = 1\n\0\n", "source code string cannot contain null bytes"),
    "deep brackets": (f"x = {'(' * 5000}{')' * 5000}\n", "SyntaxError: too many"),
    "an encoding that does not exist": (f"# coding: nope\n{FLAG}", "SyntaxError: unknown encoding"),
    "a value that cannot be shown": (
        f"{FLAG}\n\nclass R:\n    def __repr__(self):\n        raise OSError\n\n\ndialects = R()\n", "OSError:",
    ),
    "a large value": (f"{FLAG}\ndialects = 'x' * 10**7\n", "dialects = 'xxx"),
    "a module that makes every member": ("def __getattr__(name):\n    return 1\n", "seen is not a function"),
    "a module whose members raise": (f"{FLAG}\n\ndef __getattr__(name):\n    raise OSError(name)\n", "OSError: seen"),
    "another object for the module": ("import sys\n\nsys.modules[__name__] = object()\n", "has put another object"),
    "a signature that is none": (f"{FLAG}\n\nbuild.__signature__ = 5\n", "TypeError: unexpected object 5"),
    "a name that is no text": (f"{FLAG}\n\nglobals()[5] = 1\n", "AttributeError: 'int' object"),
    "a route of wrong values": (f"{FLAG}\n\nroutes = (Route(None, 5, []),)\n", "write one of GET"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "message"), HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_file_has_it_is_named_and_the_next_one_is_checked(tmp_path, source, message):
    write(tmp_path, {"acme.py": source, "later.py": "1 / 0\n"})
    with pytest.raises(PluginError) as error:
        discover(tmp_path)
    first, *_, last = shown(error.value, tmp_path).splitlines()
    assert re.match(r"(DIR/acme\.py(:\d+)?: )?plugin acme: ", first)
    assert message in first
    assert last == "DIR/later.py:1: plugin later: ZeroDivisionError: division by zero"


LINKS = {
    "to nothing": lambda folder: (folder / "acme.py").symlink_to("nowhere"),
    "to itself": lambda folder: (folder / "acme.py").symlink_to("acme.py"),
    "to a pipe": lambda folder: os.mkfifo(folder / "acme.py"),
}


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_a_link_that_leads_to_no_file_is_named(tmp_path, make):
    make(tmp_path)
    with pytest.raises(PluginError, match=r"acme\.py: plugin acme: is no file that can be read"):
        discover(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(PluginError, match=r"none: No such file or directory; name a folder of plugin files$"):
        discover(tmp_path / "none")


def test_a_folder_that_is_a_link_to_itself_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(PluginError, match=r"loop: Too many levels of symbolic links; name a folder of plugin files$"):
        discover(tmp_path / "loop")


def test_links_in_a_circle_are_not_followed(tmp_path):
    write(tmp_path, {"acme/__init__.py": FLAG})
    for name in ("one", "two"):
        (tmp_path / "acme" / name).symlink_to(".")
    assert "acme" in discover(tmp_path).flags


def test_every_single_typing_error_in_a_hooks_name_is_recognised():
    for hook in FLAG_KIND.members:
        for at, letter in enumerate(hook):
            head, tail = hook[:at], hook[at + 1 :]
            errors = {head + tail, head + letter + letter + tail, f"{head}x{tail}", head + tail[:1] + letter + tail[1:]}
            assert all(is_slip(name, hook) for name in errors - {hook})
    assert not any(is_slip(name, "build") for name in ("built_in", "make", "bu", "", "rebuild", "builders"))
