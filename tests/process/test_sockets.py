"""Tests of how listening sockets are named. They also test the files of unix sockets, which may belong to another
process.
"""

import os
import socket
import stat

import pytest

from gateway.access.identity.endpoints import endpoints
from gateway.config.sections.listen import parse_listen
from gateway.config.server import Listener
from gateway.process.sockets import CannotListen, bind


def listener(text):
    return Listener(text, *parse_listen(text))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("127.0.0.1", 80), ("127.0.0.1:80", "0.0.0.0:80")),
        (("::1", 80, 0, 0), ("[::1]:80", "[::]:80")),
        (("::ffff:127.0.0.1", 80, 0, 0), ("[::ffff:127.0.0.1]:80", "[::]:80")),
        ("/run/s", ("unix:/run/s",)),
        ("", ("unix:",)),
    ],
)
def test_a_connection_is_known_by_its_end_and_its_wildcard(name, expected):
    """Check the two addresses of a listener that match a connection: the connection's local address, and the wildcard
    address of the same family (IPv4 or IPv6).
    """
    assert endpoints(name) == expected


def test_nobody_else_of_this_machine_may_speak_through_a_unix_socket(tmp_path):
    before = os.umask(0)
    try:
        bound = bind(listener(f"unix:{tmp_path}/s"), [])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    bound.socket.close()


def test_what_a_gateway_that_died_has_left_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    bound = bind(listener(f"unix:{path}"), [])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.remove_file()
    bound.socket.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    (tmp_path / "link").symlink_to(path)
    for name in ("s", "link"):
        with pytest.raises(CannotListen, match="no socket"):
            bind(listener(f"unix:{tmp_path / name}"), [])
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path, kind):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind == socket.SOCK_STREAM:
            other.listen()
        inode = path.stat().st_ino
        with pytest.raises(CannotListen, match="address in use"):
            bind(listener(f"unix:{path}"), [])
        assert path.stat().st_ino == inode


def test_a_socket_that_another_gateway_has_put_in_our_place_is_left_alone(tmp_path):
    path = tmp_path / "s"
    ours = bind(listener(f"unix:{path}"), [])
    path.unlink()
    theirs = bind(listener(f"unix:{path}"), [])
    ours.remove_file()
    assert path.exists()
    theirs.remove_file()
    theirs.remove_file()
    assert not path.exists()
    for bound in (ours, theirs):
        bound.socket.close()


@pytest.mark.parametrize("text", ["192.0.2.1:80", "unix:/nowhere/to/be/found", "unix:/" + "x" * 200, "a" * 70 + ":80"])
def test_an_address_that_cannot_be_had_is_named(text):
    with pytest.raises(CannotListen) as caught:
        bind(listener(text), [])
    assert str(caught.value).startswith(f"cannot listen on {text}: ")
