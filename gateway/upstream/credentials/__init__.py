"""Credentials of requests to providers.

Import `keys`. `gateway/config/document/secrets.py` reads secrets from the configuration.
"""
