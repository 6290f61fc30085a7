"""Mappings from a request of one dialect to a request of another, or to a part of it.

Only `translators/` imports from here. Rules, readers and writers of a single dialect are in `dialects/`.
"""
