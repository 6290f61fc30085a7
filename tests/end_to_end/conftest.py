"""The fixture that closes, after each test of this folder, the raw connections that the test has opened."""

from tests.helpers.raw_http import raw_connections

__all__ = ["raw_connections"]
