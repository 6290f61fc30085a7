"""A filter that adds a header with a hash of the user's login to each request, so that the provider can tell users
apart.

"plugins": { "call_header": { "key": "env:USER_HASH_KEY" } }
"""

import hmac

from pydantic import SecretStr

from gateway.contract import filter as filters

api = 1


class Settings(filters.Settings):
    key: SecretStr
    name: str = "x-user-hash"


def open(call, settings):
    key = settings.key.get_secret_value().encode()
    return Header(settings.name, hmac.digest(key, call.caller.login.encode(), "sha256").hex())


class Header:
    def __init__(self, name, value):
        self.name = name
        self.value = value

    def headers(self):
        return {self.name: self.value}


def samples():
    return [Settings(key="a key")]
