"""Macros: `${NAME}` in a string of the document stands for a variable of the environment.

They are put in before anything is checked, in values and never in keys, and what they bring is not searched for macros
again. The document as it was read keeps them, so whatever shows it shows names and no values. Source of the message:
aperture.md sections 1.1 and 1.12; the form of a macro is nowhere documented, this one is the shell's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.config.hujson import Document, Path

_MACRO: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(slots=True)
class Substitution:
    """One pass over a document."""

    environ: Mapping[str, str]
    missing: list[tuple[Path, list[str]]] = field(default_factory=list)
    """Places of strings with macros that nothing is known for, and their names."""
    values: dict[str, str] = field(default_factory=dict)
    """What was put in, by value: the macro."""

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
        """Unchanged where a macro is unknown."""
        names = list(dict.fromkeys(_MACRO.findall(text)))
        if unknown := [name for name in names if name not in self.environ]:
            self.missing.append((path, unknown))
            return text
        self.values.update({self.environ[name]: f"${{{name}}}" for name in names})
        return _MACRO.sub(lambda match: self.environ[match[1]], text)
