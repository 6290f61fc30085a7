"""Credentials of requests to providers.

Import `keys`. Secrets are read in `gateway/config/document/secrets.py`.
"""
