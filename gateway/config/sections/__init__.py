"""The sections of the configuration, one file for each key: the model of its text and the reader of its values.

- `gateway/config/root.py` joins the models, and `gateway/config/load.py` calls the readers.
- A reader never reads another section's text. Names that other sections declare are arguments of the reader.
- `gateway/config/advice.py` compares sections with each other, and warns of contradictions.
"""
