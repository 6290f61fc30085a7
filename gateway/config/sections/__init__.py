"""The sections of the configuration, one file for each key: the model of its text and the reader of its values.

- `gateway/config/root.py` joins the models, `gateway/config/load.py` the readers.
- The names that other sections declare are arguments of a reader. A reader never reads another section's text.
- Faults between sections are found in `gateway/config/advice.py`.
"""
