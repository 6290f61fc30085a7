"""The command `irisgate explain`: explains why a caller may or may not use a model, or send a direct request.

It needs only the configuration file. `gateway/call/explain` makes the explanation, and the command line prints it.
"""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from gateway.access.identity.caller import Identity
from gateway.call.explain.direct import NoSuchRequest, direct_text, explain_direct, method_and_path
from gateway.call.explain.explain import POLICY_UNKNOWN, NoSuchCaller, explain, somebody
from gateway.call.explain.text import explanation_text
from gateway.call.runtime import runtime
from gateway.config.model import Config

LONGEST_NAME: Final = 1000
"""Maximum number of characters in the name of a caller or of a model."""


class BadName(Exception):
    """The error for a bad caller name or model name. The message gives the option and the reason in one line."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add to the parser the options for the caller, for the model or direct request to explain, and for JSON output."""
    parser.add_argument(
        "--as", dest="login", metavar="LOGIN", default="", help='who, such as "(loopback)" or "tag:api,tag:prod"'
    )
    parser.add_argument("--group", action="append", default=[], help="a group that they are in; may be repeated")
    parser.add_argument("--tag", action="append", default=[], help="a tag of the node; may be repeated")
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--model", help="the model, an alias, or provider/model")
    question.add_argument("--direct", metavar="REQUEST", help='such as "GET /direct/openai/v1/files"')
    parser.add_argument("--json", action="store_true", help="print what GET /api/explain answers")


def caller(options: argparse.Namespace) -> Identity:
    """Return the caller that the options name.

    Raises `BadName` if a name in the options (of the caller or of the model) is blank, too long or not printable. Also
    raises `BadName` if no single caller can have the given login, groups and tags together.
    """
    # with "" as their default, argparse would take an empty name for a missing option
    options.model, options.direct = options.model or "", options.direct or ""
    _check_names(options)
    try:
        return somebody(options.login, options.group, options.tag)
    except NoSuchCaller as error:
        raise BadName(f"--as: {error}") from None


def _check_names(options: argparse.Namespace) -> None:
    if not options.direct and not options.model.strip():
        raise BadName("--model: the name is empty")
    if options.login and not options.login.strip():
        raise BadName("--as: the name is empty")
    for option, text in (("--model", options.model), ("--direct", options.direct), ("--as", options.login)):
        if not text.isprintable():
            raise BadName(f"{option}: the name holds characters that cannot be printed")
        if len(text) > LONGEST_NAME:
            raise BadName(f"{option}: the name has more than {LONGEST_NAME} characters")
    if options.direct:
        try:
            method_and_path(options.direct)
        except NoSuchRequest as error:
            raise BadName(f"--direct: {error}") from None


def explanation(options: argparse.Namespace, identity: Identity, config: Config) -> tuple[str, bool]:
    """Return the explanation, as JSON or as text for a terminal, and whether the caller may do what is asked for."""
    if options.direct:
        return _direct(options, identity, config)
    made = explain(runtime(config), identity, options.model, note=POLICY_UNKNOWN)
    return orjson.dumps(made).decode() if options.json else explanation_text(made), made.allowed


def _direct(options: argparse.Namespace, identity: Identity, config: Config) -> tuple[str, bool]:
    made = explain_direct(runtime(config), identity, options.direct, note=POLICY_UNKNOWN)
    return orjson.dumps(made).decode() if options.json else direct_text(made), made.allowed
