"""Reads a provider's refusal of a beta, and chooses the betas to leave out of the next attempt.

- If the error message names a beta, this beta is left out.
- If the message names a field that the provider does not know, the beta of this field is left out.
- If the message names neither a beta nor a field, one beta is left out: a beta that `betas.json` does not list for the
  provider's API. If all are listed, the newest is left out.
- Each attempt costs time. Therefore, after `_SINGLE` betas have been left out one by one, all others are left out
  together.
- A beta's fields are left out with it (`beta_members.py`). A beta with essential fields is never left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.contract import errors
from gateway.contract.errors import Problem
from gateway.contract.flag import ClientRequest
from gateway_plugins.dialects.anthropic_messages import beta_members
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas

_SINGLE: Final = 3
"""Number of betas that are left out one at a time, each followed by a new attempt. If the provider still refuses the
request, all other betas are left out at once. Claude Code sends up to ten betas."""
_UNKNOWN_MEMBER: Final = "extra inputs are not permitted"
"""Text in the error message of Anthropic and Bedrock for an unknown field."""
_DATE: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})$")


def is_refusal(problem: Problem) -> bool:
    """Return whether an error may be the refusal of a beta or of a beta's field."""
    message = problem.message.lower()
    words = (_UNKNOWN_MEMBER, *messages_betas.refusal_words())
    return problem.code == errors.INVALID_REQUEST and any(word in message for word in words)


def retry(request: ClientRequest, sent: Sequence[str], envelope: str, problem: Problem) -> ClientRequest | None:
    """Return the request without the betas that the provider refused, or None if nothing more can be left out.

    `sent` are the betas of the refused request. `envelope` names the provider's API (`betas.py`).
    """
    refused = [name for name in _refused(request, sent, envelope, problem) if name not in request.without]
    return replace(request, without=(*request.without, *refused)) if refused else None


def _refused(request: ClientRequest, sent: Sequence[str], envelope: str, problem: Problem) -> list[str]:
    message = problem.message.lower()
    if _UNKNOWN_MEMBER in message:
        features = beta_members.features()
        return [each.beta for each in features if not each.essential and _names(message, each.words)]
    essential = {feature.beta for feature in beta_members.features() if feature.essential}
    candidates = [name for name in sent if name not in essential]
    if named := [name for name in sent if name.lower() in message]:
        return [name for name in named if name in candidates]
    if len(request.without) >= _SINGLE:
        return candidates
    return sorted(candidates, key=lambda name: (messages_betas.is_listed(name, envelope), _age(name)))[:1]


def _names(message: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"\b{re.escape(word)}\b", message) for word in words)


def _age(name: str) -> tuple[int, ...]:
    """Return a sort key that puts newer betas first. A beta without a date counts as the newest."""
    date = _DATE.search(name)
    return tuple(-int(part) for part in date.groups()) if date else (-9999,)
