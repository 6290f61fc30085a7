"""Compares a value with a JSON file, for tests. Ids and times that differ between runs are replaced first."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

_IDS: Final = re.compile(
    r"(\b(?:chatcmpl-|msg_|resp_|rs_|fc_|ctc_|call_|toolu_|tooluse_|irisgate_)|\"responseId\": ?\")"
    r"(?:bdrk_)?[0-9A-Za-z]{16,}\b"
)
_TIMES: Final = re.compile(r'("(?:created|created_at|completed_at)": ?)\d{10}(?:\.\d+)?')


def compare(path: Path, value: Any, *, rewrite: bool) -> None:
    """Fail the test if the file and the value differ. If `rewrite` is true, first write the value to the file."""
    text = golden_text(value)
    if rewrite:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if not path.exists():
        pytest.fail(f"{path} is missing; write it with --irisgate-rewrite-golden and read it", pytrace=False)
    if text != (expected := path.read_text(encoding="utf-8")):
        lines = difflib.unified_diff(expected.splitlines(), text.splitlines(), str(path), "now", lineterm="")
        pytest.fail("\n".join(lines), pytrace=False)


def golden_text(value: Any) -> str:
    """Return a value as indented JSON, with a number in place of each id and 0 in place of each time.

    Ids are numbered in the order in which they first appear.
    """
    return Mask()(json.dumps(value, ensure_ascii=False, indent=1)) + "\n"


class Mask:
    """Replaces ids and times that differ between runs. One mask replaces equal ids by equal numbers."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        return _IDS.sub(self._number, _TIMES.sub(r"\g<1>0", text))

    def _number(self, match: re.Match[str]) -> str:
        number = self._numbers.setdefault(match[0], len(self._numbers) + 1)
        return f"{match[1]}made-{number}"
