"""The API of the lab: prepare, start, find, control, stop. The clusters themselves belong to the daemon."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName, Topology
from meshproof.core.paths import state_root
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab import doctor
from meshproof.providers.lab.address_plan import choose_plan
from meshproof.providers.lab.build.debian import ensure_packages
from meshproof.providers.lab.build.go import PUBLIC_HUB, ensure_programs
from meshproof.providers.lab.build.images import APP, CLIENT, ensure_images
from meshproof.providers.lab.build.istio_releases import CURRENT, RELEASES, Release
from meshproof.providers.lab.build.wheels import ENVOY
from meshproof.providers.lab.locks import exclusively, lab_lock
from meshproof.providers.lab.node import network
from meshproof.providers.lab.node.components import AUDIT_LOG
from meshproof.providers.lab.node.supervisor import tail_of
from meshproof.providers.lab.state import LabFolder, LabSpec, ProcessMark

DATA_PLANE = (
    f"upstream Envoy {ENVOY.version} without Istio's own filters (no metadata exchange, no Istio telemetry); "
    "control plane built from source"
)

ISTIO_VALUES: dict[str, object] = {
    # Upstream Envoy lacks Istio's own filters: features that need them are disabled.
    "meshConfig": {"defaultProviders": {"metrics": []}},
    "values": {
        "telemetry": {"enabled": False},
        "pilot": {"env": {"PILOT_ENABLE_ALPN_FILTER": "false", "PILOT_ENABLE_METADATA_EXCHANGE": "false"}},
    },
}


class Lab:
    """A running lab; a `Provider`. `installs` is the release of Istio that is or was installed on it."""

    name = "lab"

    def __init__(self, folder: LabFolder, spec: LabSpec, installs: Release | None = None) -> None:
        self.folder = folder
        self.spec = spec
        self.installs = installs or self.releases[0]

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases whose images its clusters have, first the one that it was started for."""
        return tuple(release for number in self.spec.istio for release in RELEASES if release.number == number)

    @property
    def clusters(self) -> tuple[ClusterAccess, ...]:
        return tuple(
            ClusterAccess(
                name=node.cluster,
                kubeconfig=self.folder.kubeconfig(node.cluster),
                context=str(node.cluster),
                server_for_peers=node.api_url,
            )
            for node in self.spec.plan.nodes
        )

    @property
    def toolbox(self) -> Toolbox:
        return self.toolbox_of(self.installs)

    def toolbox_of(self, release: Release) -> Toolbox:
        """The programs and images of one of its releases."""
        return Toolbox(
            istioctl=_istioctl(self.spec.istio[release.number]),
            istio_version=release.version,
            hub=PUBLIC_HUB,
            tag=release.version,
            images={"app": APP, "client": CLIENT},
            istio_values=ISTIO_VALUES,
            data_plane=DATA_PLANE,
            istioctls={number: _istioctl(folder) for number, folder in self.spec.istio.items()},
        )

    def connect(self, topology: Topology) -> None:
        """Set routes between pods of clusters on one network, and remove those between others."""
        groups = [[c.name for c in topology.clusters if c.network == network] for network in topology.networks]
        request_daemon(self.folder, {"do": "connect", "groups": groups})

    @property
    def machine_control(self) -> Lab:
        return self

    def block(self, client: ClusterName, server: ClusterName, ports: tuple[int, ...]) -> None:
        plan = self.spec.plan
        network.block(plan, plan.node(client), plan.node(server), ports)

    def unblock(self) -> None:
        network.unblock(self.spec.plan)

    def restart_api_server(self, cluster: ClusterName) -> None:
        self.restart(f"{cluster}/kube-apiserver")

    @property
    def identity(self) -> str:
        """The lab's daemon process, which differs from that of a later lab of the same name."""
        mark = self.folder.daemon
        return f"lab {self.folder.name} {mark.pid}-{mark.start}" if mark else f"lab {self.folder.name}, without daemon"

    def cut(self, a: ClusterName, b: ClusterName, *, one_way: bool) -> None:
        plan = self.spec.plan
        network.cut(plan, plan.node(a), plan.node(b), one_way=one_way)

    def stop_api_server(self, cluster: ClusterName) -> None:
        request_daemon(self.folder, {"do": "stop", "process": f"{cluster}/kube-apiserver"})

    def start_api_server(self, cluster: ClusterName) -> None:
        request_daemon(self.folder, {"do": "start", "process": f"{cluster}/kube-apiserver"})

    def kill_in_pod(self, cluster: ClusterName, pod: str, program: str) -> int:
        return int(
            request_daemon(self.folder, {"do": "kill", "cluster": cluster, "pod": pod, "program": program})["killed"]
        )

    def freeze(self, cluster: ClusterName) -> None:
        request_daemon(self.folder, {"do": "freeze", "cluster": cluster})

    def thaw(self, cluster: ClusterName) -> None:
        request_daemon(self.folder, {"do": "thaw", "cluster": cluster})

    def lose(self, cluster: ClusterName) -> None:
        request_daemon(self.folder, {"do": "lose", "cluster": cluster})

    def revive(self, cluster: ClusterName) -> None:
        request_daemon(self.folder, {"do": "revive", "cluster": cluster})

    def audit_log(self, cluster: ClusterName) -> Path:
        """Where a cluster's API server records writes (`components.AUDIT_POLICY`)."""
        return self.folder.node(cluster) / AUDIT_LOG

    def problems(self) -> tuple[str, ...]:
        """Processes of the lab that exited unexpectedly, with their last log lines; including the daemon."""
        if self.folder.daemon is None:
            return (f"the daemon of lab {self.folder.name} has exited: {tail_of(self.folder / 'daemon.log')}",)
        return tuple(request_daemon(self.folder, {"do": "status"})["exits"])

    def restart(self, process: str) -> None:
        """Stop and start one process, for example `cluster1/kube-apiserver`."""
        request_daemon(self.folder, {"do": "restart", "process": process})


def _istioctl(programs: str) -> Path:
    return Path(programs) / "istioctl"


def request_daemon(folder: LabFolder, request: Json) -> Json:
    """One request to a lab's daemon. Raises `Broken` if it has exited, fails, or does not respond within 60 s."""
    what = f"lab {folder.name}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.connect(str(folder.control))
            with client.makefile("rw") as stream:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                reply = json.loads(stream.readline() or "{}")
    except OSError as problem:
        raise Broken(what, f"its daemon does not respond: {problem}", "start it again: `meshproof lab up`") from problem
    if "error" in reply:
        raise Broken(what, str(reply["error"]))
    assert isinstance(reply, dict)
    return reply


def running(name: str) -> Lab | None:
    """The lab of that name if it is ready."""
    folder = LabFolder(name)
    spec = folder.read_spec()
    return Lab(folder, spec) if spec is not None and folder.is_ready else None


def up(
    name: str,
    clusters: Sequence[ClusterName],
    narrator: Narrator,
    *,
    stays: bool,
    slot: int | None = None,
    releases: Sequence[Release] = (CURRENT,),
) -> Lab:
    """Start a lab and return when nodes and DNS are ready. With `stays` false it ends with this process.

    Its clusters get the images of these `releases` of Istio, of which the first is the one to be installed.

    Leftovers of an earlier run of this name are removed first. Raises `BadInput` if the machine is unsuitable or
    another lab of this name runs, `Broken` with the last log lines if something does not start; leaves nothing behind.
    """
    builds, seed = prepare_machine(releases, narrator)
    istio = {release.number: str(builds[release]) for release in releases}
    with exclusively(f"starting lab {name}", narrator):
        return _start(
            name, clusters, narrator, programs=builds[CURRENT], seed=seed, istio=istio, stays=stays, slot=slot
        )


def prepare_machine(releases: Sequence[Release], narrator: Narrator) -> tuple[Mapping[Release, Path], Path]:
    """Prepare what all labs of this machine share: the programs of each release, and the images for nodes.

    Raises `BadInput` if the machine is unsuitable. Existing builds are kept.
    """
    if os.geteuid() != 0:
        raise BadInput("the lab", "needs root for namespaces, mounts and network links", "run it as root or with sudo")
    ensure_packages(narrator)
    doctor.require_fit(narrator)
    builds = {release: ensure_programs(narrator, release) for release in dict.fromkeys((*releases, CURRENT))}
    return builds, ensure_images(builds, narrator)


def _start(
    name: str,
    clusters: Sequence[ClusterName],
    narrator: Narrator,
    *,
    programs: Path,
    seed: Path,
    istio: Mapping[str, str],
    stays: bool,
    slot: int | None,
) -> Lab:
    folder = LabFolder(name)
    if folder.daemon is not None:
        raise BadInput(
            f"lab {name}",
            "is already running",
            "use it, stop it with `meshproof lab down`, or choose another --lab-name",
        )
    left = remains.find_remains(name)
    if left:
        with narrator.step(f"removed leftovers of an earlier run: {left}"):
            remains.clear(name)
    owner = None if stays else ProcessMark.of(os.getpid())
    with exclusively("choosing address ranges", narrator):  # a slot is reserved when its spec is written
        plan = choose_plan(name, clusters, routes=network.host_routes(), taken=remains.taken_slots(), wanted=slot)
        spec = LabSpec(
            name=name,
            slot=plan.slot,
            clusters=tuple(clusters),
            programs=str(programs),
            seed=str(seed),
            istio=istio,
            owner=owner,
        )
        folder.make()
        folder.write_spec(spec)
    folder.events.touch()
    try:
        with narrator.step(f"lab {name}: {len(clusters)} Kubernetes clusters and DNS ready"):
            _start_daemon(folder)
            _follow(folder, narrator)
    except BaseException:
        _keep_logs_of_failure(folder, narrator)
        with suppress(Broken):
            remains.clear(name)
        raise
    return Lab(folder, spec)


def _keep_logs_of_failure(folder: LabFolder, narrator: Narrator) -> None:
    """Keep the logs of a failed lab, whose folder is about to be removed."""
    kept = state_root() / "failed" / folder.name
    shutil.rmtree(kept, ignore_errors=True)
    save_logs(folder, kept)
    narrator.say(f"the logs of the failed lab are in {kept}")


def _start_daemon(folder: LabFolder) -> None:
    with (folder / "daemon.log").open("ab") as output:
        # setsid --fork: the daemon is not our child, so it outlives us, and we need not reap it.
        subprocess.run(
            ["setsid", "--fork", sys.executable, "-m", "meshproof.providers.lab.daemon", folder.name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            check=True,
        )

    def marked() -> None:
        if folder.daemon is None:
            raise NotYet(tail_of(folder / "daemon.log"))

    eventually(marked, what="the lab's daemon", timeout_s=20, poll_s=0.1)


def _follow(folder: LabFolder, narrator: Narrator) -> None:
    """Report the daemon's steps until it is ready or has failed."""
    position = 0

    def next_events() -> None:
        nonlocal position
        with folder.events.open() as events:
            events.seek(position)
            while line := events.readline():
                if not line.endswith("\n"):
                    break
                position += len(line)
                event = json.loads(line)
                match event["kind"]:
                    case "step":
                        narrator.say(f"  {event['title']} ({event['seconds']:.1f} s)")
                    case "ready":
                        return
                    case "failed":
                        raise Broken(f"lab {folder.name}", event["text"], "run `meshproof doctor`")
        if folder.daemon is None:
            raise Broken(f"lab {folder.name}", f"its daemon exited: {tail_of(folder / 'daemon.log')}")
        raise NotYet("still starting")

    eventually(next_events, what=f"lab {folder.name}", timeout_s=300, poll_s=0.1)


def down(name: str, narrator: Narrator) -> remains.Remains:
    """Remove a lab, running or left behind. Returns what was removed."""
    with narrator.step(f"lab {name}: removed without leftovers"):
        return remains.clear(name)


def save_logs(folder: LabFolder, target: Path) -> None:
    """Copy every component's log and the lab's events to `target`, but no kubeconfigs and keys."""
    target.mkdir(parents=True, exist_ok=True)
    if folder.logs.exists():
        shutil.copytree(folder.logs, target, dirs_exist_ok=True)
    for name in ("daemon.log", "events.jsonl"):
        with suppress(OSError):
            shutil.copy2(folder / name, target / name)


@contextmanager
def open_lab(
    name: str,
    topology: Topology,
    *,
    keep: bool,
    report_dir: Path,
    narrator: Narrator,
    releases: Sequence[Release] = (),
) -> Iterator[Lab]:
    """A lab for `topology`: the running one, else a new one, which ends with the block unless `keep`.

    `releases` are the required ones of Istio, first the one to be installed; by default those that a running lab was
    started for. Raises `BadInput` if another run is using the lab of that name, or it has other clusters, or lacks
    such a release.
    """
    with lab_lock(name):
        lab = running(name)
        ours = lab is None
        if lab is None:
            wanted = tuple(c.name for c in topology.clusters)
            lab = up(name, wanted, narrator, stays=keep, releases=releases or (CURRENT,))
        else:
            _must_fit(lab, topology, releases)
            lab = Lab(lab.folder, lab.spec, releases[0] if releases else None)
            narrator.say(f"lab {name} is already up: using it, and leaving it up")
        try:
            yield lab
        finally:
            save_logs(lab.folder, report_dir / "lab" / name)
            if ours and not keep:
                down(name, narrator)
            elif ours:
                narrator.say(f"lab {name} stays up (--keep); `meshproof lab down --lab-name={name}` removes it")


def _must_fit(lab: Lab, topology: Topology, releases: Sequence[Release]) -> None:
    wanted = tuple(c.name for c in topology.clusters)
    lacking = [str(release) for release in releases if release not in lab.releases]
    reason = ""
    if lab.spec.clusters != wanted:
        reason = f"is up with clusters {', '.join(lab.spec.clusters)}, but the topology needs {', '.join(wanted)}"
    elif lacking:
        has = ", ".join(map(str, lab.releases))
        reason = f"is up with images of Istio {has}, but {', '.join(lacking)} is needed"
    if reason:
        repair = "stop it with `meshproof lab down`, or choose another --lab-name"
        raise BadInput(f"lab {lab.spec.name}", reason, repair)
