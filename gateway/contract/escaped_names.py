r"""Recognizes JSON text in which names may be written with escapes, such as `"mod\u0065l"` for `"model"`."""

from __future__ import annotations

import re
from typing import Final

_ESCAPED: Final = re.compile(rb"\\u00(?:3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])")
"""Pattern for an escaped ASCII letter, digit or underscore. Real clients write no such escapes."""


def may_hide_names(text: bytes) -> bool:
    r"""Return whether JSON text has an escaped letter, digit or underscore, so that a search may not find a name in it.

    >>> escaped_names.may_hide_names(rb'{"mod\u0065l": "small"}'), escaped_names.may_hide_names(rb'{"x": "caf\u00e9"}')
    (True, False)
    """
    return _ESCAPED.search(text) is not None
