"""Credentials of requests to providers.

`keys.py` has the fixed keys of the configuration, and `live.py` the credentials that change at run time. The
configuration's secrets are read in `gateway/config/document/secrets.py`.
"""
