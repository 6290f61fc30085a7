"""The sections of the configuration, one file for each key: the model of its text and the reader of its values.

`gateway/config/load.py` has the table of readers. A section does not read another section's text; what is wrong only
between sections is found in `gateway/config/advice.py`.
"""
