"""The section `quotas`: budgets, which are buckets of money that refill over time.

Amounts in dollars are converted to integers of nanodollars here. Balances are kept in `gateway/money/quotas/`. Which
calls are charged to a quota is in `charges.py`. The keys are those of Aperture's documentation; the value `"notify"`
is an addition of this gateway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from gateway.config.fields import Money, Rate
from gateway.config.findings import Report
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.contract.record import NANODOLLARS
from gateway.money.quotas.definitions import TEMPLATES, OnExceed, Quota

SECONDS: Final[Mapping[str, int]] = {"min": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
"""Seconds of each unit in a rate. A month is 30 days (Aperture's documentation)."""

_TEMPLATE: Final = re.compile(r"<[^>]*>")
_MONEY: Final = TypeAdapter[str](Money)


class QuotaSection(Section):
    """A budget: a bucket of money that calls are charged to and that refills over time."""

    capacity: Money = Field(
        description='The most that the bucket holds, and what it starts with, in dollars: "$10.00".',
        examples=['"capacity": "$10.00"'],
    )
    rate: Rate | None = Field(
        None, description='What flows in, in dollars per min, hour, day, week or month (30 days): "$5.00/day".'
    )
    on_exceed: OnExceed = Field(
        "reject",
        description='What happens to calls when the bucket is empty: "reject", or "notify", which lets them through.',
    )


def nanodollars(text: str) -> int:
    """Return a sum such as `$10.00` in nanodollars, exactly. Raises `ValueError` for any other text."""
    try:
        _MONEY.validate_python(text, strict=True)
    except ValidationError as error:
        raise ValueError('must be a sum of dollars, such as "$10.00"') from error
    dollars, _, rest = text.removeprefix("$").partition(".")
    return int(dollars) * NANODOLLARS + int(rest.ljust(9, "0"))


def read_quotas(raw: Mapping[str, Any], reading: Reading) -> Mapping[str, Quota]:
    """Return the usable quotas, by name.

    A quota with an unknown template is left out, so that calls charged to it are refused.
    """
    quotas: dict[str, Quota] = {}
    prefixes: dict[str, str] = {}
    # quotas with a template are read first, because another quota may have the same name as one of their buckets
    for name, value in sorted(raw.items(), key=lambda item: not item[0].endswith(">")):
        section = reading.section(QuotaSection, value, ("quotas", name))
        sound = _check_name(name, prefixes, reading.report)
        if section is not None and sound:
            amount, unit = section.rate.split("/") if section.rate else ("$0", "min")
            quotas[name] = Quota(
                name=name,
                capacity=nanodollars(section.capacity),
                amount=nanodollars(amount),
                period_seconds=SECONDS[unit],
                rate=section.rate or "",
                on_exceed=section.on_exceed,
            )
    return MappingProxyType(quotas)


def _made_by(name: str, before: Mapping[str, str]) -> str:
    """Return the name of a quota whose template makes a bucket called `name` for some caller, or else `name`.

    `before` has the quotas with a template, by the part of their name before the template.
    """
    callers = {other: name.removeprefix(start) for start, other in before.items() if name.startswith(start)}
    made = (other for other, caller in callers.items() if "@" in caller or caller.startswith(("tag:", "(")))
    return next(made, name)


def _check_name(name: str, before: dict[str, str], report: Report) -> bool:
    """Return whether a quota's name has no template or a known template. Warn of a clash with another quota's buckets.

    `before` has the quotas with a template, by the part of their name before the template. This quota is added to
    `before` if it has a template.
    """
    templates = _TEMPLATE.findall(name)
    if templates and not (len(templates) == 1 and templates[0] in TEMPLATES and name.endswith(f":{templates[0]}")):
        known = " or ".join(TEMPLATES)
        report.warn(("quotas", name), f'unsupported quota template; a name may end with one of {known} after a ":"')
        return False
    other = before.setdefault(_TEMPLATE.sub("", name), name) if templates else _made_by(name, before)
    if other != name:
        report.warn(("quotas", name), f'shares its buckets\' names with "{other}"; give them different names')
    return True
