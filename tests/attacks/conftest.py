"""What a test has opened by hand is closed after it."""

from tests.helpers.raw_http import raw_connections

__all__ = ["raw_connections"]
