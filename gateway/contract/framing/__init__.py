"""Framings of streams, without I/O: decoders from bytes to frames, and functions that write frames.

Other packages import the modules `sse` and `eventstream`. The payload of a frame is not parsed here.
"""
