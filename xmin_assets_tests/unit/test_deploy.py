"""The examples in deploy/ agree with the project's files and with each other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from xmin_assets.cli.main import COMMANDS
from xmin_assets.config import load_config, parse_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
if not DEPLOY.is_dir():
    pytest.skip("installed without its project folder", allow_module_level=True)

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/docker-compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
MANIFESTS = {path.name: list(yaml.safe_load_all(path.read_text())) for path in (DEPLOY / "kubernetes").glob("*.yaml")}
KNOWN = set(re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
PROGRAMS = {"dagster", "dagster-webserver", "dagster-daemon", "xmin-assets"}
PORT = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]


def instructions(name: str) -> list[list[str]]:
    """The arguments of each instruction of that name in the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith(f"{name} ")]


def pods(file: str) -> list[dict[str, Any]]:
    """The pod templates of a file."""
    found = []
    for manifest in MANIFESTS[file]:
        spec = manifest.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found.append(spec["template"])
    return found


def test_the_dockerfile_copies_what_exists() -> None:
    copied = [part for arguments in instructions("COPY") for part in arguments[:-1] if not part.startswith("--")]
    assert copied
    assert [path for path in copied if not (ROOT / path).exists()] == []
    # A file that the build needs, and the instance that every process reads.
    assert {"pyproject.toml", "constraints.txt", "README.md", "dagster.yaml"} <= set(copied)


def test_every_service_has_an_image_that_is_pulled_or_built() -> None:
    for name, service in SERVICES.items():
        if build := service.get("build"):
            context = (DEPLOY / "compose" / build["context"]).resolve()
            assert context == ROOT and (context / build["dockerfile"]).is_file(), name
            assert service["command"][0] in PROGRAMS
        else:
            assert re.fullmatch(r"postgres:\d+", service["image"]), name
        assert all(other in SERVICES for other in service.get("depends_on", {})), name
        for other in service.get("depends_on", {}):
            assert "healthcheck" in SERVICES[other]


def test_compose_mounts_volumes_that_are_declared_and_files_that_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / "compose" / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


def test_variables_are_those_of_the_example_environment() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose/docker-compose.yaml").read_text()))
    assert asked <= KNOWN
    for name, service in SERVICES.items():
        if "build" in service:
            assert set(service["environment"]) <= KNOWN
            assert "DAGSTER_POSTGRES_URL" in service["environment"], name
    for file in MANIFESTS:
        for pod in pods(file):
            for container in pod["spec"]["containers"]:
                assert {variable["name"] for variable in container.get("env", [])} <= KNOWN


def test_the_code_location_is_where_the_workspace_says() -> None:
    assert PORT["host"] in SERVICES
    command = SERVICES[PORT["host"]]["command"]
    assert command[command.index("--port") + 1] == str(PORT["port"])
    services = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS["dagster.yaml"] if m["kind"] == "Service"}
    assert [port["port"] for port in services[PORT["host"]]["ports"]] == [PORT["port"]]


@pytest.mark.parametrize("file", MANIFESTS)
def test_manifests_are_complete_and_name_each_other_rightly(file: str) -> None:
    named: dict[str, set[str]] = {}
    for manifest in MANIFESTS[file]:
        assert manifest["apiVersion"] and manifest["metadata"]["name"]
        assert manifest["metadata"]["labels"]
        named.setdefault(manifest["kind"], set()).add(manifest["metadata"]["name"])
    labels = [pod["metadata"]["labels"] for pod in pods(file)]

    for manifest in MANIFESTS[file]:
        if manifest["kind"] == "Deployment":
            assert manifest["spec"]["selector"]["matchLabels"] == manifest["spec"]["template"]["metadata"]["labels"]
        if manifest["kind"] == "Service":
            selected = [pod for pod in pods(file) if pod["metadata"]["labels"] == manifest["spec"]["selector"]]
            assert len(selected) == 1
            (container,) = selected[0]["spec"]["containers"]
            offered = {port["name"] for port in container["ports"]}
            assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= offered
    assert len(labels) == len({tuple(label.items()) for label in labels})

    for pod in pods(file):
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in named["ConfigMap"]
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in named["PersistentVolumeClaim"]
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert container["image"] == "xmin-assets"
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes)
            secrets = [source["secretRef"]["name"] for source in container.get("envFrom", [])]
            secrets += [v["valueFrom"]["secretKeyRef"]["name"] for v in container.get("env", []) if "valueFrom" in v]
            assert set(secrets) <= {"xmin-assets"}


def test_what_the_examples_replicate_is_a_configuration() -> None:
    load_config(DEPLOY / "compose/tables.yaml")
    texts = [m["data"]["tables.yaml"] for file in MANIFESTS.values() for m in file if m["kind"] == "ConfigMap"]
    assert len(texts) == len(MANIFESTS)
    for text in texts:
        assert parse_config(yaml.safe_load(text)).tables


def test_commands_of_the_containers_exist() -> None:
    commands = [service["command"] for service in SERVICES.values() if "command" in service]
    commands += [c["command"] for file in MANIFESTS for pod in pods(file) for c in pod["spec"]["containers"]]
    for command in commands:
        assert command[0] in PROGRAMS
        assert command[0] != "xmin-assets" or command[1] in COMMANDS


def test_the_deployments_readme_names_files_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text()
    named = re.findall(r"(deploy/\S+\.yaml)", text)
    assert len(named) == 3
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert "secret generic xmin-assets" in text
