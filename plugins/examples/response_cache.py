"""A filter that caches replies. If a caller repeats a request, the stored reply is sent, and no provider is called.

"plugins": { "response_cache": { "replies": 100 } }
"""

from collections import OrderedDict
from hashlib import sha256

from gateway.contract import filter as filters

api = 1

REPLIES = OrderedDict()
"""Replies by caller, format, path, query and hash of the body. The least recently used reply is dropped first."""


class Settings(filters.Settings):
    replies: int = 100


def open(call, settings):
    request = call.request
    body = sha256(request.top.body).digest()
    return Cache((call.caller.login, call.flag, request.path, request.query, body), settings.replies)


class Cache:
    def __init__(self, key, most):
        self.key = key
        self.most = most

    def request(self, asked):
        if self.key in REPLIES:
            REPLIES.move_to_end(self.key)
            return REPLIES[self.key]
        return None

    def replied(self, reply):
        REPLIES[self.key] = reply
        while len(REPLIES) > self.most:
            REPLIES.popitem(last=False)
