"""The command `irisgate prices`."""

from __future__ import annotations

import argparse
from typing import Final

from gateway.config.findings import escape_control
from gateway.process import prices_command as prices
from gateway.process.output import UsageError, say

MAX_PRICE_LISTS: Final = 2


def prepare_prices(parser: argparse.ArgumentParser) -> None:
    about = parser.add_subparsers(dest="about", required=True, metavar="WHAT")
    described = (
        "Print what differs between two price lists: suspicious prices first, then changed, new and dropped rows. "
        "The exit status is 1 if a price is suspicious: hardly believable, or changed by half or more."
    )
    comparing = about.add_parser("diff", help="print what differs between two price lists", description=described)
    prices.arguments(comparing)
    comparing.set_defaults(run=_prices_diff)


def _prices_diff(options: argparse.Namespace) -> int:
    if not 1 <= len(options.files) <= MAX_PRICE_LISTS:
        raise UsageError("irisgate prices diff: name one or two price lists")
    try:
        text, differences = prices.differences(options.files)
    except prices.NoPrices as error:
        raise UsageError(f"irisgate prices diff: {error}") from None
    say("\n".join(map(escape_control, text.split("\n"))))
    return 1 if differences.doubts else 0
