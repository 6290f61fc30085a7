"""Credentials of requests to providers.

Other packages import the module `keys`. The configuration's secrets are read in `gateway/config/document/secrets.py`.
"""
