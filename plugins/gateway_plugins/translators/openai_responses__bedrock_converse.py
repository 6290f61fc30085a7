"""Translation of OpenAI Responses requests to Bedrock Converse, and of the replies back."""

from __future__ import annotations

from gateway.contract.flag import ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.mappings import from_responses, plain_to_converse

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    return from_responses.translate(
        request,
        target,
        drop,
        upstream="bedrock_converse",
        convert=plain_to_converse.convert,
        read_reply=converse_walk.Reader,
    )
