"""Macros: `${NAME}` in a string of the document is replaced by the value of an environment variable.

- Macros are replaced before the document is checked. A macro in a JSON key, or in the value of a variable, is not
  replaced.
- Macros are allowed only in secrets, URLs and addresses (`PLACES`). Other values, such as a description, are shown to
  callers. A macro there would let anybody who may edit the document read the environment.
- `Document.text` keeps its macros. So pages and the API show names of variables, not their values.

The message about unknown macros is taken from Aperture's documentation. Aperture does not document the syntax of a
macro, so the shell's syntax is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.config.document.hujson import Document, Path
from gateway.config.document.path_patterns import fits

MACRO: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

PLACES: Final = (
    ("providers", "*", "apikey"),
    ("providers", "*", "apikeys", "*"),
    ("providers", "*", "baseurl"),
    ("providers", "*", "add_headers", "*"),
    ("grants", "*", "app", "*", "*", "add_headers", "*"),
    ("temp_grants", "*", "app", "*", "*", "add_headers", "*"),
    ("temp_grants", "*", "grants", "*", "add_headers", "*"),
    ("hooks", "*", "apikey"),
    ("hooks", "*", "url"),
    ("exporters", "s3", "access_key_id"),
    ("exporters", "s3", "access_secret"),
    ("mcp", "servers", "*", "url"),
    ("connectors", "servers", "*", "url"),
    ("connectors", "servers", "*", "auth", "**"),
    ("server", "listeners", "*", "listen"),
    ("server", "listeners", "*", "tailscaled"),
    ("metrics", "listen"),
    ("storage", "url"),
    ("storage", "read_url"),
    ("storage", "password"),
)
"""Patterns for the paths of the values in which macros (`${NAME}`) are replaced.

Callers cannot see the values at these paths. A replaced macro in any other value could show a secret to callers.
"""
MISPLACED: Final = (
    "macros may only stand where a value is not shown: in apikey, apikeys, baseurl, url and add_headers, in the "
    "secrets of exporters and connectors, in listen, tailscaled and storage; write the value itself"
)


@dataclass(slots=True)
class Substitution:
    """The result of replacing the macros in a document: the faults, and the inserted values."""

    environ: Mapping[str, str]
    faults: list[tuple[Path, str]] = field(default_factory=list)
    """Paths of strings with unknown or misplaced macros, and the message for each."""
    values: dict[str, str] = field(default_factory=dict)
    """Maps each inserted value to the macro that it replaced, such as `${NAME}`."""

    def of(self, document: Document) -> Document:
        return replace(document, value=self._value(document.value, ()))

    def _value(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            return self._text(value, path) if "${" in value else value
        if isinstance(value, dict):
            return {key: self._value(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _text(self, text: str, path: Path) -> str:
        """Return the text with its macros replaced, or unchanged if a macro is unknown or misplaced."""
        names = list(dict.fromkeys(MACRO.findall(text)))
        if not names:
            return text
        if not fits(path, PLACES):
            # the message does not reveal whether the variable exists
            self.faults.append((path, MISPLACED))
            return text
        if unknown := [name for name in names if name not in self.environ]:
            self.faults.append((path, f"unsubstituted macros: [{', '.join(unknown)}]"))
            return text
        self.values.update({self.environ[name]: f"${{{name}}}" for name in names})
        return MACRO.sub(lambda match: self.environ[match[1]], text)
