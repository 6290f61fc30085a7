"""The patterns that recognise a secret: names of keys and headers, parts of URLs, and texts in comments.

- A pattern must match any text in linear time, because a configuration may be hostile.
- A value that only refers to a secret (`env:`, `file:`, a macro) is not a secret itself.
- The offsets of secrets in a document are found in `secret_spans.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final

from gateway.config.document.hujson import Path, String
from gateway.config.document.macros import MACRO
from gateway.config.document.path_patterns import fits
from gateway.config.document.secrets import ENVIRONMENT_NAME, HELPER, HELPER_NAME, KEYFILE, file_of

_NAME: Final = r"(?:(?:(?:api|access|private)[_-]?key|secret|passw|passphrase|pwd|credential)[\w-]{0,20}|tokens?)"
_SECRET_NAME: Final = re.compile(rf"(?i){_NAME}$")
_SECRET_LEAF: Final = re.compile(r"(?i)(?:^|[_-])(?:bearer|key)$")
"""Pattern for JSON keys, such as `x-api-key`, that show that a string is secret.

Only the string's own key is compared with this pattern, and not the keys of enclosing objects.
"""
_AUTHORIZATION: Final = re.compile(r"(?i)(?:^|[_-])auth(?:orization)?$")
"""Pattern for keys such as `authorization`. Their value is either a secret or the name of an authorization scheme."""
_MODE: Final = re.compile(r"[a-z_-]{0,32}|sigv4")
"""Pattern for the names of authorization schemes, such as `bearer`."""
_SECRET_HEADER: Final = re.compile(r"auth|cookie|key|token|secret|password|credential", re.IGNORECASE)
_HEADERS: Final = "add_headers"
_CHOSEN: Final = (
    ("providers", "*"),
    ("providers", "*", "apikeys", "*"),
    ("providers", "*", "aws", "assume_role", "session_tags", "*"),
    ("exporters", "s3", "aws", "assume_role", "session_tags", "*"),
    ("providers", "*", "request_metadata", "*"),
    ("providers", "*", "base_models", "*"),
    ("providers", "*", "capabilities", "*"),
    ("providers", "*", "compatibility", "*"),
    ("hooks", "*"),
    ("quotas", "*"),
    ("plugins", "*"),
    ("mcp", "servers", "*"),
    ("connectors", "servers", "*"),
    ("model_aliases", "models", "*"),
)
"""Paths of keys that people choose. Such a key says nothing about its value: a provider may be called `token`."""
_MACRO: Final = re.compile(rf"(?i:(?:bearer|basic) )?{MACRO.pattern}")
_KEYFILE_PATH: Final = re.compile(r"(?:\.{0,2}|~)/.*|[\w./-]{1,200}\.json", re.ASCII)

_IN_URL: Final = (
    # the password, or the user name in a URL without a password, because a token is often written there
    re.compile(r"://[^/?#\s\"@:]*:(?P<secret>[^@\s\"/]+)@"),
    re.compile(r"://(?P<secret>[^/?#\s\"@:]+):?@"),
    re.compile(
        r"(?i)[?&#][\w.-]{0,40}?(?:token|key|secret|passw(?:or)?d|pwd|auth|sig|signature|credential|code)[\w-]{0,20}="
        r"(?P<secret>[^&#\s\"]+)"
    ),
)
_GAP: Final = r"\s*+(?://\s*+)?"
_LABEL: Final = rf"(?i)(?:{_NAME}|(?<![a-z])(?:bearer|key))"
_MODE_LABEL: Final = r"(?i)(?<![a-z])auth(?:orization)?"
_IN_QUOTES: Final = rf"[\"']?{_GAP}[:=]{_GAP}(?:\"(?P<%s>(?:[^\"\\\n]|\\.)+)\"|'(?P<%s_>[^'\n]+)')"
# a word is a key only if it has a digit; this is checked after the match, since a look-ahead takes quadratic time
_IN_COMMENT: Final = (
    re.compile(_LABEL + _IN_QUOTES % ("secret", "secret")),
    re.compile(_MODE_LABEL + _IN_QUOTES % ("mode", "mode")),
    re.compile(rf"{_LABEL}\s*+[:=]\s*+(?P<word>[^\s\"',;]{{6,}})"),
    re.compile(r"(?i)\b(?:bearer|basic)\s+(?P<word>[\w+/.~=-]{8,})"),
    re.compile(r"\b(?P<secret>(?:sk-|ABSK|AKIA|ASIA|AIza|bedrock-api-key-)[\w+/=-]{12,})"),
    *_IN_URL,
)
"""Patterns for secrets in comments: values of keys that were commented out, API keys with a well-known prefix, and
parts of URLs.
"""
_DIGIT: Final = re.compile(r"[0-9]")
_HEADER_IN_COMMENT: Final = re.compile(r"(?<!\\)\"(?P<name>[\w-]+)\s*:\s*(?P<secret>(?:[^\"\\\n]|\\.)+)\"")


def is_chosen(path: Path) -> bool:
    """Return whether the JSON key at `path` is a name that people chose, such as a provider's name."""
    return fits(path, _CHOSEN)


def is_header(path: Path) -> bool:
    """Return whether the string at `path` is an entry of `add_headers`."""
    return _HEADERS in path


def is_secret(path: Path) -> bool:
    """Return whether the key at `path`, or the key of an enclosing object, is a name for secrets."""
    return any(
        isinstance(step, str) and _SECRET_NAME.search(step) and not is_chosen(path[: at + 1])
        for at, step in enumerate(path)
    )


def is_secret_value(string: String) -> bool:
    """Return whether the JSON key of a string says that the string is secret.

    If the key is one such as `authorization`, a string that is only the name of a scheme, such as `bearer`, is not
    secret.
    """
    path = string.path
    leaf = next((at for at in reversed(range(len(path))) if isinstance(path[at], str)), -1)
    if leaf < 0 or is_chosen(path[: leaf + 1]):
        return False
    name = str(path[leaf])
    in_headers = any(isinstance(step, str) and step.lower() == "headers" for step in path[:leaf])
    if _SECRET_LEAF.search(name) or (in_headers and _SECRET_HEADER.search(name)):
        return True
    return bool(_AUTHORIZATION.search(name)) and not _MODE.fullmatch(string.value)


def is_reference(value: str) -> bool:
    """Return whether a value only says where a secret is, such as `env:NAME`.

    - `keyfile::PATH` is a reference. `keyfile::` followed by the service account itself is a secret.
    - `exec:NAME` is a reference. `exec:NAME ARGUMENTS` is not, because the arguments may be secret.
    """
    kind, colon, rest = value.partition(":")
    if colon and kind == "env":
        return bool(ENVIRONMENT_NAME.fullmatch(rest))
    if value.startswith(HELPER):
        return bool(HELPER_NAME.fullmatch(rest))
    if value.startswith(KEYFILE):
        return bool(_KEYFILE_PATH.fullmatch(value, len(KEYFILE)))
    return file_of(value, FilePath()) is not None or is_macro(value)


def is_macro(value: str) -> bool:
    """Return whether a value is a single macro (`${NAME}`), alone or after `Bearer` or `Basic`."""
    return bool(_MACRO.fullmatch(value))


def secrets_in_url(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of secrets in the URLs of a text: passwords, user names without a password, and query values."""
    for pattern in _IN_URL:
        for match in pattern.finditer(text):
            if not is_macro(match["secret"]):
                yield match.span("secret")


def has_secret_in_url(text: str) -> bool:
    """Return whether a text has a URL with a part for secrets, such as a password or a token in the query.

    The value of this part does not matter. It may be a macro (`${NAME}`).
    """
    return any(pattern.search(text) for pattern in _IN_URL)


def secrets_in_comment(comment: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of secrets in a comment. The ranges are not sorted and may overlap."""
    for pattern in _IN_COMMENT:
        for match in pattern.finditer(comment):
            group = match.lastgroup or ""
            if not _is_prose(match[group], group):
                yield match.span(group)
    every = _HEADERS in comment
    for match in _HEADER_IN_COMMENT.finditer(comment):
        if (every or _SECRET_HEADER.search(match["name"])) and not is_macro(match["secret"]):
            yield match.span("secret")


def _is_prose(text: str, group: str) -> bool:
    """Return whether a text in a comment is harmless, although a pattern for secrets has matched it.

    A plain word, a reference such as `env:NAME`, and an authorization scheme such as `bearer` are harmless. `group` is
    the name of the group of the pattern that matched.
    """
    if group == "word" and not _DIGIT.search(text):
        return True
    return is_reference(text) or (group.startswith("mode") and bool(_MODE.fullmatch(text)))
