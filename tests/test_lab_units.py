"""The lab's parts that need no cluster: addresses, folders, packages, cache keys, images, and their errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from pathlib import Path

import pytest

from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName
from meshproof.core.paths import private_folder
from meshproof.core.progress import Silent
from meshproof.providers.lab import doctor, locks
from meshproof.providers.lab.address_plan import SLOTS, HostRoute, choose_plan, overlaps, plan_slot
from meshproof.providers.lab.build import debian as packages
from meshproof.providers.lab.build import go as gobuild
from meshproof.providers.lab.build.images import Image, Layer, archive, copy_for_node
from meshproof.providers.lab.build.istio_releases import CURRENT, OLDER, RELEASES, before, release_of
from meshproof.providers.lab.node.load_balancer import AddressAllocator, PoolExhausted, status_patch
from meshproof.providers.lab.node.supervisor import Exit
from meshproof.providers.lab.state import LabFolder, LabSpec, ProcessMark

EAST, WEST = ClusterName("east"), ClusterName("west")


# -- addresses ------------------------------------------------------------------------------------------------------


def test_no_two_ranges_of_any_two_slots_overlap() -> None:
    plans = [plan_slot("x", slot, [ClusterName(f"c{n}") for n in range(6)]) for slot in range(SLOTS)]
    outside = [plan.range for plan in plans]
    inside = [net for plan in plans for node in plan.nodes for net in (node.pods, node.services)]
    for ranges in (outside, inside):
        ordered = sorted(ranges)
        assert all(not a.overlaps(b) for a, b in pairwise(ordered))


def test_what_a_node_has_lies_in_its_labs_range() -> None:
    plan = plan_slot("x", 3, [EAST, WEST])
    for node in plan.nodes:
        assert node.address in plan.range
        assert node.pool.subnet_of(plan.range)
        assert node.dns_service in node.services
    assert plan.node("west").address == IPv4Address("198.18.50.2")


def test_a_lab_skips_slots_that_are_taken_or_overlap_a_host_route() -> None:
    vpn = HostRoute(network=IPv4Network("198.18.16.0/24"), device="tun0")
    everything = HostRoute(network=IPv4Network("0.0.0.0/0"), device="eth0")
    assert choose_plan("x", [EAST], routes=[vpn, everything], taken=[0]).slot == 2


def test_a_labs_own_link_is_not_in_its_way() -> None:
    plan = plan_slot("x", 0, [EAST])
    assert overlaps(plan, [HostRoute(network=plan.range, device=plan.host_link)]) == ()


def test_a_wanted_slot_that_is_blocked_names_the_route() -> None:
    vpn = HostRoute(network=IPv4Network("198.18.0.0/16"), device="tun0")
    with pytest.raises(BadInput) as caught:
        choose_plan("x", [EAST], routes=[vpn], taken=[], wanted=1)
    assert str(caught.value) == (
        "address ranges of lab x: 198.18.16.0/20 overlaps the host's route 198.18.0.0/16 on tun0\n"
        "  repair: remove the route, choose another slot with --lab-slot=0..15, or stop another lab with "
        "`meshproof lab down`"
    )


def test_seven_clusters_are_too_many() -> None:
    with pytest.raises(BadInput, match="lab x: 7 clusters"):
        plan_slot("x", 0, [ClusterName(f"c{n}") for n in range(7)])


# -- the load balancer ----------------------------------------------------------------------------------------------


def service(name: str, kind: str = "LoadBalancer", address: str = "") -> dict[str, object]:
    ingress = [{"ip": address}] if address else []
    return {
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"type": kind},
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def test_addresses_differ_stay_the_same_and_survive_a_new_start() -> None:
    allocator = AddressAllocator(pool=IPv4Network("198.18.9.0/29"))
    first, second = allocator.address_for("ns/a"), allocator.address_for("ns/b")
    assert first != second
    assert allocator.address_for("ns/a") == first
    restarted = AddressAllocator(pool=allocator.pool)
    assert restarted.address_for("ns/b", wanted=str(second)) == second


def test_an_address_that_another_service_holds_is_not_given_twice() -> None:
    allocator = AddressAllocator(pool=IPv4Network("198.18.9.0/29"))
    first = allocator.address_for("ns/a")
    assert allocator.address_for("ns/b", wanted=str(first)) != first


def test_an_empty_pool_says_so() -> None:
    allocator = AddressAllocator(pool=IPv4Network("198.18.9.0/30"))
    allocator.address_for("ns/a"), allocator.address_for("ns/b")
    with pytest.raises(PoolExhausted, match=r"address for ns/c: the pool 198\.18\.9\.0/30 has no free address"):
        allocator.address_for("ns/c")


@pytest.mark.parametrize(("kind", "address", "patched"), [("ClusterIP", "", False), ("LoadBalancer", "", True)])
def test_only_services_of_type_load_balancer_are_patched(kind: str, address: str, patched: bool) -> None:
    allocator = AddressAllocator(pool=IPv4Network("198.18.9.0/29"))
    assert (status_patch(service("a", kind, address), allocator) is not None) is patched


def test_a_service_that_has_its_address_is_left_alone() -> None:
    allocator = AddressAllocator(pool=IPv4Network("198.18.9.0/29"))
    assert status_patch(service("a", address="198.18.9.5"), allocator) is None
    assert allocator.assigned == {"ns/a": IPv4Address("198.18.9.5")}


# -- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    open_folder = tmp_path / "cache"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    with pytest.raises(BadInput, match=r"is writable by others \(mode drwxrwxrwx\)"):
        private_folder(open_folder)
    open_folder.chmod(0o700)
    assert private_folder(open_folder) == open_folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "cache"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    with pytest.raises(BadInput, match="belongs to user 12345, and root executes programs from it"):
        private_folder(foreign)


@pytest.mark.parametrize("name", ["", "9lives", "a/b", "UPPER", "x" * 17, "../up"])
def test_lab_names_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="lab name"):
        LabFolder(name)


def test_a_lab_writes_down_what_it_is_and_reads_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MESHPROOF_STATE", str(tmp_path))
    folder = LabFolder("x")
    folder.make()
    assert folder.read_spec() is None
    owner = ProcessMark.of(os.getpid())
    spec = LabSpec(
        name="x", slot=1, clusters=(EAST, WEST), programs="/p", seed="/s", istio={"1.31.0": "/p"}, owner=owner
    )
    folder.write_spec(spec)
    assert folder.read_spec() == spec
    (folder / "spec.json").write_text('{"name": "x"')
    assert folder.read_spec() is None


def test_a_process_that_ended_is_not_taken_for_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = ProcessMark.of(child.pid)
    before = mark.alive
    child.communicate(b"\n", timeout=30)
    assert (before, mark.alive) == (True, False)
    assert not ProcessMark(pid=os.getpid(), start=1).alive, "same id, another start: another process"


def test_two_runs_cannot_use_one_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MESHPROOF_CACHE", str(tmp_path))
    monkeypatch.delenv(locks.HELD, raising=False)
    with locks.lab_lock("x"):
        with locks.lab_lock("x"):
            pass  # this very run, or one that it started
        monkeypatch.delenv(locks.HELD)
        with pytest.raises(BadInput) as caught, locks.lab_lock("x"):
            pass
        monkeypatch.setenv(locks.HELD, "x")
    assert str(caught.value) == (
        f"lab x: another run is using it (process {os.getpid()})\n"
        "  repair: wait until it has finished, or choose another --lab-name"
    )
    with locks.lab_lock("x"):
        assert os.environ[locks.HELD] == "x"
    assert locks.HELD not in os.environ


# -- packages and builds --------------------------------------------------------------------------------------------


def test_missing_packages_are_listed_with_the_command_where_we_may_not_install(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = tuple(p for p in packages.PACKAGES if p.name in ("runc", "tini"))
    monkeypatch.setattr(packages, "missing_packages", lambda: lacking)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadInput) as caught:
        packages.ensure_packages(Silent())
    assert str(caught.value) == (
        "system packages: missing: runc, tini, and this user is not root\n"
        "  repair: run as root: apt-get update && apt-get install --yes --no-install-recommends runc tini"
    )


def test_the_cache_key_depends_on_sources_and_compiler(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    shutil.copytree(CURRENT.folder, folder)
    copy = replace(CURRENT, folder=folder)
    first = gobuild.cache_key(copy, "go1.26.8")
    assert first == gobuild.cache_key(copy, "go1.26.8")
    assert first != gobuild.cache_key(copy, "go1.26.9")
    (folder / "go.sum").write_text((folder / "go.sum").read_text() + "\n")
    assert first != gobuild.cache_key(copy, "go1.26.8")


def test_istios_version_names_its_commit() -> None:
    assert CURRENT.version == f"1.31.0-{CURRENT.commit}"
    assert len({release.commit for release in RELEASES}) == len(RELEASES)
    assert [len(release.commit) for release in RELEASES] == [12] * len(RELEASES)


@pytest.mark.parametrize("text", ["1.30", "1.30.4", "v1.30.4", OLDER.version])
def test_a_release_is_found_by_what_people_call_it(text: str) -> None:
    assert release_of(text, "--istio-version") is OLDER


def test_a_release_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        release_of("1.29.1", "--istio-version")
    assert str(caught.value) == (
        "--istio-version=1.29.1: the lab cannot build that release of Istio\n  repair: use one of 1.30.4, 1.31.0"
    )


def test_an_upgrade_begins_at_the_minor_version_before() -> None:
    assert before(CURRENT) is OLDER
    assert before(OLDER) is None


def test_a_module_file_without_a_pinned_commit_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x\n")
    with pytest.raises(Broken, match=r"does not pin istio\.io/istio to a commit"):
        _ = replace(CURRENT, folder=tmp_path).commit


def test_a_failing_compiler_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MESHPROOF_CACHE", str(tmp_path / "cache"))
    fake = tmp_path / "go"
    fake.write_text(
        "#!/bin/sh\ncase $1 in env) echo go1.26.8;; list) echo a/b;;"
        " build) echo 'write x.o: no space left on device' >&2; exit 1;; esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(gobuild, "go_program", lambda _: fake)
    with pytest.raises(Broken) as caught:
        gobuild.ensure_programs(Silent())
    assert "go build: write x.o: no space left on device" in str(caught.value)
    assert "repair: free some space on" in str(caught.value)
    assert not list((tmp_path / "cache" / "bin").glob("*/.complete"))


# -- images ---------------------------------------------------------------------------------------------------------


def test_a_layer_is_the_same_bytes_for_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fELF")
    (tmp_path / "program").chmod(0o755)
    files: dict[str, Path | bytes] = {"usr/bin/program": tmp_path / "program", "etc/x": b"y"}

    def make() -> bytes:
        return Layer(files=dict(files), links={"bin/p": "program"}, open_folders=("tmp",)).tar()

    assert make() == make()
    with tarfile.open(fileobj=BytesIO(make())) as unpacked:
        assert unpacked.getmember("usr/bin/program").mode == 0o755
        assert unpacked.getmember("etc/x").mode == 0o644
        assert unpacked.getmember("tmp").mode == 0o1777
        assert unpacked.getmember("bin/p").linkname == "program"


def test_a_shared_layer_is_written_once(tmp_path: Path) -> None:
    shared, own = Layer(files={"a": b"1"}), Layer(files={"b": b"2"})
    images = (
        Image(name="x/one:1", layers=(shared, own), entrypoint=("/a",)),
        Image(name="x/two:1", layers=(shared,), entrypoint=("/a",)),
    )
    archive(images, tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as made:
        assert sum(name.endswith("layer.tar") for name in made.getnames()) == 2


def test_a_nodes_copy_shares_files_but_not_databases(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "blob").write_text("x")
    (seed / "meta.db").write_text("y")
    copy_for_node(seed, tmp_path / "node")
    assert (tmp_path / "node" / "blob").samefile(seed / "blob")
    assert not (tmp_path / "node" / "meta.db").samefile(seed / "meta.db")


# -- what people read -----------------------------------------------------------------------------------------------


def test_an_exit_tells_how_and_the_last_words() -> None:
    assert str(Exit(name="east/etcd", code=2, tail="no space")) == (
        "east/etcd exited with code 2; last log lines:\n    no space"
    )
    assert str(Exit(name="east/etcd", code=-9, tail="x")).startswith("east/etcd was killed by SIGKILL; last log lines:")


def test_a_machine_that_is_not_fit_gets_every_reason_and_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = (
        doctor.Finding(subject="user", grade=doctor.Grade.STOP, seen="user 1000, not root", repair="use sudo"),
        doctor.Finding(subject="memory", grade=doctor.Grade.OK, seen="plenty"),
        doctor.Finding(subject="disk", grade=doctor.Grade.STOP, seen="1 GiB free, 2 wanted", repair="free some"),
    )
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    with pytest.raises(BadInput) as caught:
        doctor.require_fit(Silent())
    assert str(caught.value) == (
        "this machine cannot run a lab: \n  user: user 1000, not root\n  disk: 1 GiB free, 2 wanted\n"
        "  repair: \n  user: use sudo\n  disk: free some"
    )


def test_a_check_that_breaks_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Finding:
        raise OSError("no such file")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    (finding,) = doctor.examine()
    assert (finding.grade, finding.seen) == (doctor.Grade.STOP, "OSError: no such file")
