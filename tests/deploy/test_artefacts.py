"""Tests of the files in `deploy/`. Tools for their formats check them, and the names in them are compared with the
code.

No container engine runs here: the image is not built, and no service of compose is started.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway.config.load import load
from gateway.config.model import Config
from gateway.contract.registry import discover
from gateway.process.command_line import parser_of
from gateway.process.common_options import default_state
from tests.clients.samples import TOOLS_FOLDER, program
from tests.test_shape import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "docker/Dockerfile"
UNITS = sorted((DEPLOY / "systemd").glob("irisgate*.*"))
COMPOSE = DEPLOY / "compose"
SETS = {
    "serve": ["compose.yml"],
    "whois": ["compose.whois.yml"],
    "serve with PostgreSQL": ["compose.yml", "compose.postgres.yml"],
    "serve with metrics": ["compose.yml", "compose.metrics.yml"],
}
TAG = re.compile(r"postgres:[0-9]+\.[0-9]+|[a-z0-9./-]+:v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.-]+)?")
"""Pattern of an image whose tag names exactly one release. A tag such as `latest` or `3` is moved to newer releases.

PostgreSQL's releases have two numbers, and those of the other images three.
"""
EXPOSURE = 1.5
"""Highest allowed exposure of a systemd unit, as `systemd-analyze security` computes it on a scale from 0 to 10."""


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(path):
    """Return the documents of a YAML file. Skip the test if PyYAML is not in the tools of `.ci/run`."""
    folder = TOOLS_FOLDER / "deploy"
    if not folder.is_dir():
        pytest.skip("PyYAML is not in .tools")
    code = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"
    return json.loads(run(sys.executable, "-c", code, input=path.read_text(), env={"PYTHONPATH": str(folder)}))


def test_shellcheck_has_nothing_to_say():
    shellcheck = program("shellcheck", "deploy", "bin")
    scripts = [path for path in SCRIPTS if path.read_text().startswith("#!") and "bench" not in path.parts]
    assert len(scripts) > 5
    run(shellcheck, "--severity=warning", "--external-sources", "--source-path=SCRIPTDIR/..", *scripts)


def test_hadolint_has_nothing_to_say():
    run(program("hadolint", "deploy", "bin"), "--failure-threshold", "style", DOCKERFILE)


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("[!h]*/**/*.yml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_can_be_read(path):
    assert [document for document in documents(path) if document]


def images():
    """Return the images that the Dockerfile and compose name."""
    yield from re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    for path in COMPOSE.glob("*.yml"):
        yield from re.findall(r"^ +image: (\S+)", path.read_text(), re.MULTILINE)


def test_every_image_has_the_tag_of_one_release():
    assert len(list(images())) > 6
    assert [image for image in images() if not TAG.fullmatch(image)] == []


def lines(instruction):
    """Return the arguments of each use of an instruction in the Dockerfile. Continued lines are joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction} (.+)$", text, re.MULTILINE)


def test_the_image_copies_what_there_is_and_its_context_has_it():
    ignored = (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()
    sources = [word for line in lines("COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if f"!{source}" not in ignored] == []
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(sources)


def test_the_image_needs_no_root_and_asks_the_gateway_itself():
    assert lines("USER") == ["65532:65532"]
    (entry,), (command,) = lines("ENTRYPOINT"), lines("CMD")
    assert json.loads(entry) == ["irisgate"]
    options = parser_of().parse_args(json.loads(command))
    assert str(options.config) == "/etc/irisgate/config.hujson"
    (check,) = lines("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["irisgate-health"]


def test_the_environment_of_the_image_is_read_by_the_gateway(monkeypatch):
    (line,) = [line for line in lines("ENV") if "PIP_" not in line]
    variables = dict(word.split("=") for word in line.split())
    monkeypatch.setenv("STATE_DIRECTORY", variables["STATE_DIRECTORY"])
    assert str(default_state()) == "/var/lib/irisgate" == lines("VOLUME")[0]
    assert {variables["STATE_DIRECTORY"], "/run/irisgate"} < set(DOCKERFILE.read_text().split())


def test_the_image_has_the_dependencies_of_the_project_with_hashes():
    text = (DEPLOY / "docker/requirements.txt").read_text().replace("\\\n", "")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [pin for pin in pins if " --hash=sha256:" not in pin or "://" in pin] == []
    locked = {each.name: each for each in (Requirement(pin.partition(" --hash")[0].strip()) for pin in pins)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [
        *project["dependencies"],
        *project["optional-dependencies"]["aws"],
        *project["optional-dependencies"]["postgres"],
    ]:
        needed = Requirement(text)
        assert canonicalize_name(needed.name) in locked, f"{text}: run tests/lock"
        (exact,) = locked[canonicalize_name(needed.name)].specifier
        assert needed.specifier.contains(exact.version), text


def services(names):
    """Return the services of compose files, as the parser of compose merges them."""
    parser = program("cmd", "go")
    return json.loads(run(parser, "-format", "json", *names, cwd=COMPOSE))


@pytest.mark.parametrize("name", SETS)
def test_compose_accepts_the_files_and_the_services_are_confined(name):
    project = services(SETS[name])
    for service in project["services"].values():
        assert service["restart"] == "unless-stopped"
        for volume in service["volumes"]:
            # mounted files and folders exist; secrets are written by the operator
            assert volume["type"] == "volume" or Path(volume["source"]).exists(), volume
    ours = [service for name, service in project["services"].items() if name != "tailscale"]
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in ours)
    gateway = project["services"]["irisgate"]
    assert gateway["user"] == lines("USER")[0]
    assert gateway["build"]["dockerfile"] == str(DOCKERFILE.relative_to(ROOT))
    assert Path(gateway["build"]["context"]).resolve() == ROOT


@pytest.mark.parametrize("name", ["serve", "whois"])
def test_compose_and_its_configuration_name_the_same_places(name, tmp_path):
    """Check that the configuration beside a compose file is valid, and has the same socket, key file and port as the
    compose file.
    """
    gateway = services(SETS[name])["services"]["irisgate"]
    tailscale = services(SETS[name])["services"]["tailscale"]
    text = (COMPOSE / name / "config.hujson").read_text()
    (key,) = re.findall(r'"file:(/run/secrets/\w+)"', text)
    assert [secret["source"] for secret in gateway["secrets"]] == [Path(key).name]
    (tmp_path / "key").write_text("a-key")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "config.hujson").write_text(text.replace(key, str(tmp_path / "key")))
    loaded = load(tmp_path / "config.hujson", plugins=discover().known)
    assert not loaded.warnings
    (listener,) = loaded.config.server.listeners
    targets = {volume["target"] for volume in gateway["volumes"]}
    assert {"/etc/irisgate", "/var/lib/irisgate"} < targets
    asked = gateway["healthcheck"]["test"]
    assert asked[:2] == ["CMD", "irisgate-health"]
    if name == "serve":
        serve = json.loads((COMPOSE / "tailscale/serve.json").read_text())
        (handler,) = [handler for web in serve["Web"].values() for handler in web["Handlers"].values()]
        assert asked[2] == handler["Proxy"] == listener.listen
        shared = [{volume["source"]: volume["target"] for volume in each["volumes"]} for each in (gateway, tailscale)]
        assert shared[0]["socket"] == shared[1]["socket"] == str(Path(listener.unix).parent)
    else:
        assert asked[2] == f"http://{listener.listen}"
        assert gateway["network_mode"] == "service:tailscale"
        assert str(listener.tailscaled) == tailscale["environment"]["TS_SOCKET"]
        assert str(Path(str(listener.tailscaled)).parent) in targets


def test_the_storage_in_compose_names_its_server(tmp_path):
    """Check that the setting `storage` in the README of compose matches the PostgreSQL server in the compose file:
    host, user, database and password file.
    """
    project = services(SETS["serve with PostgreSQL"])["services"]
    server = project["postgres"]
    (storage,) = re.findall(r'"storage": (\{.*?\n\})', (COMPOSE / "README.md").read_text(), re.DOTALL)
    (key,) = re.findall(r'"file:(/run/secrets/\w+)"', storage)
    (tmp_path / "key").write_text("a-password")
    (tmp_path / "config.hujson").write_text(f'{{"storage": {storage.replace(key, str(tmp_path / "key"))}}}')
    postgres = load(tmp_path / "config.hujson", plugins=discover().known).config.storage.postgres
    assert postgres.server.host in project
    assert postgres.server.user == server["environment"]["POSTGRES_USER"]
    assert postgres.server.database == server["environment"]["POSTGRES_DB"]
    assert postgres.password.value == "a-password"
    assert server["environment"]["POSTGRES_PASSWORD_FILE"] == key
    for service in (server, project["irisgate"]):
        assert Path(key).name in [secret["source"] for secret in service["secrets"]]


def test_prometheus_of_compose_scrapes_the_listener_of_the_metrics():
    (config,) = documents(COMPOSE / "prometheus/prometheus.yml")
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert f'"metrics": {{ "listen": "{target}" }}' in (COMPOSE / "serve/config.hujson").read_text()
    project = services(SETS["serve with metrics"])["services"]
    mounted = {volume["target"]: volume for volume in project["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} < set(mounted)
    # a variable of Grafana's provisioning is set
    sources = (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    assert re.findall(r"\$\{(\w+)\}", sources) == ["PROMETHEUS_URL"]
    assert project["grafana"]["environment"]["PROMETHEUS_URL"] == "http://irisgate:9090"


def settings(path):
    """Return the settings of a systemd unit: a dict from the name of each setting to the list of its values."""
    values = {}
    for line in path.read_text().splitlines():
        if (name := re.fullmatch(r"(\w+)=(.*)", line)) is not None:
            values.setdefault(name[1], []).append(name[2])
    return values


@pytest.fixture
def installed(tmp_path):
    """Return a root folder that has the systemd units and the commands that they start."""
    units, programs = tmp_path / "etc/systemd/system", tmp_path / "opt/irisgate/bin"
    for folder in (units, programs):
        folder.mkdir(parents=True)
    for name in ("irisgate", "backup-daily", "kill"):
        path = (tmp_path / "bin" if name == "kill" else programs) / name
        path.parent.mkdir(exist_ok=True)
        path.touch(0o755)
    for unit in UNITS:
        # targets of a whole system are not in the folder
        (units / unit.name).write_text(unit.read_text())
    return tmp_path


def test_systemd_accepts_the_units(installed):
    analyze = program("systemd-analyze")
    for unit in UNITS:
        text = run(analyze, "verify", "--man=no", "--recursive-errors=no", f"--root={installed}", unit.name)
        assert text == ""


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_a_service_is_confined(unit):
    report = run(program("systemd-analyze"), "security", "--offline=true", "--no-pager", unit)
    (exposure,) = re.findall(r"Overall exposure level for \S+ ([0-9.]+)", report)
    assert float(exposure) < EXPOSURE


def test_the_service_starts_the_command_and_stops_after_its_calls():
    service = settings(DEPLOY / "systemd/irisgate.service")
    (start,) = service["ExecStart"]
    options = parser_of().parse_args(shlex.split(start)[1:])
    assert options.command == "serve"
    assert str(options.config) == "/etc/irisgate/config.hujson"
    assert float(service["TimeoutStopSec"][0]) > Config().server.drain_seconds
    assert service["Type"] == ["notify"]
    assert service["ExecReload"] == ["/bin/kill -USR2 $MAINPID"]
    assert service["ReadWritePaths"] == [f"/var/lib/{service['StateDirectory'][0]}"]
    assert settings(DEPLOY / "systemd/irisgate-backup.service")["StateDirectory"] == service["StateDirectory"]


def test_the_daily_backup_keeps_the_newest(tmp_path):
    """Check that the script of the daily backup keeps the newest 14 backups, and deletes no folder that is not a daily
    backup.

    The backup command is replaced by one that only makes an empty folder.
    """
    command = tmp_path / "irisgate"
    command.write_text('#!/bin/sh\nmkdir "$4"\n')
    command.chmod(0o755)
    script = (DEPLOY / "systemd/backup-daily").read_text().replace("/opt/irisgate/bin/irisgate", str(command))
    (line,) = [line for line in script.splitlines() if line.startswith(str(command))]
    options = parser_of().parse_args(shlex.split(line)[1:])
    assert options.command == "backup"
    old = [f"2026-11-{day:02}T000000Z" for day in range(1, 21)]
    for name in (*old, "kept-by-hand"):
        (tmp_path / "state/backups" / name).mkdir(parents=True)
    run("/bin/sh", "-c", script, env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")})
    left = sorted(path.name for path in (tmp_path / "state/backups").iterdir())
    assert left[:-2] == old[-13:]
    assert left[-1] == "kept-by-hand"
    assert len(left) == 15
