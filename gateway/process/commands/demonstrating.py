"""The command `irisgate demo`."""

from __future__ import annotations

import argparse

from gateway.process.common_options import add_state_options, default_state, listener_of, registry_of, state_folder
from gateway.process.output import UsageError
from gateway.process.serve import CannotStart


def prepare_demo(parser: argparse.ArgumentParser) -> None:
    calls = parser.add_mutually_exclusive_group()
    calls.add_argument(
        "--real", action="store_true", help="the real Bedrock, by AWS_BEARER_TOKEN_BEDROCK and AWS_REGION; costs money"
    )
    calls.add_argument("--sample", action="store_true", help="fill the pages with a month of invented calls")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default="127.0.0.1:8080", help="default: %(default)s, or the next free port"
    )
    # the demo has a separate state folder, because its calls must not count as real usage and because another gateway
    # may run at the same time
    add_state_options(parser, default_state() / "demo")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from gateway.process.demo import demo  # noqa: PLC0415 (the testkit is an extra)

    listener = listener_of(options.listen)
    try:
        return demo(
            registry_of(options), state=state_folder(options), listen=listener, real=options.real, sample=options.sample
        )
    except CannotStart as error:
        raise UsageError(f"irisgate demo: {error}") from None
