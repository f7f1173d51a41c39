"""How a lab begins and ends: side by side, killed, orphaned, and failing to start. Real clusters throughout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import BadInput, Broken
from meshproof.core.progress import Silent
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab import api as labs
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab import doctor
from meshproof.providers.lab.api import Lab
from meshproof.providers.lab.build import go as gobuild
from meshproof.providers.lab.build import images
from meshproof.providers.lab.build.istio_releases import CURRENT
from meshproof.providers.lab.node import network
from meshproof.providers.lab.state import LabFolder
from tests.processes import ignore_interrupts, line_of, started

from .conftest import CLUSTERS

pytestmark = pytest.mark.lab


def must_be_gone(name: str, *, but_folder: bool = False) -> None:
    left = remains.find_remains(name)
    if left.processes or left.namespaces or left.links or left.cgroups or (left.folder and not but_folder):
        raise NotYet(str(left))


def test_a_second_lab_takes_other_ranges_by_itself(lab: Lab, scratch_name: str) -> None:
    second = labs.up(scratch_name, CLUSTERS[:1], Silent(), stays=False)
    assert not second.spec.plan.range.overlaps(lab.spec.plan.range)
    for each in (lab, second):
        access = each.clusters[0]
        assert Kube(access.kubeconfig, access.context).get("/version")["gitVersion"] == "v1.36.1"
    labs.down(scratch_name, Silent())
    must_be_gone(scratch_name)
    assert not lab.problems()


def test_a_second_lab_of_the_same_name_is_refused(lab: Lab) -> None:
    with pytest.raises(BadInput, match=f"lab {lab.folder.name}: is already running"):
        labs.up(lab.folder.name, CLUSTERS, Silent(), stays=False)
    assert not lab.problems()


def test_after_kill_9_of_the_daemon_the_next_start_clears_the_remains(scratch_name: str) -> None:
    labs.up(scratch_name, CLUSTERS[:1], Silent(), stays=True)
    daemon = LabFolder(scratch_name).daemon
    assert daemon is not None
    os.kill(daemon.pid, signal.SIGKILL)
    left = remains.find_remains(scratch_name)
    assert left.namespaces
    assert left.cgroups
    again = labs.up(scratch_name, CLUSTERS[:1], Silent(), stays=True)
    assert not again.problems()
    labs.down(scratch_name, Silent())
    must_be_gone(scratch_name)


def test_a_lab_ends_when_its_owner_is_killed(scratch_name: str, tmp_path: Path) -> None:
    """And leaves no keys where temporary files are, though its processes are ended by signals."""
    code = (
        "from meshproof.providers.lab import api as lab; from meshproof.core.progress import Silent\n"
        f"lab.up({scratch_name!r}, {CLUSTERS[:1]!r}, Silent(), stays=False)\n"
        "print('up', flush=True); input()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with started([sys.executable, "-c", code], within_s=300, stdin=subprocess.PIPE, env=environment) as owner:
        assert line_of(owner) == "up"
        owner.kill()
    eventually(lambda: must_be_gone(scratch_name, but_folder=True), what="end of the orphaned lab", timeout_s=30)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_start_leaves_nothing(scratch_name: str) -> None:
    argv = [sys.executable, "-m", "meshproof.cli.main", "lab", "up", f"--lab-name={scratch_name}"]
    with started(
        argv, within_s=300, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=ignore_interrupts
    ) as process:

        def begun() -> None:
            if not remains.find_remains(scratch_name).processes:
                raise NotYet("no process of the lab yet")

        eventually(begun, what="the first process of the lab", timeout_s=20, poll_s=0.1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 130
    assert told.endswith("meshproof: interrupted; nothing is left behind\n")
    must_be_gone(scratch_name)


def test_an_exit_while_starting_fails_at_once_with_the_last_words(
    scratch_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gobuild.ensure_programs(Silent())
    for program in real.iterdir():
        (tmp_path / program.name).symlink_to(program)
    (tmp_path / "kube-scheduler").unlink()
    (tmp_path / "kube-scheduler").write_text("#!/bin/sh\necho the scheduler is out of sorts >&2\nexit 7\n")
    (tmp_path / "kube-scheduler").chmod(0o755)
    seed = images.ensure_images({CURRENT: real}, Silent())
    monkeypatch.setattr(labs, "ensure_programs", lambda *_: tmp_path)
    monkeypatch.setattr(labs, "ensure_images", lambda *_: seed)
    with pytest.raises(Broken) as caught:
        labs.up(scratch_name, CLUSTERS[:1], Silent(), stays=False)
    assert "east/kube-scheduler exited with code 7; last log lines:\n    the scheduler is out of sorts" in str(
        caught.value
    )
    must_be_gone(scratch_name)


def test_a_process_that_ends_later_is_noticed_and_named(scratch_name: str) -> None:
    lab = labs.up(scratch_name, CLUSTERS[:1], Silent(), stays=False)
    assert lab.problems() == ()
    outer = labs.request_daemon(lab.folder, {"do": "status"})["processes"]["east/kube-scheduler"]
    inner = int(Path(f"/proc/{outer}/task/{outer}/children").read_text())
    os.kill(inner, signal.SIGKILL)

    def named() -> None:
        if not any(p.startswith("east/kube-scheduler ") for p in lab.problems()):
            raise NotYet(str(lab.problems()))

    eventually(named, what="the scheduler's end in the lab's problems", timeout_s=5)


def test_a_host_route_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch, scratch_name: str) -> None:
    from ipaddress import IPv4Network

    from meshproof.providers.lab.address_plan import HostRoute

    route = HostRoute(network=IPv4Network("198.18.0.0/15"), device="vpn0")
    monkeypatch.setattr(network, "host_routes", lambda: (route,))
    monkeypatch.setattr(doctor, "require_fit", lambda _: None)
    with pytest.raises(BadInput, match=r"overlaps the host's route 198\.18\.0\.0/15 on vpn0"):
        labs.up(scratch_name, CLUSTERS[:1], Silent(), stays=False)
    must_be_gone(scratch_name)
