"""Code that plugins of several dialects share: settings, tools, turns, media, schemas, and how values are checked.

Nothing here belongs to one dialect, and nothing here imports from `dialects/`.
"""
