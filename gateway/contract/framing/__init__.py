"""Framings of streams, without I/O: decoders from bytes to frames, and functions that write frames.

Import `sse` or `eventstream`. The payload of a frame is not parsed here.
"""
