"""Tests of the Helm chart. Its objects are rendered for several sets of values, and checked together with the
configuration in them. `helm lint` is run too.
"""

import json
import re

import pytest

from gateway.config.load import load
from gateway.config.model import Config
from gateway.contract.registry import discover
from gateway.process.command_line import parser_of
from tests.clients.samples import program
from tests.deploy.test_artefacts import DEPLOY, TAG, documents, lines, run

CHART = DEPLOY / "helm/irisgate"
OPTIONS = {
    "serve": [],
    "whois": ["--set", "tailscale.mode=whois"],
    "metrics": ["--set", "metrics.enabled=true,metrics.serviceMonitor=true"],
    "claim": ["--set", "persistence.existingClaim=mine,podDisruptionBudget.enabled=false,drainSeconds=120"],
    "workers": ["--set", "workers=4"],
}


@pytest.fixture(scope="module")
def helm():
    return program("helm", "go")


@pytest.fixture
def rendered(helm, tmp_path):
    """Return a function that renders the chart, and returns a dict from each `kind` to the object of this kind."""

    def render(name):
        path = tmp_path / "rendered.yaml"
        path.write_text(run(helm, "template", "irisgate", CHART, *OPTIONS[name], env={"HOME": str(tmp_path)}))
        return {document["kind"]: document for document in documents(path) if document}

    return render


@pytest.mark.parametrize("name", OPTIONS)
def test_helm_lint_has_nothing_to_say(helm, name, tmp_path):
    output = run(helm, "lint", "--strict", CHART, *OPTIONS[name], env={"HOME": str(tmp_path)})
    assert "1 chart(s) linted, 0 chart(s) failed" in output


@pytest.mark.parametrize(
    "wrong", ["image.tag=latest", "tailscale.mode=funnel", "existingSecret=", "drainSeconds=-1", "workers=0"]
)
def test_a_wrong_value_is_refused(helm, wrong, tmp_path):
    with pytest.raises(AssertionError, match="values don't meet the specifications"):
        run(helm, "template", "irisgate", CHART, "--set", wrong, env={"HOME": str(tmp_path)})


def pod(objects):
    return objects["StatefulSet"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_pod_is_confined_and_its_images_are_of_one_release(rendered, name):
    spec = pod(rendered(name))
    containers = [*spec["initContainers"], *spec["containers"]]
    assert len(containers) == 2
    for container in containers:
        assert TAG.fullmatch(container["image"])
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["resources"]["limits"]["memory"]
        volumes = {volume["name"] for volume in spec["volumes"]} | {"state"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert spec["securityContext"]["runAsNonRoot"]
    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == lines("USER")[0]
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", OPTIONS)
def test_the_gateway_reads_the_configuration_that_the_chart_writes(rendered, name, tmp_path):
    objects = rendered(name)
    text = objects["ConfigMap"]["data"]["config.hujson"]
    (key,) = re.findall(r'"file:(/etc/irisgate-keys/\w+)"', text)
    (tmp_path / "key").write_text("a-key")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "config.hujson").write_text(text.replace(key, str(tmp_path / "key")))
    loaded = load(tmp_path / "config.hujson", plugins=discover().known)
    assert not loaded.warnings
    spec = pod(objects)
    (gateway,), (sidecar,) = spec["containers"], spec["initContainers"]
    options = parser_of().parse_args(gateway["args"])
    assert options.workers == ("4" if name == "workers" else "1")
    mounted = {mount["mountPath"] for mount in gateway["volumeMounts"]}
    assert {str(options.config.parent), str(options.state), "/etc/irisgate-keys"} <= mounted
    listener, *more = loaded.config.server.listeners
    asked = [gateway[probe]["exec"]["command"][-1] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {address.removeprefix("http://") for address in asked} == {listener.listen}
    environment = {each["name"]: each.get("value") for each in sidecar["env"]}
    if name == "whois":
        assert (listener.identity, str(listener.tailscaled)) == ("whois", environment["TS_SOCKET"])
    else:
        serve = json.loads(objects["ConfigMap"]["data"]["serve.json"])
        (handler,) = [handler for web in serve["Web"].values() for handler in web["Handlers"].values()]
        assert (listener.identity, handler["Proxy"]) == ("serve-headers", listener.listen)
        assert environment["TS_SERVE_CONFIG"] == "/config/serve.json"
    assert [each.port for each in more] == [port["containerPort"] for port in gateway.get("ports", [])]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_pod_has_time_for_its_calls(rendered, name):
    objects = rendered(name)
    spec = pod(objects)
    (gateway,) = spec["containers"]
    config = json.loads(objects["ConfigMap"]["data"]["config.hujson"])
    assert gateway["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert spec["terminationGracePeriodSeconds"] == 5 + config["server"]["drain_seconds"] + 15
    assert config["server"]["drain_seconds"] == (120 if name == "claim" else Config().server.drain_seconds)
    assert spec["initContainers"][0]["restartPolicy"] == "Always"


def test_the_values_choose_the_objects(rendered):
    common = {"ConfigMap", "Service", "StatefulSet"}
    assert set(rendered("serve")) == common | {"PodDisruptionBudget"}
    assert set(rendered("metrics")) == common | {"PodDisruptionBudget", "ServiceMonitor"}
    claim = rendered("claim")
    assert set(claim) == common
    assert "volumeClaimTemplates" not in claim["StatefulSet"]["spec"]
    assert {"name": "state", "persistentVolumeClaim": {"claimName": "mine"}} in pod(claim)["volumes"]
    selected = rendered("serve")["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    labels = rendered("serve")["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= labels.items()
