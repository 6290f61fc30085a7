"""The credentials that a provider is shown.

Import `keys`. Where a secret comes from is decided in `gateway/config/document/secrets.py`.
"""
