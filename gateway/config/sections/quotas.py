"""The section `quotas`: budgets in dollars, which refill steadily or at the start of a calendar period.

Dollars are converted to integer nanodollars here. Balances are kept in `gateway/money/quotas/`. `charges.py` reads
which quotas pay for a call. The keys are those of Aperture's documentation, except `reset`, `time_zone` and the value
`"notify"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from gateway.config.fields import Money, Rate
from gateway.config.findings import Report
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.contract.record import NANODOLLARS
from gateway.money.quotas.definitions import TEMPLATES, OnExceed, Quota
from gateway.money.quotas.windows import UTC_ZONE, Unit, UnknownZone, Window, time_zone

SECONDS: Final[Mapping[str, int]] = {"min": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
"""Seconds of each unit in a rate. A month is 30 days (Aperture's documentation)."""

_TEMPLATE: Final = re.compile(r"<[^>]*>")
_MONEY: Final = TypeAdapter[str](Money)


def _zone(value: str) -> str:
    try:
        time_zone(value)
    except UnknownZone:
        message = (
            'is no time zone that this machine knows; write one such as "Europe/Berlin". If the machine has no time '
            "zones, install the package tzdata"
        )
        raise ValueError(message) from None
    return value


TimeZone = Annotated[str, AfterValidator(_zone)]


class QuotaSection(Section):
    """A budget: a bucket of money that pays for calls. It refills over time or with the calendar."""

    capacity: Money = Field(
        description='The most dollars that the bucket can hold, and its first balance: "$10.00".',
        examples=['"capacity": "$10.00"'],
    )
    rate: Rate | None = Field(
        None, description='The refill in dollars per min, hour, day, week or month (30 days): "$5.00/day".'
    )
    reset: Unit | None = Field(
        None,
        description='The calendar window at whose start the bucket is filled, in place of "rate": "month".',
    )
    time_zone: TimeZone = Field(
        UTC_ZONE, description='The time zone of "reset", in which a week begins on Monday: "Europe/Berlin".'
    )
    on_exceed: OnExceed = Field(
        "reject",
        description='What happens to calls if the bucket is empty: "reject" '
        'refuses them, and "notify" lets them through.',
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
    """Return the quotas that have no faults. The keys are their names.

    An unknown template in a name, such as `<team>`, is a fault. Calls that are charged to a quota with a fault are
    refused.
    """
    quotas: dict[str, Quota] = {}
    prefixes: dict[str, str] = {}
    # quotas with a template are read first, because another quota may have the same name as one of their buckets
    for name, value in sorted(raw.items(), key=lambda item: not item[0].endswith(">")):
        section = reading.section(QuotaSection, value, ("quotas", name))
        sound = _check_name(name, prefixes, reading.report)
        if section is not None and sound and _one_refill(section, name, reading.report):
            quotas[name] = _quota(name, section)
    return MappingProxyType(quotas)


def _quota(name: str, section: QuotaSection) -> Quota:
    amount, unit = section.rate.split("/") if section.rate else ("$0", "min")
    return Quota(
        name=name,
        capacity=nanodollars(section.capacity),
        amount=nanodollars(amount),
        period_seconds=SECONDS[unit],
        rate=section.rate or "",
        on_exceed=section.on_exceed,
        window=Window(section.reset, section.time_zone) if section.reset else None,
    )


def _one_refill(section: QuotaSection, name: str, report: Report) -> bool:
    """Return whether a quota has at most one kind of refill: steady (`rate`) or by the calendar (`reset`).

    Report an error if it has both, because calls could then use up to twice the quota's capacity in one period. Warn
    of a time zone without `reset`, because the time zone then has no effect.
    """
    if section.reset and section.rate:
        report.error(("quotas", name, "reset"), 'is in the place of "rate"; keep one of them')
        return False
    if section.time_zone != UTC_ZONE and not section.reset:
        report.warn(("quotas", name, "time_zone"), 'has no effect without "reset"')
    return True


def _made_by(name: str, before: Mapping[str, str]) -> str:
    """Return the earlier quota with a template that may make a bucket of the same name as the quota `name`. If there is
    none, return `name`.

    A quota with a template makes a bucket for each caller. For example, `team:<user>` makes the bucket
    `team:ann@example.com` for Ann. `before` maps the part before the template (`team:`) to the whole name of the quota
    (`team:<user>`).
    """
    callers = {other: name.removeprefix(start) for start, other in before.items() if name.startswith(start)}
    made = (other for other, caller in callers.items() if "@" in caller or caller.startswith(("tag:", "(")))
    return next(made, name)


def _check_name(name: str, before: dict[str, str], report: Report) -> bool:
    """Return whether a quota's name is valid. Warn if an earlier quota could have a bucket of the same name.

    A name may end with one of `TEMPLATES` after a colon, as in `team:<user>`. Any other use of a template is invalid.
    `before` has the earlier names with a template. It maps the part before the template (`team:`) to the whole name. If
    `name` has a template, it is added.
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
