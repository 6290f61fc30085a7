"""Byte framings without I/O: bytes in, frames out.

Import `sse` or `eventstream`. A frame's payload is a matter of a dialect, not of a framing.
"""
