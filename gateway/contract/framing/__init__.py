"""Byte framings without I/O: bytes in, frames out.

Import `sse` or `eventstream`. What a frame holds belongs to a dialect, not to a framing.
"""
