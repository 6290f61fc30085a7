"""Tests of URLs in a client's request. No spelling, host name, redirect or server may lead to an internal address."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.findings import ConfigError
from gateway.config.server import Fetching
from gateway.contract.errors import Refused
from gateway.contract.flag import Fetch
from gateway.contract.registry import KnownPlugins
from gateway.upstream.fetch.client import Allowance, Fetcher, is_own, is_reachable
from gateway.upstream.fetch.guard import NotFetched, check_url, is_host, is_public, shown

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
OUTSIDE = "127.0.0.2"
"""Another address of this machine, which the tests treat as a public address on the internet."""
INSIDE = "127.0.0.1"
NAMES = {"images.test": [OUTSIDE], "cdn.test": [OUTSIDE], "inside.test": [INSIDE], "both.test": [OUTSIDE, INSIDE]}


class Names:
    """A resolver that records the names that are looked up, and can give a different answer each time."""

    def __init__(self, answers=NAMES):
        self.answers = answers
        self.asked = []

    def __call__(self, host, port):
        self.asked.append(host)
        if host not in self.answers:
            raise OSError(f"no such name: {host}")
        outcome = self.answers[host]
        return outcome.pop(0) if isinstance(outcome[0], list) else outcome


class Host:
    """A server that answers every connection with the same bytes and records the requests."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.port = 0

    async def serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            if callable(self.answer):
                await self.answer(writer, head)
            else:
                writer.write(self.answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def host(answer, address=OUTSIDE, port=0):
    serving = Host(answer)
    server = await asyncio.start_server(serving.serve, address, port)
    serving.port = server.sockets[0].getsockname()[1]
    try:
        yield serving
    finally:
        server.close()


def reply(body=PNG, head="200 OK", **headers):
    headers = {"Content_Length": len(body), "Content_Type": "image/png", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items() if value is not None)
    return f"HTTP/1.1 {head}\r\n{lines}\r\n".encode() + body


def to(location, status="302 Found"):
    return reply(b"", status, Location=location)


def rules(**more):
    return Fetching(**{"timeout_seconds": 5.0, "max_bytes": 100_000, **more})


@pytest.fixture
async def any_port(monkeypatch):
    """Allow the port of the test's server in place of port 80, which tests cannot use."""
    from gateway.upstream.fetch import guard

    def allow(port):
        monkeypatch.setitem(guard._PORTS, "http", port)

    return allow


def fetcher(names=None):
    return Fetcher(lookup=names or Names(), judge=lambda address: address == OUTSIDE)


async def fetch(url, *, names=None, allowance=None, **more):
    fetching = fetcher(names)
    try:
        return await fetching.fetch(Fetch(url, 10**9, "messages[0].url"), rules(**more), allowance or Allowance(10**9))
    finally:
        fetching.close()


async def refused(url, match, **more):
    with pytest.raises(Refused, match=match) as caught:
        await fetch(url, **more)
    return caught.value.problem


# addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.100", "100.100.100.200", "100.127.255.255",
        "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1",
        "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1",
        "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1",
        "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd7a:115c:a1e0::1", "fe80::1",
        "fe80::1%eth0", "2606:4700::1%1", "fec0::1", "ff02::1", "", "localhost", "8.8.8", "1.1.1.1 ",
    ],
)  # fmt: skip
def test_an_address_inside_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
     "172.32.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860:4860::8888"],
)  # fmt: skip
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address)


def test_nothing_that_python_knows_as_private_is_public():
    import ipaddress
    import random

    chance = random.Random(5)
    mismatches = []
    for _ in range(20_000):
        four = ipaddress.IPv4Address(chance.getrandbits(32))
        six = ipaddress.IPv6Address(chance.getrandbits(128) & ~(7 << 125) | (1 << 125))
        mismatches += [address for address in (four, six) if is_public(str(address))]
    assert len(mismatches) > 20_000
    assert not [each for each in mismatches if each.is_private or each.is_reserved or each.is_multicast]


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0", "224.0.0.1", "::"]
)
def test_a_host_inside_that_is_listed_is_never_a_metadata_service(address):
    assert not is_host(address)


def test_an_address_of_this_machine_is_not_reachable_even_if_it_is_public():
    assert is_own("127.0.0.1")
    assert not is_own("1.1.1.1")
    assert not is_reachable("127.0.0.1")


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "", "images.test/a.png", "//images.test/a.png", "/a.png", "ftp://images.test/a", "file:///etc/passwd",
        "gopher://images.test/", "data:image/png;base64,AAAA", "javascript:alert(1)", "http://", "http:///a",
        "http:images.test/a", "unix:///var/run/docker.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
        "http://user@images.test/", "http://user:password@images.test/", "http://:password@images.test/",
        "http://images.test@127.0.0.1/",
        "http://images.test\\@127.0.0.1/", "http:\\\\images.test/", "http://images.test/a b", "http://images.test/\r\nX: y",
        "http://images.test/\x00", " http://images.test/", "http://images.test/\t", "http://\u2028images.test/",
        "http://images.test:22/", "http://images.test:8080/", "https://images.test:80/", "http://images.test:443/",
        "http://images.test:0/", "http://images.test:99999/", "http://images.test:-1/", "http://images.test:x/",
        "http://a..b/", "http://.images.test/", "http://-a.test/", "http://images.test../", "http://./", "http://*/",
        "http://" + "a" * 64 + ".test/", "http://" + "a." * 127 + "test/", "http://images.test/" + "a" * 9000,
        "http://images%2etest/", "http://127.0.0.1%00.test/", "http://[::1/", "http://@[", "http://a]@/", "http://[::1%25eth0]/",
        "http://[::ffff:7f00:1%251]/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://017700000001/",
        "http://0177.0.0.1/", "http://127.1/", "http://127.0.1/", "http://127.0.0.01/", "http://127.0.0.0x1/",
        "http://1.1.1.1.1/", "http://256.1.1.1/", "http://0x/", "http://a.0x7f/", "http://images.test:80:80/",
    ],
)  # fmt: skip
def test_a_url_in_a_form_that_could_be_read_in_two_ways_is_refused(url):
    with pytest.raises(NotFetched):
        check_url(url, Fetching())


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://images.test/a.png?sig=1#top", "images.test"),
        ("HTTPS://IMAGES.TEST/a.png", "images.test"),
        ("http://images.test:80/a.png", "images.test"),
        ("https://images.test./a.png", "images.test"),
        ("https://my_bucket.images.test/a.png", "my_bucket.images.test"),
        ("https://bücher.test/a.png", "xn--bcher-kva.test"),
        ("https://127。0。0。1/", "127.0.0.1"),
        ("https://①②⑦.0.0.1/", "127.0.0.1"),
        ("https://[2606:4700:0::1111]/", "2606:4700::1111"),
        ("https://[::FFFF:7f00:1]/", str(IPv6Address("::ffff:7f00:1"))),  # since Python 3.13 the end is "127.0.0.1"
    ],
)  # fmt: skip
def test_a_host_is_judged_in_its_plain_form(url, host):
    checked = check_url(url, Fetching())
    assert checked.raw_host == host
    assert checked.fragment == ""


_HOSTS = st.text(st.sampled_from("a1.:[]@%x0-_。①é\u200d\u0130/\\?# "), max_size=24)


@given(st.one_of(st.text(max_size=60), _HOSTS.map("http://{}/".format), _HOSTS.map("https://a@{}".format)))
def test_any_text_is_a_url_with_a_plain_host_or_refused(text):
    try:
        url = check_url(text, Fetching())
    except NotFetched:
        return
    assert url.raw_host == url.raw_host.lower()
    assert url.port == {"http": 80, "https": 443}[url.scheme]
    assert "@" not in url.raw_authority
    assert check_url(str(url), Fetching()) == url


def test_a_path_and_query_are_asked_for_as_they_were_written():
    url = "https://images.test/a%2Fb/c%20d.png?X-Amz-Signature=a%2Bb%3D&e="
    assert str(check_url(url, Fetching())) == url


def test_hosts_can_be_narrowed_to_a_list():
    narrowed = Fetching(allow_hosts=("images.test", "*.cdn.test"), private_hosts=("files.test:8443",))
    for url in ("https://images.test/", "https://a.b.cdn.test/", "https://files.test:8443/"):
        check_url(url, narrowed)
    for url in (
        "https://cdn.test/", "https://xcdn.test/", "https://a.images.test/", "https://other.test/", "https://files.test/",
    ):  # fmt: skip
        with pytest.raises(NotFetched, match="allow_hosts"):
            check_url(url, narrowed)


def test_a_url_is_shown_without_what_may_be_a_secret():
    assert shown("https://user:pass@h.test/a/b?sig=secret#frag") == "https://h.test/a/b"
    assert shown("https://h.test#?sig=secret") == "https://h.test"
    assert len(shown("https://h.test/" + "a" * 5000)) == 200
    assert "\n" not in shown("https://h.test/\n\x1b[31m")


# connections


async def test_a_file_comes_whole_with_its_type(any_port):
    async with host(reply()) as outside:
        any_port(outside.port)
        file = await fetch(f"http://images.test:{outside.port}/cat.png?sig=1")
    assert (file.status, file.headers["content-type"], file.body) == (200, "image/png", PNG)
    assert outside.requests[0].startswith(b"GET /cat.png?sig=1 HTTP/1.1\r\n")


async def test_nothing_of_the_gateway_or_its_environment_goes_along(any_port, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with host(reply(Set_Cookie="a=b")) as outside:
        any_port(outside.port)
        names = Names()
        for _ in range(2):
            await fetch(f"http://images.test:{outside.port}/", names=names)
    lines = [line.partition(b":")[0].lower() for line in outside.requests[1].split(b"\r\n")[1:-2]]
    assert set(lines) - {b"connection"} == {b"accept", b"accept-encoding", b"host", b"user-agent"}


async def test_a_name_with_an_address_inside_is_never_connected_to(any_port):
    async with host(reply(), INSIDE) as inside:
        any_port(inside.port)
        for name in ("inside.test", "both.test", INSIDE, "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST."):
            names = Names({**NAMES, "localhost": ["127.0.0.1", "::1"]})
            problem = await refused(
                f"http://{name}:{inside.port}/x?key=secret", "no address on the public", names=names
            )
            assert "secret" not in problem.message
    assert inside.requests == []


async def test_an_unknown_name_and_one_inside_are_told_alike():
    unknown = await refused("http://unknown.test/", "no address on the public internet")
    inside = await refused("http://inside.test/", "no address on the public internet")
    assert unknown.message.replace("unknown", "inside") == inside.message


async def test_a_rebinding_name_is_resolved_once_before_connecting(any_port):
    """Check that a host name whose address changes is resolved only once, and that the connection goes to the checked
    address.
    """
    async with host(reply(), INSIDE) as inside, host(reply(), OUTSIDE, inside.port) as outside:
        any_port(outside.port)
        names = Names({"images.test": [[OUTSIDE], [INSIDE], [INSIDE]]})
        await fetch(f"http://images.test:{outside.port}/", names=names)
    assert names.asked == ["images.test"]
    assert len(outside.requests) == 1
    assert inside.requests == []


async def test_a_redirect_is_judged_anew(any_port):
    async with host(reply(), INSIDE) as inside:
        for location in (
            f"http://{INSIDE}:{inside.port}/", f"http://inside.test:{inside.port}/", f"//inside.test:{inside.port}/",
            f"http://[::ffff:127.0.0.1]:{inside.port}/", "http://169.254.169.254/latest/meta-data/", "http://2130706433/",
            "file:///etc/passwd", f"http://a:b@images.test:{inside.port}/", "http://images.test:22/", "", "http://[",
            f"http://both.test:{inside.port}/",
        ):  # fmt: skip
            async with host(to(location), OUTSIDE, inside.port) as outside:
                any_port(outside.port)
                await refused(f"http://images.test:{outside.port}/", "images.test")
                assert len(outside.requests) == 1
    assert inside.requests == []


async def test_a_name_that_moves_inside_between_two_redirects_is_refused(any_port):
    async with host(reply(), INSIDE) as inside, host(to("/again"), OUTSIDE, inside.port) as outside:
        any_port(outside.port)
        names = Names({"images.test": [[OUTSIDE], [INSIDE]]})
        await refused(f"http://images.test:{outside.port}/", "no address on the public internet", names=names)
    assert inside.requests == []


async def test_three_redirects_are_followed_and_no_more(any_port):
    async def count(writer, head):
        step = int(head.split()[1][1:])
        writer.write(to(f"/{step - 1}", "307 Temporary Redirect") if step else reply())
        await writer.drain()

    async with host(count) as outside:
        any_port(outside.port)
        assert (await fetch(f"http://images.test:{outside.port}/3")).body == PNG
        await refused(f"http://images.test:{outside.port}/4", "more than 3 times")


async def test_a_server_that_says_it_sends_too_much_is_not_read(any_port):
    async with host(reply(PNG, Content_Length=10**12)) as outside:
        any_port(outside.port)
        await refused(f"http://images.test:{outside.port}/", "more than 100000 bytes")


async def test_a_body_without_a_length_is_counted_while_it_comes(any_port):
    sent, gone = 0, asyncio.Event()

    async def endless(writer, head):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + PNG)
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        finally:
            gone.set()

    async with host(endless) as outside:
        any_port(outside.port)
        await refused(f"http://images.test:{outside.port}/", "more than 100000 bytes")
        await asyncio.wait_for(gone.wait(), 30)
    assert sent < 20_000_000


@pytest.mark.parametrize("slow", ["head", "body", "lines", "continues"])
async def test_a_slow_server_has_so_many_seconds_in_all(any_port, slow):
    async def trickle(writer, head):
        begun = {
            "head": b"HTTP/1.1 200 OK\r\nX-A: ",
            "body": b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n",
            "lines": b"HTTP/1.1 200 OK\r\n",
            "continues": b"",
        }
        more = {"head": b"a", "body": b"a", "lines": b"X-A: a\r\n", "continues": b"HTTP/1.1 100 Continue\r\n\r\n"}
        writer.write(begun[slow])
        while True:
            writer.write(more[slow])
            await writer.drain()
            await asyncio.sleep(0.02)

    async with host(trickle) as outside:
        any_port(outside.port)
        begun = time.monotonic()
        await refused(
            f"http://images.test:{outside.port}/", "(did not come within 0.3 s|cannot be read)", timeout_seconds=0.3
        )
    assert time.monotonic() - begun < 15


async def test_a_name_server_that_is_silent_costs_no_more_than_the_time_limit():
    released = threading.Event()

    def silent(host, port):
        released.wait(60)
        raise OSError

    async with asyncio.timeout(30):
        await refused("http://images.test/", "did not come within", names=silent, timeout_seconds=0.2)
    released.set()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (reply(head="404 Not Found"), "status 404"),
        (reply(head="206 Partial Content"), "status 206"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "status 304"),
        (reply(head="500 Oops"), "status 500"),
        (reply(b""), "without a byte"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        (reply(PNG, Content_Encoding="gzip"), "compressed"),
        (reply(PNG, Content_Encoding="br"), "compressed"),
        (reply(PNG, Content_Length=1000), "cannot be read"),
        (b"", "cannot be read"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 100_000 + b"\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "redirected to no URL"),
    ],
)
async def test_what_is_no_file_is_refused_with_the_reason(any_port, answer, match):
    async with host(answer) as outside:
        any_port(outside.port)
        problem = await refused(f"http://images.test:{outside.port}/a?token=secret", match)
    assert problem.code == "invalid_request"
    assert problem.param == "messages[0].url"
    assert problem.message.startswith(f"messages[0].url: http://images.test:{outside.port}/a ")
    assert problem.message.endswith("; or send the file itself, as base64")


async def test_nobody_listening_is_told_as_a_refusal(any_port):
    async with host(reply()) as outside:
        port = outside.port
    any_port(port)
    await refused(f"http://images.test:{port}/", "cannot be read")


async def test_files_of_one_call_share_their_room(any_port):
    async with host(reply(bytes(60_000))) as outside:
        any_port(outside.port)
        room = Allowance(100_000)
        await fetch(f"http://images.test:{outside.port}/1", allowance=room)
        await refused(f"http://images.test:{outside.port}/2", "larger than this gateway takes", allowance=room)


async def test_fetching_that_is_off_asks_nobody():
    names = Names()
    await refused("http://images.test/?a=secret", '"server.fetch" of this gateway is off', names=names, enabled=False)
    assert names.asked == []


async def test_tls_is_verified(any_port, tmp_path):
    import ssl

    from gateway.upstream.fetch import guard

    certificate = await certified(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    serving = Host(reply())
    server = await asyncio.start_server(serving.serve, OUTSIDE, 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    ports = {**guard._PORTS, "https": port}
    old = dict(guard._PORTS)
    guard._PORTS.update(ports)
    try:
        for name, tls, match in (
            ("images.test", None, "certificate"),  # no authority has signed this certificate
            ("cdn.test", trusting, "certificate"),  # this certificate is trusted, but for another host name
            ("images.test", trusting, None),
        ):
            fetching = Fetcher(lookup=Names(), judge=lambda address: address == OUTSIDE, tls=tls)
            wanted = fetching.fetch(Fetch(f"https://{name}:{port}/", 10**6), rules(), Allowance(10**6))
            if match is None:
                assert (await wanted).body == PNG
            else:
                with pytest.raises(Refused, match=match):
                    await wanted
            fetching.close()
    finally:
        guard._PORTS.update(old)
        server.close()
    assert len(serving.requests) == 1


async def certified(folder):
    """Return a self-signed certificate for images.test, and its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = await asyncio.create_subprocess_exec(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
        "-subj", "/CN=images.test", "-addext", "subjectAltName=DNS:images.test", stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    return certificate, key


async def test_no_connection_is_left_when_its_client_gives_up(any_port):
    begun, gone = asyncio.Event(), asyncio.Event()

    async def silent(writer, head):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await writer.drain()
        begun.set()
        try:
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()
            raise

    async with host(silent) as outside:
        any_port(outside.port)
        task = asyncio.create_task(fetch(f"http://images.test:{outside.port}/", timeout_seconds=60))
        await asyncio.wait_for(begun.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await gone.wait()


def test_json_of_the_rules_is_what_the_configuration_reads():
    from gateway.config.load import loads

    text = {
        "server": {
            "fetch": {
                "enabled": False, "max_bytes": 2048, "timeout_seconds": 3, "allow_hosts": ["*.Example.com", "a.test"],
                "private_hosts": ["Files.test", "files.test:8080", "100.64.0.9", "FD00:0::9"],
            }
        }
    }  # fmt: skip
    rules = loads(json.dumps(text), plugins=KnownPlugins(())).config.server.fetch
    listed = ("files.test", "files.test:8080", "100.64.0.9", "fd00::9")
    assert rules == Fetching(False, 2048, 3, ("*.example.com", "a.test"), listed)


@pytest.mark.parametrize(
    "fault",
    [
        {"allow_hosts": ["https://images.test/"]}, {"allow_hosts": ["*"]}, {"allow_hosts": ["images.test:80"]},
        {"allow_hosts": ["a.*.test"]}, {"allow_hosts": [""]}, {"private_hosts": ["10.0.0.0/8"]},
        {"private_hosts": ["*.lan"]}, {"private_hosts": ["files.test:0"]}, {"private_hosts": ["http://files.test"]},
        {"max_bytes": 0}, {"timeout_seconds": 0}, {"enabled": "yes"},
    ],
)  # fmt: skip
def test_rules_that_nothing_could_match_are_faults_of_the_configuration(fault):
    from gateway.config.load import loads

    with pytest.raises(ConfigError, match=next(iter(fault))):
        loads(json.dumps({"server": {"fetch": fault}}), plugins=KnownPlugins(()))
