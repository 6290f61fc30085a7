"""Decoders and encoders for the framings of streams, without I/O.

Other packages import the modules `sse`, `eventstream` and `json_array`. The payload of a frame is not interpreted here.
"""
