"""Runs a filter's method `text` on the pieces of a text, as the gateway does."""

from gateway.contract.filter import Hold


def in_pieces(text, one, size, kind="text"):
    """Pass the text `one` to the filter method `text` in pieces of `size` characters, and return the filtered text."""
    shown, held = [], ""
    for start in range(0, len(one), size):
        result = text(kind, held + one[start : start + size], last=False)
        passed, held = result if isinstance(result, Hold) else (result, "")
        shown.append(passed)
    return "".join([*shown, text(kind, held, last=True)])
