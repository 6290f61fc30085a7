"""Providers' models, credentials and connections, and the download of files that clients name by URL.

`catalog.py` has the models that providers offer, `client.py` sends requests to providers, and `credentials/` has the
keys. Connections to other hosts are opened only in `http1/dial.py` (to providers), in `fetch/` (for files, and for
requests of filters) and by botocore in `credentials/aws_chain.py`.
"""
