"""The lab's daemon: starts and reaps all processes, serves requests on a socket, and takes the lab down.

Started by `meshproof.providers.lab.api`, in a session of its own. It exits on TERM, on `down`, when its owner exits,
and when it fails; in any case the kernel ends the clusters with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from meshproof.clients.kubernetes.client import ApiError, Json, Kube
from meshproof.core.errors import Broken, MeshproofError, NotReady
from meshproof.core.signals import reset_inherited_signals
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.address_plan import NodePlan
from meshproof.providers.lab.build.images import copy_for_node
from meshproof.providers.lab.node import components, network
from meshproof.providers.lab.node import coredns as addons
from meshproof.providers.lab.node.cgroups import CGROUPS, container_cgroups, remove_cgroups, remove_container_cgroups
from meshproof.providers.lab.node.namespaces import Node, start_node
from meshproof.providers.lab.node.power import Machines
from meshproof.providers.lab.node.supervisor import Exit, ProcessSpec, Supervisor
from meshproof.providers.lab.state import LabFolder, LabSpec

START_S = 120.0
POLL_S = 0.05


class Daemon:
    """One lab, from its folder and its spec."""

    def __init__(self, folder: LabFolder, spec: LabSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.plan = spec.plan
        self.supervisor = Supervisor(self._on_exit)
        self.nodes: dict[str, Node] = {}
        self.machines = Machines(self.supervisor)
        self._events_lock = threading.Lock()
        self._stop = threading.Event()
        self._starting = True

    # -- events ---------------------------------------------------------------------------------------------

    def _record_event(self, kind: str, **facts: object) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **facts})
        with self._events_lock, self.folder.events.open("a") as out:
            out.write(line + "\n")

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self._record_event("step", title=title, seconds=time.monotonic() - begin)

    def _on_exit(self, gone: Exit) -> None:
        self._record_event("exit", text=str(gone), name=gone.name)

    def _check_alive(self) -> None:
        """While starting, the exit of any process fails the lab at once, with that process's log."""
        self.supervisor.poll()
        if self.supervisor.exits:
            gone = self.supervisor.exits[0]
            raise Broken("starting the lab", str(gone), f"the complete log is in {self.folder.logs}")
        if self._stop.is_set():
            raise Broken("starting the lab", "it was stopped")

    # -- lifecycle -----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Start the lab, run it, take it down. Returns the exit code."""
        self.folder.mark_daemon()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        failed: list[BaseException] = []

        def bring_up() -> None:
            try:
                self._bring_up()
                (self.folder / "ready").touch()
                self._starting = False
                self._record_event("ready")
            except BaseException as problem:  # noqa: BLE001 - reported to the waiting process, then the lab ends
                failed.append(problem)
                self._stop.set()

        threading.Thread(target=bring_up, daemon=True, name="bring-up").start()
        threading.Thread(target=self._answer, daemon=True, name="control").start()
        owner = self.spec.owner
        checked = 0.0
        while not self._stop.wait(POLL_S):
            self.supervisor.poll()
            if owner is not None and time.monotonic() - checked > 0.5:
                checked = time.monotonic()
                if not owner.alive:
                    self._stop.set()
        if failed:
            failure = failed[0]
            text = str(failure) if isinstance(failure, MeshproofError) else f"{type(failure).__name__}: {failure}"
            traceback.print_exception(failure)  # to the daemon's log
            self._record_event("failed", text=text)
        self._down()
        self._record_event("down")
        return 1 if failed else 0

    def _bring_up(self) -> None:
        with self._step(f"wired {len(self.plan.nodes)} nodes and a router in {self.plan.range}"):
            network.build(self.plan)
            network.connect(self.plan, [])
        with ThreadPoolExecutor(max_workers=len(self.plan.nodes)) as pool:
            list(pool.map(self._start_cluster, self.plan.nodes))

    def _start_cluster(self, plan: NodePlan) -> None:
        begin = time.monotonic()
        home = self.folder.node(plan.cluster)
        home.mkdir(parents=True, mode=0o700)
        copy_for_node(Path(self.spec.seed), home / "containerd")
        node = start_node(self.supervisor, self.plan, plan, home=home, logs=self.folder.logs / plan.cluster)
        self.nodes[plan.cluster] = node
        cgroup = f"/meshproof/{self.spec.name}/{plan.cluster}"
        _make_cgroup(cgroup)
        files, _ = components.write_node_files(node, cgroup=cgroup, may_raise_limits=_has_sys_resource())
        control = components.control(node, files, Path(self.spec.programs))
        self.machines.know(node, lambda: self._start_again(plan, files))
        for spec in control.first:
            self.supervisor.start(spec)
        kube = Kube(files.admin, plan.cluster, name=plan.cluster)
        eventually(lambda: self._answers(kube), what=f"API server of {plan.cluster}", timeout_s=START_S, poll_s=0.2)
        self._record_event("step", title=f"{plan.cluster}: API server ready", seconds=time.monotonic() - begin)
        for spec in control.then:
            self.supervisor.start(spec)
        for manifest in addons.coredns(plan):
            self._apply_when_possible(kube, manifest)
        self._wait_ready(kube, plan)
        self._record_event("step", title=f"{plan.cluster}: node and DNS ready", seconds=time.monotonic() - begin)
        self._start_balancer_once(len(self.plan.nodes))

    def _start_again(self, plan: NodePlan, files: components.ClusterFiles) -> Node:
        """Restart a lost node with its disks: certificates, etcd's data, images, kubelet's folder."""
        network.forget(self.plan, plan)
        logs = self.folder.logs / plan.cluster
        node = start_node(self.supervisor, self.plan, plan, home=self.folder.node(plan.cluster), logs=logs)
        self.nodes[plan.cluster] = node
        control = components.control(node, files, Path(self.spec.programs))
        for spec in control.first:
            self.supervisor.start(spec)
        kube = Kube(files.admin, plan.cluster, name=plan.cluster)
        eventually(kube.must_answer, what=f"API server of {plan.cluster}", timeout_s=START_S / 3, poll_s=0.2)
        for spec in control.then:
            self.supervisor.start(spec)
        return node

    def _answers(self, kube: Kube) -> None:
        self._check_alive()
        kube.must_answer()

    def _apply_when_possible(self, kube: Kube, manifest: Json) -> None:
        def attempt() -> None:
            self._check_alive()
            try:
                kube.apply(manifest)
            except ApiError as problem:
                raise NotYet(str(problem)) from problem

        eventually(attempt, what=f"{manifest['kind']} {manifest['metadata']['name']} on {kube.name}", timeout_s=30)

    def _wait_ready(self, kube: Kube, plan: NodePlan) -> None:
        deadline = time.monotonic() + START_S

        def ready_node(event: Json) -> bool:
            conditions = event["object"].get("status", {}).get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        def dns_up(event: Json) -> bool:
            return bool(event["object"].get("status", {}).get("readyReplicas"))

        nodes, deployments = "/api/v1/nodes", "/apis/apps/v1/namespaces/kube-system/deployments"
        for what, path, is_it in ((f"node {plan.host_name}", nodes, ready_node), ("CoreDNS", deployments, dns_up)):
            while not self._seen(kube, path, is_it):
                if time.monotonic() > deadline:
                    raise NotReady(f"{what} of {plan.cluster}", f"not ready within {START_S:g} s", _clues(kube))

    def _seen(self, kube: Kube, path: str, is_it: Any) -> bool:
        """Watch for up to two seconds at a time, so that a process exit is noticed."""
        self._check_alive()
        with suppress(Broken):
            return any(is_it(event) for event in kube.watch(path, timeout_s=2))
        return False

    def _start_balancer_once(self, clusters: int) -> None:
        with self._events_lock:
            self._up = getattr(self, "_up", 0) + 1
            if self._up < clusters:
                return
        facts = {
            n.cluster: {"kubeconfig": str(self.folder.kubeconfig(n.cluster)), "pool": str(n.pool)}
            for n in self.plan.nodes
        }
        (self.folder / "balancer.json").write_text(json.dumps(facts))
        argv = (sys.executable, "-m", "meshproof.providers.lab.node.load_balancer", str(self.folder / "balancer.json"))
        log = self.folder.logs / "loadbalancer.log"
        self.supervisor.start(ProcessSpec(name="loadbalancer", argv=argv, log=log))

    # -- control socket
    # --------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Serve requests on the lab's socket, one JSON line each, one connection at a time."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            self.folder.control.unlink(missing_ok=True)
            server.bind(str(self.folder.control))
            self.folder.control.chmod(0o600)
            server.listen()
            while True:
                client, _ = server.accept()
                with client, client.makefile("rw") as stream:
                    try:
                        reply = self._do(json.loads(stream.readline()))
                    except Exception as problem:  # noqa: BLE001 - the client gets it; the lab keeps running
                        reply = {"error": f"{type(problem).__name__}: {problem}"}
                    with suppress(OSError):
                        stream.write(json.dumps(reply) + "\n")

    def _do(self, request: Json) -> Json:
        match request["do"]:
            case "status":
                return {"processes": dict(self.supervisor.running()), "exits": [str(e) for e in self.supervisor.exits]}
            case "down":
                self._stop.set()
                return {}
            case "connect":
                groups: Sequence[Sequence[str]] = request["groups"]
                network.connect(self.plan, [[self.plan.node(c) for c in group] for group in groups])
                return {}
            case "restart":
                self.supervisor.start(self.supervisor.stop(request["process"]))
                return {}
            case _:
                return self.machines.do(request)

    # -- shutdown --------------------------------------------------------------------------------------------------

    def _down(self) -> None:
        """End the inits and with them the clusters, then remaining processes.

        The nsenter of each process must reap its child: killing it first would leave zombies that only the host's
        init can reap, and until then the namespace is not removed.
        """
        with suppress(KeyError, ProcessLookupError):
            os.kill(self.supervisor.running()["loadbalancer"], signal.SIGKILL)
        self.machines.wake_parents()
        cgroups = [cgroup for node in self.nodes.values() for cgroup in container_cgroups(node.init_pid)]
        for node in self.nodes.values():
            with suppress(ProcessLookupError):
                os.kill(node.init_pid, signal.SIGKILL)

        def reaped() -> None:
            self.supervisor.poll()
            left = self.supervisor.running()
            if left:
                raise NotYet(f"still running: {', '.join(left)}")

        try:
            eventually(reaped, what="the lab's processes", timeout_s=5, poll_s=0.1)
        except NotReady:
            for pid in self.supervisor.running().values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            eventually(reaped, what="the lab's processes, after KILL", timeout_s=10, poll_s=0.1)
        network.remove(self.spec.name, self.plan.host_link)
        remove_cgroups(self.spec.name)
        remove_container_cgroups(cgroups)


def _make_cgroup(cgroup: str) -> None:
    """Create the cgroup in every usable hierarchy (version 1), or in the only one (version 2)."""
    parents = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else [p for p in CGROUPS.iterdir() if p.is_dir()]
    for parent in parents:
        if parent.is_symlink():
            continue
        folder = parent / cgroup.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        if parent.name == "cpuset":  # version 1: an empty set admits no process
            for level in (folder.parent.parent, folder.parent, folder):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    file = level / name
                    if file.exists() and not file.read_text().strip():
                        file.write_text((level.parent / name).read_text())


def _has_sys_resource() -> bool:
    """Whether we have CAP_SYS_RESOURCE (number 24, capabilities(7))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 24 & 1)
    return False


def _clues(kube: Kube) -> str:
    """The latest warning events of the cluster, newest last."""
    with suppress(Broken):
        events = kube.get("/api/v1/events", fieldSelector="type=Warning")["items"]
        return "recent warnings: " + " | ".join(f"{e['reason']}: {e['message'][:160]}" for e in events[-5:])
    return ""


def main() -> int:
    """Entry point; the argument is the name of a lab with a spec in its folder."""
    reset_inherited_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lab")
    folder = LabFolder(parser.parse_args().lab)
    spec = folder.read_spec()
    if spec is None:
        raise SystemExit(f"{folder.path} contains no spec")
    tempfile.tempdir = str(folder.path)  # removed with the lab, however this process ends
    return Daemon(folder, spec).run()


if __name__ == "__main__":
    sys.exit(main())
