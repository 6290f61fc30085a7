"""Decoders and encoders for the framings of streams, without I/O. They do not read the payloads of frames.

Other packages import the modules `sse`, `eventstream` and `json_array`.
"""
