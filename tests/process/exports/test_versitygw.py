"""Tests of exports to Versity S3 Gateway, an S3 server that others wrote and that checks signatures, hashes, conditions
and policies.

The server stores each object in a file of the same name. The tests read these files.
"""

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager, closing

import boto3
import pytest
from botocore.config import Config

from gateway.config.document.secrets import Secret
from gateway.config.exporters import S3Bucket
from gateway.process.exports import task
from gateway.process.exports.export import ExportFailed
from gateway.process.exports.s3 import S3Target
from tests.clients.samples import program
from tests.helpers.fault_proxy import Fault, FaultProxy
from tests.helpers.gateway import EVERYTHING, bedrock, gate
from tests.helpers.ports import lasting_port, listening
from tests.helpers.processes import served
from tests.helpers.records import NOON, Kept, record
from tests.helpers.tls import certified
from tests.helpers.waiting import eventually
from tests.process.exports.reading import cbor_records

REGION = "eu-central-1"
ROOT = ("root", "the root user's secret")
WRITER = ("writer", "the writer's secret")
"""The key and the secret of a user who may put objects into the bucket, and may do nothing else."""
POLICY = {
    "Effect": "Allow", "Principal": [WRITER[0]], "Action": "s3:PutObject", "Resource": "arn:aws:s3:::usage/*"
}  # fmt: skip
DOMAIN = "s3.irisgate.test"
QUIET = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
CALLS = 90
KILLS = (Fault("reply", "stall", 0), Fault("request", "stall", 200))
"""Faults of the connection to the server. The gateway is killed during each of them.

- The reply does not arrive, so the server has stored an object, and the gateway does not know it.
- The request stops after 200 bytes.
"""


class Server:
    """The server's program, its port, and the folder of the bucket."""

    def __init__(self, folder):
        self._program = program("versitygw", "s3")
        self._folder = folder
        self._port = lasting_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.bucket = folder / "objects" / "usage"
        for name in ("objects", "metadata", "users"):
            (folder / name).mkdir(parents=True)

    @asynccontextmanager
    async def running(self, *options):
        """Run the server during an `async with` block. Then kill it."""
        own = ("--port", f"127.0.0.1:{self._port}", "--region", REGION, "--iam-dir", self._folder / "users")
        # the attributes of objects are kept in files, because not every file system has extended attributes
        posix = ("posix", "--sidecar", self._folder / "metadata", self._folder / "objects")
        environment = dict(zip(("ROOT_ACCESS_KEY_ID", "ROOT_SECRET_ACCESS_KEY"), ROOT, strict=True))
        command = (self._program, "--quiet", *own, *options, *posix)
        async with listening(*command, port=self._port, env=environment, **QUIET):
            yield

    async def prepare(self):
        """Create the bucket with a user who may put objects into it, and a bucket that the user may not use."""
        names = ("ADMIN_ACCESS_KEY_ID", "ADMIN_SECRET_ACCESS_KEY", "ADMIN_ENDPOINT_URL", "ADMIN_REGION")
        environment = dict(zip(names, (*ROOT, self.url, REGION), strict=True))
        new = ("--access", WRITER[0], "--secret", WRITER[1], "--role", "user")
        command = (self._program, "admin", "create-user", *new)
        process = await asyncio.create_subprocess_exec(*command, env=environment, **QUIET)
        assert await process.wait() == 0
        await asyncio.to_thread(self._make_buckets)

    def _make_buckets(self):
        config = Config(s3={"addressing_style": "path"})
        key = dict(zip(("aws_access_key_id", "aws_secret_access_key"), ROOT, strict=True))
        with closing(boto3.client("s3", endpoint_url=self.url, region_name=REGION, config=config, **key)) as client:
            for name in ("usage", "foreign"):
                client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
            client.put_bucket_policy(Bucket="usage", Policy=json.dumps({"Statement": [POLICY]}))

    def objects(self):
        """Return the contents of the objects, by their keys."""
        files = [path for path in self.bucket.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.bucket)): path.read_bytes() for path in files}

    def count(self):
        """Return the number of exported objects at the root of the bucket. An incomplete object does not count."""
        return sum(path.name.startswith("irisgate-export-") for path in self.bucket.iterdir())

    def exported_ids(self):
        """Return the ids of the calls in all objects, in the order of the objects' names."""
        return [call["capture_id"] for _, data in sorted(self.objects().items()) for call in cbor_records(data)]

    def bucket_for(self, **more):
        own = {"access_key_id": WRITER[0], "secret": Secret(WRITER[1]), "region": REGION, "is_path_style": True}
        return S3Bucket(**{"name": "usage", "endpoint": self.url, **own, **more})

    def settings(self, **more):
        """Return the section `exporters` for an export every second."""
        key = {"access_key_id": WRITER[0], "access_secret": WRITER[1]}
        own = {"bucket_name": "usage", "endpoint": self.url, "region": REGION, "every": 1}
        return {"exporters": {"s3": {**own, **key, **more}}}


async def put(to, name="an.object", data=b"content", *, again=False):
    target = S3Target(to)
    try:
        await target.put(name, data, again=again)
    finally:
        await target.close()


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "s3")


async def test_objects_are_stored_and_an_object_that_exists_is_left(server):
    large = os.urandom(3_000_000)
    async with server.running():
        await server.prepare()
        to = server.bucket_for()
        await put(to)
        await put(to, data=b"less", again=True)
        await put(to, "new.object", again=True)
        await put(to, "large.object", large)
        await put(server.bucket_for(prefix="prod/räume & m*re+%2F'(=;"), "a b.c")
    assert server.objects() == {
        "an.object": b"content",
        "new.object": b"content",
        "large.object": large,
        "prod/räume & m*re+%2F'(=;/a b.c": b"content",
    }


async def test_a_refusal_names_the_reason(server, monkeypatch):
    token = dict(zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), (*WRITER, "a/token+="), strict=True))
    for name, value in token.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    refused = {
        "403 SignatureDoesNotMatch: ": {"secret": Secret("another secret")},
        "403 InvalidAccessKeyId: ": {"access_key_id": "nobody"},
        "404 NoSuchBucket: ": {"name": "missing"},
        "403 AccessDenied: ": {"name": "foreign"},
        f'400 AuthorizationHeaderMalformed: .*the region "us-east-1" is wrong; expecting "{REGION}"': {
            "region": "us-east-1"
        },
        "400 InvalidToken: ": {"access_key_id": "", "secret": Secret()},
    }
    async with server.running():
        await server.prepare()
        for reason, changed in refused.items():
            with pytest.raises(ExportFailed, match=f" refuses an.object: {reason}"):
                await put(server.bucket_for(**changed))
    assert server.objects() == {}


async def test_a_bucket_in_the_host_of_an_https_url(server, tmp_path, monkeypatch):
    certificate, key = certified(tmp_path, f"usage.{DOMAIN}")
    look_up = socket.getaddrinfo

    def to_this_machine(host, *rest, **more):
        return look_up("127.0.0.1" if host == f"usage.{DOMAIN}" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", to_this_machine)
    async with server.running():
        await server.prepare()
    async with server.running("--virtual-domain", DOMAIN, "--cert", certificate, "--key", key):
        endpoint = server.url.replace("http://127.0.0.1", f"https://{DOMAIN}")
        in_host = {"endpoint": endpoint, "is_path_style": False}
        await put(server.bucket_for(**in_host, authorities=certificate.read_text()), "a folder/an.object")
        with pytest.raises(ExportFailed, match="certificate"):
            await put(server.bucket_for(**in_host))
    assert server.objects() == {"a folder/an.object": b"content"}


async def test_a_killed_gateway_exports_each_call_exactly_once(server, tmp_path, bedrock_sim):
    """Check that after a gateway was killed several times during its exports, its calls are complete and in order in
    the bucket.
    """
    state = tmp_path / "state"
    store = Kept(state / "irisgate.db")
    ids = [f"call-{number:03}" for number in range(CALLS)]
    for number, name in enumerate(ids):
        store.put(record(id=name, at=NOON + number))
    await store.flush()
    await store.close()
    config = tmp_path / "config.hujson"
    serve = ("serve", "--config", str(config), "--listen", "127.0.0.1:0", "--state", str(state))

    def configure(limit):
        exporters = server.settings(endpoint=proxy.url, limit=limit)
        config.write_text(json.dumps({"providers": {"b": bedrock(bedrock_sim.url)}, "grants": EVERYTHING, **exporters}))

    async with server.running(), FaultProxy(server.url) as proxy:
        await server.prepare()
        for number, fault in enumerate(KILLS, 1):
            # an object that is begun again must have the same calls, although others would fit in it now
            configure(limit=number)
            async with served(tmp_path, *serve) as gateway:
                await eventually(lambda number=number: server.count() >= 20 * number)
                proxy.fault = fault
                await eventually(lambda: proxy.broken)
                gateway.process.kill()
                await gateway.process.wait()
        configure(limit=CALLS)
        async with served(tmp_path, *serve) as gateway:
            await gateway.chat()
            await eventually(lambda: len(server.exported_ids()) > CALLS)
    exported = server.exported_ids()
    assert (exported[:CALLS], len(exported)) == (ids, CALLS + 1)


async def test_an_export_goes_on_when_the_store_is_back(server, tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setattr(task, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(task, "RETRY_SECONDS", (0.05,))
    providers = {"b": bedrock(bedrock_sim.url)}

    async def chat(gw):
        body = {"model": providers["b"]["models"][0], "messages": [{"role": "user", "content": "hi"}]}
        return (await gw.post("/v1/chat/completions", body)).headers["x-request-id"]

    async with gate(tmp_path / "state", providers, more=server.settings(prefix="prod")) as gw:
        ids = []
        for number in range(1, 3):
            failures = gw.lines.count("export.failed")
            ids.append(await chat(gw))
            await gw.lines.until("export.failed", failures + 1)
            async with server.running():
                if number == 1:
                    await server.prepare()
                await eventually(lambda: server.exported_ids() == ids)
                await gw.lines.until("export.recovered", number)
        assert "refused" in gw.lines.entries("export.failed")[0]["reason"]
