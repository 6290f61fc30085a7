"""Texts in the configuration that name the caller to a provider, such as the name of an AWS role session.

The templates `<user>` and `<node>` in a text are filled in. Characters that the provider does not accept are replaced.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final, NamedTuple

from gateway.money.quotas.definitions import TEMPLATES

_TEMPLATE: Final = re.compile("|".join(TEMPLATES))


class Subject(NamedTuple):
    """The login and the node of a caller. They replace the templates `<user>` and `<node>` in a text."""

    login: str
    node: str
    """The id of the caller's node. It is "" if it is unknown. In this case, `<node>` is replaced by the login."""


def filled(text: str, subject: Subject) -> str:
    values = {"<user>": subject.login, "<node>": subject.node or subject.login}
    return _TEMPLATE.sub(lambda match: values[match[0]], text) if "<" in text else text


def fitting(text: str, other: re.Pattern[str], lengths: range) -> str:
    """Return `text`, changed where necessary, so that the provider accepts it.

    `other` matches the characters that the provider does not accept. Each of them is replaced by a hyphen. `lengths`
    are the accepted lengths in characters. A changed text ends with a part of the original text's hash, so that
    different texts stay different. "" is returned unchanged, because it is not sent.
    """
    fit = other.sub("-", text)
    if not text or (fit == text and len(text) in lengths):
        return text
    return f"{fit[: lengths.stop - 10]}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
