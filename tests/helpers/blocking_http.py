"""HTTP requests that block their thread, for measurements of an event loop that must not run the client too."""

import http.client
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 120


def get(url, path):
    """Send a GET request. Return the status and the body of the reply."""
    return _answer(url, "GET", path)


def post(url, path, body):
    """Send a POST request with a JSON body. Return the status and the body of the reply."""
    return _answer(url, "POST", path, body, {"content-type": "application/json"})


def _answer(url, *request):
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(*request)
        with connection.getresponse() as reply:
            return reply.status, reply.read()
    finally:
        connection.close()
