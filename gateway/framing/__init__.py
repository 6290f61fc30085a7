"""Byte framings without I/O: bytes in, frames out; nothing here knows a dialect."""
