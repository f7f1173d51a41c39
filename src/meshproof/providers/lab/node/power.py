"""Disruptions by a lab's daemon: kill, stop and start processes and whole nodes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.process import run
from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.node.cgroups import container_cgroups, remove_container_cgroups
from meshproof.providers.lab.node.namespaces import Node
from meshproof.providers.lab.node.supervisor import ProcessSpec, Supervisor

# Every process of the node's PID namespace and nested ones, except its init and the shell itself (kill(2)).
_SIGNAL_ALL: Final = 'kill -s "$1" -- -1'

# A pod's processes have its name as HOSTNAME; `comm` is truncated to 15 characters (proc(5)).
_KILL_IN_POD: Final = """
for folder in /proc/[0-9]*; do
  [ "$(cat "$folder/comm" 2>/dev/null)" = "$2" ] || continue
  tr "\\000" "\\n" <"$folder/environ" 2>/dev/null | grep -qx "HOSTNAME=$1" || continue
  kill -s KILL "${folder#/proc/}" && echo killed
done
exit 0
"""


class Machines:
    """The nodes of a lab and how to restart them, for the daemon's control socket."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._nodes: dict[str, Node] = {}
        self._restarts: dict[str, Callable[[], Node]] = {}
        self._stopped: dict[str, ProcessSpec] = {}
        self._lost: set[str] = set()

    def know(self, node: Node, start_again: Callable[[], Node]) -> None:
        self._nodes[node.plan.cluster] = node
        self._restarts[node.plan.cluster] = start_again

    def do(self, request: Json) -> Json:
        """One request of the control socket; raises `Broken` if it fails."""
        match request["do"]:
            case "stop":
                self._stopped[request["process"]] = self._supervisor.stop(request["process"], grace_s=0.0)
            case "start":
                if spec := self._stopped.pop(request["process"], None):
                    self._supervisor.start(spec)
            case "kill":
                return {"killed": self._kill(self._node(request), request["pod"], request["program"])}
            case "freeze":
                self._signal_all(self._node(request), "STOP")
            case "thaw":
                node = self._node(request)
                self.wake_parents()
                self._signal_all(node, "CONT")
            case "lose":
                self._lose(self._node(request))
            case "revive":
                self._revive(request["cluster"])
            case other:
                raise Broken("the lab's daemon", f"unknown request {other}", "take the lab down and up again")
        return {}

    def wake_parents(self) -> None:
        """nsenter stops itself when its child is stopped, and a stopped parent does not reap."""
        for pid in self._supervisor.running().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _node(self, request: Json) -> Node:
        cluster = request["cluster"]
        if cluster in self._lost:
            raise Broken(f"node of {cluster}", "it is lost", "revive it first")
        return self._nodes[cluster]

    def _signal_all(self, node: Node, name: str) -> None:
        run([*_enter(node), "-p", "--", "sh", "-c", _SIGNAL_ALL, "sh", name], timeout_s=10)

    def _kill(self, node: Node, pod: str, program: str) -> int:
        script = ["sh", "-c", _KILL_IN_POD, "sh", pod, program[:15]]
        return run([*_enter(node), "-m", "-p", "--", *script], timeout_s=20).count("killed")

    def _lose(self, node: Node) -> None:
        """Killing the init kills all its processes."""
        prefix = f"{node.plan.cluster}/"
        self._supervisor.expect_ends(prefix)
        self.wake_parents()
        cgroups = container_cgroups(node.init_pid)
        os.kill(node.init_pid, signal.SIGKILL)

        def reaped() -> None:
            self._supervisor.poll()
            if left := [name for name in self._supervisor.running() if name.startswith(prefix)]:
                raise NotYet(f"still running: {', '.join(left)}")

        eventually(reaped, what=f"shutdown of the node of {node.plan.cluster}", timeout_s=15, poll_s=0.1)
        remove_container_cgroups(cgroups)
        self._lost.add(node.plan.cluster)

    def _revive(self, cluster: str) -> None:
        if cluster in self._lost:
            self._nodes[cluster] = self._restarts[cluster]()
            self._lost.discard(cluster)


def _enter(node: Node) -> tuple[str, ...]:
    return ("nsenter", "-t", str(node.init_pid))
