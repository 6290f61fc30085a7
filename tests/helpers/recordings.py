"""Recorded Bedrock traffic, read from a folder beside the checkout if there is one."""

import base64
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "recorded-bedrock"


def exchanges(*operations, status=None):
    """Return values for `pytest.mark.parametrize`: one for each recorded exchange of these operations.

    Exchanges whose request was damaged in the recording are left out. If no exchange is left, the test is skipped.
    """
    if not FOLDER.is_dir():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason=f"recordings: {FOLDER.name} is not beside the checkout"))
        ]
    return [
        pytest.param(exchange, id=f"{path.stem}-{number}")
        for path in sorted(FOLDER.glob("*.json"))
        for number, exchange in enumerate(json.loads(path.read_text()))
        if exchange["path"].rpartition("/")[2] in operations
        and status in {None, exchange["status"]}
        and isinstance(exchange["request"], dict)
    ]


def served(exchange):
    """Return the bytes and content type of the recorded reply.

    JSON is encoded again, because its spacing was not recorded.
    """
    content_type = exchange["headers"]["content-type"]
    if "response_base64" in exchange:
        return base64.b64decode(exchange["response_base64"]), content_type
    return json.dumps(exchange["response"], indent=1).encode(), content_type
