"""Write `deploy/config.md`, which lists every key of the configuration: `python -m tests.tools.config_page`.

The page is made only from the sections of the schema. A test checks that the file is up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gateway.config.root import RootSection
from gateway.config.section import PLANNED, Section, holds_of, keys, lacking_words
from gateway.config.sections.price_rows import PricesSection
from gateway.config.sections.providers import ProviderSection
from tests.helpers.own_plugins import discover_own
from tests.tools.markdown import anchor, wrapped

PAGE: Final = Path(__file__).resolve().parents[2] / "deploy" / "config.md"
HEAD: Final = """\
# Configuration

<!-- Written by `python -m tests.tools.config_page` from the schema; a change made here is lost. -->

The configuration is one file, by custom `config.hujson`. It is HuJSON: JSON with comments and trailing commas.
`irisgate check FILE` names every error and every warning with its line and column. `irisgate schema >
irisgate.schema.json` writes a JSON Schema; with `"$schema": "./irisgate.schema.json"` at the top of the file an editor
completes and explains every key. A configuration of Aperture by Tailscale can be used as it is. Keys that have no
effect yet are marked **Not supported yet** below, and `check` warns of them.

## How values are read

- **Reload.** The gateway reads the file again when it is saved, when a file with a key changes, and on SIGHUP. Calls in
  flight keep the configuration that they began with. A file with an error changes nothing.
- **Restart.** `server.listeners`, `server.drain_seconds`, `server.limits.header_bytes`, `storage.url`, `storage.sync`
  and `metrics.listen` are read at the start only. The log names them in `config.needs_restart` when they change.
- **Errors and warnings.** An error stops the start, or a reload. A warning does not. A save by the API takes warnings
  for errors.
- **Keys of providers** are written as they are, as `"env:NAME"` (an environment variable) or as `"file:PATH"` (a file
  that holds the key alone; a relative path begins at the folder of the configuration). A program (`"exec:PROGRAM"`) or
  the key file of a Google service account (`"keyfile::PATH"`) gives keys that expire, and are renewed.
- **Macros.** `${NAME}` is replaced by an environment variable where the value is shown to no caller: `apikey`,
  `apikeys`, `baseurl`, `url`, `add_headers`, other secrets, `listen`, `tailscaled` and `storage.url`. A systemd
  credential is `"file:${CREDENTIALS_DIRECTORY}/bedrock"`.
- **Patterns** are of three kinds. In `grants`, `models` is a pattern over `provider/model`: `*` matches within a
  segment, `**` any number of segments, and nothing else is special. In `model_cost_map`, `match` is a pattern over the
  model's name as Go's `path.Match` has it: `*` and `?` stop at `/`, and `[a-z]` is a class. In `capabilities`
  and in options about betas, `*` and `?` match any characters, and `[a-z]` is a class.
- **Names** of models are exact, with region prefix and version suffix.

In the paths below, `NAME` is a key that you choose and `[]` is an element of a list.

"""
"""The text of the page before the list of keys."""
FILE_OF_PRICES: Final = """\
The key `prices` names a file of its own. The file is HuJSON too and holds one object. Its rows stand before the
built-in ones. Prices are US dollars for 1,000,000 tokens, written in quotes.
"""
OPTIONS: Final = "providers.NAME.options"
"""The configuration key under which a provider has the options of its compatibility flags. For example,
`providers.NAME.options.openai_chat` has those of the flag `openai_chat`.
"""
_STEPS: Final = {"one": "", "list": "[]", "map": ".NAME", "lists": '."{}"[]'}
"""Suffixes that turn a key's path into the path of the sections in its value, by `Holds.how`. For a list of sections,
the suffix is `[]`.
"""


def page() -> str:
    """Return the whole page."""
    return HEAD + "\n".join(
        [
            *_sections(RootSection, "", {}),
            *_options(),
            "## The file of `prices`",
            "",
            FILE_OF_PRICES,
            "",
            *_sections(PricesSection, "", {}),
        ]
    )


def _sections(section: type[Section], path: str, written: dict[type[Section], str]) -> Iterator[str]:
    """Yield the page's lines about a section, and about all sections in it. A section type is described only once."""
    written[section] = path
    if path or section is RootSection:
        yield from (f"### `{path}`" if path else "## The document", "")
    if (words := section.__dict__.get("__doc__")) and not words.startswith("!!!"):
        yield from wrapped(" ".join(words.split()))
        yield ""
    made = section.model_json_schema(by_alias=True)
    inner: list[tuple[type[Section], str]] = []
    for key, info in keys(section).items():
        note = ""
        if (mark := holds_of(info)) is not None:
            below = (path + "." if path else "") + key + _STEPS[mark.how].format(*mark.names[:1])
            place = written.get(mark.section) or next((at for kind, at in inner if kind is mark.section), "")
            if not place:
                inner.append((mark.section, below))
            note = f"Keys: [`{place or below}`](#{anchor(place or below)})."
        if section is ProviderSection and key == "compatibility":
            note = f"Flags: {', '.join(f'`{flag}`' for flag in sorted(discover_own().flags))}."
        if section is ProviderSection and key == "options":
            paths = [f"{OPTIONS}.{flag}" for flag in sorted(discover_own().known.options)]
            note = f"Keys: {', '.join(f'[`{place}`](#{anchor(place)})' for place in paths)}."
        required = key in made.get("required", ())
        yield from _entry(key, info.description or "", made["properties"][key], _missing(info), note, required=required)
    yield ""
    for kind, below in inner:
        yield from _sections(kind, below, written)


def _options() -> Iterator[str]:
    """Yield the lines of the options of each built-in compatibility flag (the plugin of one API format)."""
    for flag, model in sorted(discover_own().known.options.items()):
        yield from (f"### `{OPTIONS}.{flag}`", "")
        yield from wrapped(" ".join((model.__doc__ or "").split()))
        yield ""
        made = model.model_json_schema()
        for key, info in model.model_fields.items():
            yield from _entry(key, info.description or "", made["properties"][key], "", "", required=info.is_required())
        yield ""


def _missing(info: Any) -> str:
    """Return a note about a key that has no effect yet, or "" for any other key."""
    if PLANNED not in info.metadata:
        return ""
    words = lacking_words(info) or "it has no effect"
    return f"**Not supported yet**: {words}."


def _entry(key: str, description: str, made: dict[str, Any], missing: str, note: str, *, required: bool) -> list[str]:
    meaning, example = _parted(description)
    kind = _kind(made)
    default = "required" if required else f"default {_default(made)}"
    text = f"- **`{key}`** ({kind}, {default}): {meaning}"
    parts = [text, f"Example: `{example}`." if example else "", missing, note]
    return wrapped(" ".join(part for part in parts if part), indent="  ")


def _kind(made: dict[str, Any]) -> str:
    """Return the type of a value, such as "list of strings", from the value's JSON schema."""
    if "enum" in made:
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in made["enum"] if value != "")
    if "anyOf" in made:
        kinds = [_kind(part) for part in made["anyOf"] if part.get("type") != "null" and part.get("const") != ""]
        return " or ".join(kinds)
    kind = made.get("type")
    if kind == "array":
        return f"list of {_plural(made.get('items', {}))}"
    words = {
        "boolean": "boolean",
        "integer": "whole number",
        "number": "number",
        "string": "string",
        "object": "object",
    }
    return words[kind] + _bounds(made) if kind else "any value"


def _plural(items: dict[str, Any]) -> str:
    if "enum" in items:
        return ", ".join(f"`{json.dumps(value)}`" for value in items["enum"])
    return {"string": "strings", "object": "objects"}.get(items.get("type", ""), "objects")


def _bounds(made: dict[str, Any]) -> str:
    least, above, most = (made.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    words = [f"at least {least}" if least is not None else "", f"above {above}" if above is not None else ""]
    words.append(f"at most {most}" if most is not None else "")
    return "".join(f", {word}" for word in words if word)


def _default(made: dict[str, Any]) -> str:
    if "default" not in made:
        return "`{}`"
    return "not set" if made["default"] is None else f"`{json.dumps(made['default'])}`"


def _parted(description: str) -> tuple[str, str]:
    """Split a description. Return the description without the example at its end, and the example."""
    if description.endswith(": true or false."):
        return description.removesuffix(": true or false.") + ".", ""
    for match in re.finditer(r"(: |, such as )(?=[\"\[{0-9])", description):
        rest = description[match.end() :]
        try:
            _, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            continue
        if rest[end:] == ".":
            return description[: match.start()] + ".", rest[:end]
    return description, ""


if __name__ == "__main__":
    PAGE.write_text(page())
