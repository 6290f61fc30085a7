"""Creates the `h2` object that keeps a connection's state, and the SETTINGS frame for the client."""

from __future__ import annotations

from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from h2.utilities import SizeLimitDict
from hyperframe.frame import SettingsFrame

STREAM_WINDOW: Final = 256 * 1024
"""Number of bytes of a body that a client may send before the gateway has read them. With a round trip of 50 ms, this
allows 5 MB per second.
"""
CONNECTION_WINDOW: Final = 1024 * 1024
"""Number of unread bytes that a client may send on all streams of a connection together."""
CLOSED_STREAMS: Final = 1000
"""Number of ended streams that `h2` remembers for each connection. The default of `h2` is 65,536, which takes 10 MB."""
INITIAL_WINDOW: Final = 65_535
"""The window of a new connection in bytes (RFC 9113, 6.9.2)."""


def new_h2(head_bytes: int) -> H2Connection:
    """Return the `h2` object of a new connection. The object enforces the flow-control windows and the maximum length
    of a head.

    The object checks no headers. `requests.py` checks the headers of requests. The headers of replies need no check,
    because the gateway writes them.
    """
    config = H2Configuration(
        client_side=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
    )
    connection = H2Connection(config)
    connection._closed_streams = SizeLimitDict(size_limit=CLOSED_STREAMS)  # noqa: SLF001 (it has no other setting)
    sizes = {SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW, SettingCodes.MAX_HEADER_LIST_SIZE: head_bytes}
    connection.local_settings = Settings(client=False, initial_values=sizes)
    connection.decoder.max_header_list_size = head_bytes
    connection.initiate_connection()
    connection.clear_outbound_data_buffer()
    connection.increment_flow_control_window(CONNECTION_WINDOW - INITIAL_WINDOW)
    return connection


def settings_bytes(connection: H2Connection, streams: int) -> bytes:
    """Return the first bytes for the client: SETTINGS, with `streams` as the maximum number of open streams, and
    WINDOW_UPDATE.

    The `h2` object does not get this number, because it would end the connection of a client that opens too many
    streams before it has read the SETTINGS. The gateway only refuses such streams.
    """
    values = {**connection.local_settings, SettingCodes.MAX_CONCURRENT_STREAMS: streams}
    return b"".join([SettingsFrame(0, settings=values).serialize(), connection.data_to_send()])
