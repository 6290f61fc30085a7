"""The settings of TLS for providers: which certificates are accepted.

- The certificate must be signed by a certificate authority of the system, or of OpenSSL's `SSL_CERT_FILE` and
  `SSL_CERT_DIR`. For a provider with `ca_file`, only the authorities in that file are accepted.
- The name in the certificate is always checked.
"""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=256)
def tls_context(authorities: str) -> ssl.SSLContext:
    """Return TLS settings that trust the CA certificates in `authorities` (PEM), or those of the system if it is "".

    Raises `ssl.SSLError` if the text has no certificate. The system's certificates are read only once.
    """
    context = ssl.create_default_context(cadata=authorities or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
