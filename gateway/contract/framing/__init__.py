"""Decoders and encoders for the two framings of streams, without I/O.

Other packages import the modules `sse` and `eventstream`. The payload of a frame is not parsed here.
"""
