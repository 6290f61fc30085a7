"""The sections of the configuration.

- A file usually has a section's pydantic model, and a reader, which turns the section into checked values.
- `gateway/config/root.py` joins the models, and `gateway/config/load.py` calls the readers.
- A reader never reads another section's text. Names that other sections declare are arguments of the reader.
- `gateway/config/advice.py` compares sections with each other, and warns of contradictions.
"""
