"""HAProxy with the configuration of `deploy/haproxy`, except for the addresses."""

from contextlib import asynccontextmanager
from pathlib import Path

from tests.clients.samples import program
from tests.helpers.ports import listening

CONFIG = Path(__file__).resolve().parents[2] / "deploy/haproxy/haproxy.cfg"


@asynccontextmanager
async def haproxy(folder, port, gateways, *, without=""):
    """Run HAProxy on a port of this machine, in front of the ports of three gateways. Yield its URL.

    The text `without` is removed from the configuration. The configuration and the log are written to `folder`.
    """
    text = CONFIG.read_text()
    assert without in text
    text = text.replace(without, "")
    for number, here in enumerate([port, *gateways]):
        place = f" 100.64.0.1{number}:80"
        assert text.count(place) == 1
        text = text.replace(place, f" 127.0.0.1:{here}")
    config, output = folder / "haproxy.cfg", folder / "haproxy.log"
    config.write_text(text)
    with output.open("wb") as log:
        async with listening(program("haproxy"), "-db", "-f", config, port=port, stdout=log, stderr=log):
            yield f"http://127.0.0.1:{port}"
