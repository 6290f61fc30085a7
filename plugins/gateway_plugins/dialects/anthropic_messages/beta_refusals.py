"""Reads a provider's refusal of a beta, and chooses the betas to leave out of the next attempt.

- The beta that the error message names is left out. If the message names none, a beta is left out that `betas.json`
  does not list for the provider's API, or else the newest beta.
- Each attempt costs time. So after `_SINGLE` betas have been left out one by one, all others are left out at once.
- With a beta, the members that need the beta are left out (`beta_members.py`). A beta with essential members is never
  left out.
- If the message names a member that the provider does not know, the beta that this member needs is left out.
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
"""Number of betas that are left out one by one. Then all others are left out at once. Claude Code sends up to ten
betas."""
_UNKNOWN_MEMBER: Final = "extra inputs are not permitted"
"""Part of the error message of Anthropic and Bedrock for a member that they do not know."""
_DATE: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})$")


def is_refusal(problem: Problem) -> bool:
    """Return whether a beta, or a member that needs a beta, may be the reason of a provider's refusal."""
    message = problem.message.lower()
    words = (_UNKNOWN_MEMBER, *messages_betas.refusal_words())
    return problem.code == errors.INVALID_REQUEST and any(word in message for word in words)


def retry(request: ClientRequest, sent: Sequence[str], envelope: str, problem: Problem) -> ClientRequest | None:
    """Return the request without the betas that the provider refused; None if it refused no beta that was sent.

    `sent` are the betas of the refused request.
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
    """Return a sort key with which newer betas come first. A beta without a date counts as the newest."""
    date = _DATE.search(name)
    return tuple(-int(part) for part in date.groups()) if date else (-9999,)
