"""Reads `quotas`, and what capabilities say of quotas and rate limits.

What a bucket holds while calls are made is in `gateway.money.quotas`. An amount is an integer from here on:
nanodollars, tokens or requests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from gateway.config.check import check
from gateway.config.document.hujson import Path
from gateway.config.fields import Money
from gateway.config.findings import Report
from gateway.config.model import Quota, RateLimit
from gateway.config.reading import Reading
from gateway.config.schema import CapabilitySection
from gateway.config.sections.quotas_model import BucketSection, QuotaSection, RateLimitSection

TEMPLATES: Final = ("<user>", "<node>")
"""What a quota's name may hold after a colon: a bucket for each of them."""
SECONDS: Final[Mapping[str, int]] = {"min": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
"""Of the units of a rate; a month is 30 days (aperture.md section 1.6)."""
NANODOLLARS: Final = 1_000_000_000

_TEMPLATE: Final = re.compile(r"<[^>]*>")
_MONEY: Final = TypeAdapter[str](Money)


class Charges(NamedTuple):
    """What a capability's calls are charged to."""

    quotas: tuple[str, ...]
    rate_limits: tuple[RateLimit, ...]


def nanodollars(text: str) -> int:
    """A sum of dollars such as `$10.00`, exactly. Raises `ValueError` with what would be right."""
    try:
        _MONEY.validate_python(text, strict=True)
    except ValidationError as error:
        raise ValueError('must be a sum of dollars, such as "$10.00"') from error
    dollars, _, rest = text.removeprefix("$").partition(".")
    return int(dollars) * NANODOLLARS + int(rest.ljust(9, "0"))


def read_quotas(raw: Mapping[str, Any], reading: Reading) -> Mapping[str, Quota]:
    """Those that can be used, by name. One with a template that is not known is left out, so it refuses every call."""
    found: dict[str, Quota] = {}
    prefixes: dict[str, str] = {}
    # those with a template first, since others may be called like a bucket of theirs
    for name, value in sorted(raw.items(), key=lambda item: not item[0].endswith(">")):
        section = reading.section(QuotaSection, value, ("quotas", name))
        sound = _check_name(name, prefixes, reading.report)
        if section is not None and sound:
            amount, unit = section.rate.split("/") if section.rate else ("$0", "min")
            found[name] = Quota(
                name=name,
                capacity=nanodollars(section.capacity),
                amount=nanodollars(amount),
                period_seconds=SECONDS[unit],
                rate=section.rate or "",
                on_exceed=section.on_exceed,
            )
    return MappingProxyType(found)


def charges(section: CapabilitySection, path: Path, report: Report) -> Charges | None:
    """What a capability says of quotas and limits; None after faults in it were reported."""
    buckets = [check(BucketSection, raw, (*path, "quotas", index), report) for index, raw in enumerate(section.quotas)]
    limits = [
        check(RateLimitSection, raw, (*path, "rate_limits", index), report)
        for index, raw in enumerate(section.rate_limits)
    ]
    if None in buckets or None in limits:
        return None
    quotas = dict.fromkeys(bucket.bucket for bucket in buckets if bucket)
    return Charges(tuple(quotas), tuple(_limit(limit, section) for limit in limits if limit))


def check_quotas(section: CapabilitySection, path: Path, defined: Collection[str], report: Report) -> None:
    """Warn of quotas that a capability names and nobody defines."""
    for index, raw in enumerate(section.quotas):
        name = raw.get("bucket") if isinstance(raw, dict) else None
        if isinstance(name, str) and name not in defined:
            message = f'quotas references undefined quota "{name}"{report.hint(name, defined)}'
            report.warn((*path, "quotas", index, "bucket"), message)


def _limit(section: RateLimitSection, given: CapabilitySection) -> RateLimit:
    rate = section.requests or section.tokens or ""
    amount, unit = rate.split("/")
    return RateLimit(
        kind="requests" if section.requests else "tokens",
        amount=int(amount),
        period_seconds=SECONDS[unit],
        rate=rate,
        by_model=(section.per or ("user_model" if given.models else "user")) == "user_model",
    )


def _made_by(name: str, before: Mapping[str, str]) -> str:
    """The name with a template that makes a bucket of just this name for somebody; else the name itself."""
    callers = {other: name.removeprefix(start) for start, other in before.items() if name.startswith(start)}
    made = (other for other, caller in callers.items() if "@" in caller or caller.startswith(("tag:", "(")))
    return next(made, name)


def _check_name(name: str, before: dict[str, str], report: Report) -> bool:
    """Whether the template of a name is one of those that there are. `before` are the names by what is before it."""
    found = _TEMPLATE.findall(name)
    if found and not (len(found) == 1 and found[0] in TEMPLATES and name.endswith(f":{found[0]}")):
        known = " or ".join(TEMPLATES)
        report.warn(("quotas", name), f'unsupported quota template; a name may end with one of {known} after a ":"')
        return False
    other = before.setdefault(_TEMPLATE.sub("", name), name) if found else _made_by(name, before)
    if other != name:
        report.warn(("quotas", name), f'shares its buckets\' names with "{other}"; give them different names')
    return True
