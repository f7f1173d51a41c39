"""The `meshproof` command: what it says and how it exits when something is wrong. Nothing is started here."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from meshproof import cli
from meshproof.providers.lab import doctor


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MESHPROOF_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MESHPROOF_CACHE", str(tmp_path / "cache"))


def test_without_root_a_lab_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["lab", "up"]) == 2
    assert capsys.readouterr().err == (
        "meshproof: the lab: needs root: it makes namespaces, mounts and network links\n"
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
    assert capsys.readouterr().out == "lab nosuch: nothing was there\n"


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
