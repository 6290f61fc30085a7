"""Mappings from a request of one dialect to that of another, or to a part of it, for the translators.

Only `translators/` imports from here. Rules, readers and writers that one dialect has by itself stand in `dialects/`.
"""
