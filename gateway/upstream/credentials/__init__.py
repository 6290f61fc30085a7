"""Credentials of requests to providers.

Other packages import the module `keys`. Secrets in the configuration are read elsewhere, in
`gateway/config/document/secrets.py`.
"""
