"""The commands `irisgate usage` and `irisgate providers`, which send requests to a running gateway."""

from __future__ import annotations

import argparse

from gateway.process.output import UsageError, say
from gateway.web import provider_table
from gateway.web.usage import command as usage


def prepare_usage(parser: argparse.ArgumentParser) -> None:
    usage.arguments(parser)
    parser.set_defaults(run=_ask, answer=usage.answer)


def prepare_providers(parser: argparse.ArgumentParser) -> None:
    provider_table.arguments(parser)
    parser.set_defaults(run=_ask, answer=provider_table.answer)


def _ask(options: argparse.Namespace) -> int:
    try:
        answer: bytes = options.answer(options)
    except (usage.BadUsage, usage.NoUsage, provider_table.NoHealth) as error:
        raise UsageError(f"irisgate {options.command}: {error}") from None
    # written as bytes, because a text stream would change the line ends of CSV
    say(answer if answer.endswith(b"\n") else answer + b"\n")
    return 0
