"""Key files of Google service accounts, and private keys. Each key is made only once, because that takes a tenth of a
second.
"""

import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from gateway.testkit.google import GoogleSim

EMAIL = "vertex@simulated.iam.gserviceaccount.com"


@cache
def private_key(number=1, bits=2048):
    """Return an RSA key. Different numbers give different keys."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(key, password=None):
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


@cache
def elliptic_key():
    return ec.generate_private_key(ec.SECP256R1())


def key_file(path, content=None, mode=0o600, **members):
    """Write a key file, and return its path. `members` replace fields of `content`, or remove them if the value is
    None.
    """
    content = GoogleSim().create_key(EMAIL, private_key()) if content is None else content
    content = {**content, **members}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    path.chmod(mode)
    return path
