"""Code that several dialects use: settings, tools, turns, media, schemas, and checks of values.

Nothing here belongs to one dialect, and nothing here imports from `dialects/`.
"""
