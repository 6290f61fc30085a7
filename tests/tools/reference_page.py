"""Write `plugins/reference.md`, the reference for authors of plugins: `python -m tests.tools.reference_page`.

The names, signatures, docstrings and examples come from the source, the defaults of a flag from `defaults.py`, and the
required members from `plugin_checks.py`. `reference_chapters.py` has the order and the introductions. A test checks
that the file is up to date.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from gateway.contract.defaults import Defaults
from gateway.contract.hooks import NEVER_REFUSES
from gateway.contract.plugin_checks import FILTER, FLAG, OBSERVER, TRANSLATOR
from tests.contract import example_values
from tests.tools.contract_source import Name, docstring, public_names
from tests.tools.markdown import anchor, wrapped
from tests.tools.reference_chapters import CALLED, CHAPTERS, HEAD, RULES, STEPS, VALUES, Chapter, Part

PAGE: Final = Path(__file__).resolve().parents[2] / "plugins" / "reference.md"
SHOWN: Final = 60
"""Maximum number of characters of a constant's value that is shown."""
KINDS: Final = {"Flag": FLAG, "Translator": TRANSLATOR, "FilterModule": FILTER, "Observer": OBSERVER}
"""Maps the name of a protocol (class) to the kind of plugin whose members it describes."""
_HOOKS: Final = {"Flag": "", "Observer": "", "Filter": "filter.", "Meter": "meter.", "Encoder": "encoder."}
"""Prefixes of hooks' names in `NEVER_REFUSES`, by the protocol (class) that declares the hook.

`NEVER_REFUSES` has the hooks that must not raise an error.
"""


def page() -> str:
    """Return the whole page."""
    contents = [
        f"[{title}](#{anchor(title)})" for title in (*(each.title for each in CHAPTERS), "Values in the examples")
    ]
    lines = [
        HEAD,
        *wrapped(f"**Contents:** [How plugins are called](#how-plugins-are-called) · {' · '.join(contents)}"),
    ]
    lines += ["", "## How plugins are called", "", *wrapped(CALLED), "", *_steps(), "### Rules of calls", ""]
    lines += [line for rule in RULES for line in wrapped(f"- {rule}", indent="  ")]
    for chapter in CHAPTERS:
        lines += ["", *_chapter(chapter)]
    code = inspect.getsource(example_values).partition('"""\n\n')[2]
    lines += ["", VALUES, "```python", re.sub(r"# ruff.*\n\n", "", code).rstrip(), "```", ""]
    return re.sub(r"\n{3,}(?=#)", "\n\n", "\n".join(lines))


def _steps() -> Iterator[str]:
    for title, steps in STEPS.items():
        yield from (f"### {title}", "", "| hook | of the | when |", "|---|---|---|")
        yield from (f"| [`{step.hook}`](#{anchor(step.hook)}) | {step.whose} | {step.when} |" for step in steps)
        yield ""


def module_of(part: Part) -> str:
    return part.module if part.module.startswith("gateway.") else f"gateway.contract.{part.module}"


@cache
def names_of(part: Part) -> tuple[Name, ...]:
    """Return the names that a part of the page explains, in the order of the source."""
    every = public_names(module_of(part))
    if part.only:
        return tuple(name for name in every if name.name in part.only)
    elsewhere = {name for other in parts() if other.module == part.module for name in other.only}
    return tuple(name for name in every if name.name not in elsewhere)


def parts() -> Iterator[Part]:
    for chapter in CHAPTERS:
        yield from chapter.parts


def title_of(name: Name, part: Part) -> str:
    """Return the title of a name's entry on the page. The title of a member begins with the name of its class. The
    title of most functions begins with the name of their module.
    """
    module = (part.imported or part.module).rpartition(".")[2]
    is_function = name.kind == "function" and not name.owner and not name.name.startswith("irisgate_")
    prefix = part.prefix or (module if is_function else "")
    return f"{prefix}.{name.full_name}" if prefix else name.full_name


@cache
def _types() -> frozenset[str]:
    """Return the titles of all types on the page."""
    named = ((name, part) for part in parts() for name in names_of(part))
    return frozenset(title_of(name, part) for name, part in named if name.kind in {"class", "alias"})


def _links(name: Name, part: Part) -> list[str]:
    """Return links to the entries of the types in a signature.

    Titles of entries may have a prefix. For each type, the title with the prefix of this part is tried first, then the
    one with `framing.`, and then the one without a prefix.
    """
    words = dict.fromkeys(re.findall(r"[\w.]+", name.signature.replace("...", "")))
    ways = ((f"{part.prefix}.{word}", f"framing.{word}", word) for word in words if word != name.name)
    titles = (next(filter(_types().__contains__, way), "") for way in ways)
    return [f"[{title}](#{anchor(title)})" for title in titles if title]


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield from (f"## {chapter.title}", "")
    if chapter.text:
        yield from (*wrapped(chapter.text), "")
    yield from wrapped(" · ".join(f"[{part.title}](#{anchor(part.title)})" for part in chapter.parts))
    for part in chapter.parts:
        yield from ("", f"### {part.title}", "")
        if not part.module.startswith("gateway."):
            yield from (f"From `gateway.contract.{part.imported or part.module}`.", "")
        if part.head:
            yield from _markdown(docstring(module_of(part)))
        constants = [name for name in names_of(part) if name.kind == "constant"]
        for name in names_of(part):
            if name.has_entry:
                yield from _entry(name, part)
        for name in constants:
            yield from _item(name)


def _entry(name: Name, part: Part, level: str = "####") -> Iterator[str]:
    """Yield the page's lines about a function, or about a class and its members."""
    title = title_of(name, part)
    yield from (f"{level} {title}", "", "```python", name.signature, "```", "")
    yield from _notes(name, part)
    yield from _markdown(name.doc)
    values = [each for each in name.members if each.kind in {"field", "property"} and not _is_hook(each)]
    items = [line for each in values if each.doc for line in _item(each)]
    yield from [*items, ""] if items else []
    if name.name in KINDS:
        yield from _members_table(name)
    for member in name.members:
        if member.doc and (member.has_entry or _is_hook(member)):
            shown = member if member.has_entry else _as_value(member)
            yield from _entry(shown, part, level + "#")


def _is_hook(name: Name) -> bool:
    return name.owner in KINDS


def _as_value(name: Name) -> Name:
    """Return an attribute as a function, because `_entry` shows only functions and classes. The signature is the
    attribute's name and type.
    """
    return Name("function", name.name, f"{name.name}: {name.signature}", name.doc, owner=name.owner)


def _members_table(protocol: Name) -> Iterator[str]:
    yield from ("| member | if it is missing | what it is |", "|---|---|---|")
    for member in sorted(protocol.members, key=lambda each: each.name not in KINDS[protocol.name].required):
        first = re.split(r"(?<=\.)\s", " ".join(_prose(member.doc).split()), maxsplit=1)[0]
        yield f"| [`{member.name}`](#{anchor(member.full_name)}) | {_default(member)} | {first} |"
    yield ""


def _notes(name: Name, part: Part) -> Iterator[str]:
    """Yield what the signature alone does not say: links to its types, the default, and how the hook may behave."""
    notes = []
    if name.owner in KINDS:
        default = _default(name)
        notes.append("Required." if default == "required" else f"If it is missing: {default}.")
    if "Awaitable[" in name.signature:
        notes.append("May be `async`.")
    if name.owner in _HOOKS and _HOOKS[name.owner] + name.name in NEVER_REFUSES:
        notes.append("Must raise nothing.")
    if links := _links(name, part):
        notes.append(f"Types: {', '.join(links)}.")
    if notes:
        yield from (*wrapped(" ".join(notes)), "")


def _default(member: Name) -> str:
    """Return the text that says what the gateway does if a plugin does not define this member. The text is "required"
    if each plugin must define it.
    """
    if member.name in KINDS[member.owner].required:
        return "required"
    if member.owner != "Flag":
        return _OPTIONAL[member.name]
    value = getattr(Defaults, member.name)
    if isinstance(value, type):
        return f"`{value.__name__}`"
    if not callable(value):
        return f"`{value!r}`".replace("'", '"')
    words = " ".join(inspect.getdoc(value).split("\n\n")[0].split())
    return words.removesuffix(".").replace("Return", "return", 1)


_OPTIONAL: Final = {
    "loses": "an error, except for built-in translators",
    "samples": "`irisgate plugins check NAME` tries less",
    "blocks": "`False`",
    "Settings": "the base class, without fields",
    "seen_event": "no events",
}
"""The defaults of the optional members of translators, filters and observers."""


def _prose(doc: str) -> str:
    return doc.partition(">>> ")[0]


def _markdown(doc: str) -> Iterator[str]:
    """Yield a docstring as Markdown. Examples and indented code become blocks of code."""
    for block in re.split(r"\n\n(?=\S)", doc) if doc else []:
        text, indented, code = block.partition("\n\n    ")
        yield from ("```pycon", text, "```", "") if text.startswith(">>> ") else (text, "")
        if indented:
            yield from ("```python", textwrap.dedent(f"    {code}"), "```", "")


def _item(name: Name) -> Iterator[str]:
    """Yield the Markdown lines of a list item about a field, a property or a constant."""
    kind = f": {name.signature}" if name.kind == "property" else ""
    value = f" = {name.value}" if name.kind == "constant" and len(name.value) <= SHOWN else ""
    doc = f": {' '.join(name.doc.split())}" if name.doc else ""
    yield from wrapped(f"- **`{name.name}{kind}{value}`**{doc}", indent="  ")


if __name__ == "__main__":
    PAGE.write_text(page())
