"""The `meshproof` command: what it says and how it exits when something is wrong. Nothing is started here."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from meshproof.cli import diagram as diagram_command
from meshproof.cli import main as cli
from meshproof.clients.kubernetes.client import Kube
from meshproof.core.topology import load_topology
from meshproof.install.marker import marker
from meshproof.mesh.access import ClusterAccess
from meshproof.providers.lab import doctor
from meshproof.report.verdict import SCHEMA
from tests.fakes import LocalKube, toolbox


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MESHPROOF_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MESHPROOF_CACHE", str(tmp_path / "cache"))


def test_without_root_a_lab_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["lab", "up"]) == 2
    assert capsys.readouterr().err == (
        "meshproof: the lab: needs root for namespaces, mounts and network links\n"
        "  repair: run it as root or with sudo\n"
    )


def test_an_unknown_topology_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "up", "--topology=multi-primary"]) == 2
    told = capsys.readouterr().err
    assert "multi-primary" in told
    assert "primary-remote-samenet" in told


def test_a_broken_topology_file_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("title: x\nclusterz: []\n")
    assert cli.main(["lab", "up", f"--topology={tmp_path / 'mine.yaml'}"]) == 2
    assert "mine.yaml" in (told := capsys.readouterr().err)
    assert "clusterz" in told


@pytest.mark.parametrize("action", ["status", "kubeconfig"])
def test_a_lab_that_is_not_up_says_how_to_start_it(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", action, "--lab-name=nosuch"]) == 2
    assert capsys.readouterr().err == ("meshproof: lab nosuch: is not up\n  repair: start it with `meshproof lab up`\n")


def test_down_without_a_lab_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "down", "--lab-name=nosuch"]) == 0
    assert capsys.readouterr().out == "lab nosuch: nothing to remove\n"


def test_the_doctor_shows_every_finding_and_fails_on_the_worst(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = doctor.Finding(subject="memory", grade=doctor.Grade.STOP, seen="1 GiB", repair="a bigger machine")
    good = doctor.Finding(subject="user", grade=doctor.Grade.OK, seen="root")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: good, lambda: bad))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out == "OK    user: root\nSTOP  memory: 1 GiB\n      repair: a bigger machine\n"


def test_a_wrong_slot_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["lab", "up", "--lab-slot=99"])
    assert caught.value.code == 2
    assert "--lab-slot" in capsys.readouterr().err


def test_the_help_tells_where_the_claims_are_and_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert caught.value.code == 0
    assert "pytest --topology=NAME" in told
    assert "meshproof lab up --topology=primary-remote-multinet" in told
    for line in told.splitlines():
        assert len(line) <= 100, line


@pytest.mark.parametrize("command", re.findall(r"^  meshproof (.*?)(?: >|  |$)", cli._EPILOG, re.MULTILINE))
def test_the_commands_of_the_help_can_be_typed(command: str) -> None:
    assert cli._parser().parse_args(shlex.split(command)).command == command.split()[0]


# -- diagram ----------------------------------------------------------------------------------------------------------


def verdict_file(folder: Path, **topologies: Mapping[str, str]) -> Path:
    told = {
        name.replace("_", "-"): {"claims": {code: {"result": result} for code, result in claims.items()}}
        for name, claims in topologies.items()
    }
    path = folder / "verdict.yaml"
    path.write_text(yaml.safe_dump({"schema": SCHEMA, "kubernetes": {"cluster1": "v1.36.1"}, "topologies": told}))
    return path


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_without_a_lab_the_plan_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagram", "--topology=primary-remote-multinet"]) == 0
    drawn = words(capsys.readouterr().out)
    assert {"primary-remote-multinet", "nothing proven yet", "TRUST-05", ":15012 :15017 :15443"} <= set(drawn)


def test_results_of_a_verdict_are_drawn_and_choose_the_topology(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = verdict_file(tmp_path, multi_primary_multinet={"TRUST-05": "FAILED", "TRUST-02": "SUCCEEDED"})
    assert cli.main(["diagram", f"--verdict={verdict}", "-o", str(tmp_path / "mesh.svg")]) == 0
    out, told = capsys.readouterr()
    assert (out, told) == ("", f"wrote {tmp_path / 'mesh.svg'}\n")
    drawn = words((tmp_path / "mesh.svg").read_text())
    assert {"multi-primary-multinet", "1 FAILED", "one root TRUST-05", "primary · Kubernetes v1.36.1"} <= set(drawn)


@pytest.mark.parametrize(
    ("text", "reason", "repair"),
    [
        (None, "no such file", "name a verdict.yaml written by a run"),
        ("a: [", "not valid YAML: ", "name a verdict.yaml written by a run"),
        ("\0", "not valid YAML: ", "name a verdict.yaml written by a run"),
        ("[]", f"its schema is None, not {SCHEMA}", "name a verdict.yaml written by a run"),
        (f"schema: {SCHEMA}", "it is damaged: KeyError('topologies')", "name a verdict.yaml written by a run"),
        (f"schema: {SCHEMA}\ntopologies: {{}}", "it has no results", "name a verdict.yaml written by a run"),
        (
            f"schema: {SCHEMA}\ntopologies: {{a: {{claims: {{TRUST-01: {{result: FINE}}}}}}}}",
            "it is damaged: ValueError(\"'FINE' is not a valid Result\")",
            "name a verdict.yaml written by a run",
        ),
        (
            f"schema: {SCHEMA}\ntopologies: {{other: {{claims: {{}}}}}}",
            "it has no results for multi-primary-samenet",
            "use --topology=other, or run the claims on multi-primary-samenet",
        ),
    ],
)
def test_a_file_that_is_no_verdict_is_refused(
    text: str | None, reason: str, repair: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdict.yaml"
    if text is not None:
        path.write_text(text)
    assert cli.main(["diagram", "--topology=multi-primary-samenet", f"--verdict={path}"]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told.startswith(f"meshproof: --verdict={path}: {reason}")
    assert f"\n  repair: {repair}" in told


def test_what_to_draw_must_be_said_somewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagram"]) == 2
    missing = "meshproof: --topology is missing: lab default is not up, so the topology is unknown\n  repair: use "
    assert capsys.readouterr().err.startswith(missing)
    both = verdict_file(tmp_path, multi_primary_multinet={}, multi_primary_samenet={})
    assert cli.main(["diagram", f"--verdict={both}"]) == 2
    assert capsys.readouterr().err.startswith(missing)


def test_a_picture_that_cannot_be_written_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "nosuch" / "mesh.svg"
    assert cli.main(["diagram", "--topology=multi-primary-samenet", "-o", str(target)]) == 2
    assert capsys.readouterr().err == (
        f"meshproof: -o {target}: no such folder\n  repair: name a file in an existing folder\n"
    )


class Running:
    """A lab on which a topology was installed: each API server knows its version, the marker, and nothing else."""

    toolbox = toolbox()

    def __init__(self, topology: str) -> None:
        told = marker(load_topology(topology))
        self.clusters = tuple(
            ClusterAccess(
                name=cluster.name,
                kubeconfig=Path("/nonexistent"),
                context=cluster.name,
                server_for_peers="https://198.51.100.7:6443",
                kube=Answering(cluster.name, told),
            )
            for cluster in load_topology(topology).clusters
        )


class Answering(LocalKube):
    def __init__(self, name: str, told: dict[str, object]) -> None:
        super().__init__(name)
        self.told = told

    def get(self, path: str, **query: str) -> dict[str, object]:
        return {"gitVersion": "v1.99.9"} if path == "/version" else {"items": []}

    def find(self, kind: str, name: str, namespace: str | None = None) -> dict[str, object] | None:
        return self.told if kind == "ConfigMap" else None


def test_a_running_lab_is_drawn_as_it_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Running("primary-remote-samenet")
    kubes: list[Kube | None] = [access.kube for access in lab.clusters]
    monkeypatch.setattr(diagram_command, "_lab", lambda name: lab)
    monkeypatch.setattr(diagram_command, "_kubes", lambda running: kubes)
    assert cli.main(["diagram"]) == 0
    out, told = capsys.readouterr()
    assert told == ""
    assert {"primary · Kubernetes v1.99.9", "198.51.100.7:6443", "missing", "no root"} <= set(words(out))
    assert cli.main(["diagram", "--topology=multi-primary-samenet"]) == 0
    out, told = capsys.readouterr()
    assert told == "meshproof: lab default does not run multi-primary-samenet: drawn as planned\n"
    assert "missing" not in words(out)
