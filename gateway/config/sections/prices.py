"""The section `prices`: the operator's own price file.

- The file is HuJSON with `rows` as in `gateway/money/prices/table.json`. The pydantic models of the rows are in
  `price_rows.py`.
- Faults are reported with their places in that file, together with the faults of the configuration. The file is watched
  for changes like the files of secrets.
- A row replaces the gateway's rows of the same model, or adds a model. If a row has a first day (`from`), the gateway's
  prices still apply before that day.
- Prices are applied in `gateway/money/prices/`.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any, Final

from gateway.config.check import check
from gateway.config.document.hujson import Document, HujsonError, Path, parse
from gateway.config.document.watch import stamps
from gateway.config.findings import Report
from gateway.config.reading import Reading
from gateway.config.sections.price_rows import (
    OWN_TIERS,
    PricesSection,
    RatesSection,
    RowSection,
    StepSection,
    TierSection,
)
from gateway.contract.capabilities import base_id, geo
from gateway.money.prices.rates import KINDS
from gateway.money.prices.rows import Entry

_NAMED: Final = ("book", "model", "geo", "from")
"""Keys that identify a row. Two rows must differ in at least one of them."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of a price file in bytes. The gateway's own table has about a twentieth of this size."""


def read_prices(name: str, reading: Reading) -> tuple[Entry, ...]:
    """Return the valid rows of the price file `name`. Return () if `name` is "", or if the file is unreadable."""
    if not name:
        return ()
    path = reading.folder / name
    reading.files |= stamps([path])
    text = _text(path, reading.report)
    if text is None:
        return ()
    try:
        document = parse(text)
    except HujsonError as error:
        report = Report(str(path), Document(text, None, {}))
        line, column = report.document.place(error.offset)
        reading.report.error(("prices",), f"{path}:{line}:{column}: {error}")
        return ()
    report = Report(str(path), document)
    for twice in document.duplicates:
        report.error(twice.path, f'duplicate key "{twice.path[-1]}"; keep one of them')
    section = check(PricesSection, document.value, (), report)
    rows = [_row(raw, ("rows", index), report) for index, raw in enumerate(section.rows if section else ())]
    _check_once(rows, report)
    reading.report.findings.extend(report.findings)
    return tuple(row for row in rows if row)


def _check_once(rows: Sequence[Entry | None], report: Report) -> None:
    """Report rows that have the same seller, model, region and day, because only one of them can be used."""
    seen: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(rows):
        first = index if row is None else seen.setdefault(tuple(row[name] for name in _NAMED), index)
        if first != index:
            report.error(("rows", index), f"is of the same model, region and day as rows[{first}]; keep one of them")


def _text(path: FilePath, report: Report) -> str | None:
    try:
        # reading from a pipe or a device could wait for ever
        if not stat.S_ISREG(path.stat().st_mode):
            report.error(("prices",), f"{path} is no regular file; write the prices into one")
            return None
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            report.error(("prices",), f"{path} is larger than {MAX_BYTES} bytes")
            return None
        return data.decode("utf-8-sig")
    except OSError as error:
        report.error(("prices",), f"{path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        report.error(("prices",), f"{path} is not UTF-8 text")
    return None


def _row(raw: Any, path: Path, report: Report) -> Entry | None:
    """Return a row of the price file, in the form of the gateway's own table. If it has faults, report them and return
    None.
    """
    section = check(RowSection, raw, path, report)
    if section is None:
        return None
    prices = _tier(section, path, report)
    tiers = {name: check(TierSection, getattr(section, name), (*path, name), report) for name in OWN_TIERS}
    own_tiers = {name: _tier(tier, (*path, name), report) for name, tier in tiers.items() if tier and name in raw}
    if not prices and not own_tiers:
        report.error(path, 'has no price; write some, such as "input": "3.30", "output": "16.50"')
    bedrock = section.book == "bedrock"
    return {
        "book": section.book,
        "model": base_id(section.model) if bedrock else section.model,
        "geo": section.geo or (geo(section.model) if bedrock else ""),
        "from": section.since,
        "source": section.source or report.file,
        **prices,
        **own_tiers,
    }


def _tier(section: TierSection, path: Path, report: Report) -> dict[str, Any]:
    tier: dict[str, Any] = _rates(section)
    steps = [check(StepSection, raw, (*path, "above", index), report) for index, raw in enumerate(section.above)]
    if steps:
        tier["above"] = [{"tokens": step.tokens, **_rates(step)} for step in steps if step]
    return tier


def _rates(section: RatesSection) -> dict[str, str]:
    return {kind: price for kind in KINDS if (price := getattr(section, kind)) is not None}
