"""Code for all dialects: settings, tools, turns, media, schemas, and checks of values.

Nothing here imports from `dialects/`.
"""
