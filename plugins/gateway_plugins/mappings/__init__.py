"""Mappings from a request in one dialect (API format) to a request, or a part of a request, in another dialect.

Only `translators/` imports from here. Rules, readers and writers of a single dialect are in `dialects/`.
"""
