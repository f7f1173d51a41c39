"""What kind, docker, kubectl and gcloud would answer, with clusters that are names in a list; and what was run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshproof.core.errors import Broken
from meshproof.mesh.access import Toolbox
from tests.api_server import Answer, Server, kubeconfig

TOOLBOX = Toolbox(
    istioctl=Path("/nowhere/istioctl"),
    istio_version="1.31.0",
    hub="docker.io/istio",
    tag="1.31.0",
    images={"app": "app:1", "client": "client:1"},
    istio_values={},
    data_plane="a fake",
)


class Api(Server):
    """An API server that knows its user; `uid` tells its cluster from others."""

    def __init__(self, uid: str) -> None:
        super().__init__()

        def reply(_: str, path: str, __: dict[str, str]) -> Answer:
            if path.endswith("/selfsubjectrulesreviews"):
                return 201, [{"status": {"resourceRules": [], "incomplete": False}}]
            return 200, [{"gitVersion": "v1.36.1", "metadata": {"name": "kube-system", "uid": uid}}]

        self.reply = reply


@dataclass(slots=True)
class Tools:
    """Stands for `meshproof.clients.process.run`.

    A command that contains a key of `failing` fails with its words, as often as there are any.
    """

    servers: dict[str, Server]
    clusters: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    stdin: list[str] = field(default_factory=list)
    failing: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, argv: Sequence[str], *, timeout_s: float, stdin: str) -> str:
        assert timeout_s > 0
        with self.lock:
            self.ran.append(tuple(argv))
            self.stdin.append(stdin)
            for words, reasons in self.failing.items():
                if words in " ".join(argv) and reasons:
                    raise Broken("the argv alone", reasons.pop(0))
            return self._answer(list(argv))

    def lines(self, folder: Path) -> list[str]:
        """What was run, one line each, with `~` for the folder of kubeconfigs; afterwards nothing was."""
        lines = [" ".join(argv).replace(f"{folder}/", "~/") for argv in self.ran]
        self.ran.clear()
        return lines

    def _answer(self, argv: list[str]) -> str:
        where = Path()
        while argv[0] == "env" or "=" in argv[0]:
            word = argv.pop(0)
            where = Path(word.partition("=")[2]) if word.startswith("KUBECONFIG") else where
        match argv:
            case ["kind", "get", "clusters"] | ["gcloud", "container", "clusters", "list", *_]:
                return "\n".join(self.clusters)
            case ["kind", "create", "cluster", "--name", name, "--kubeconfig", path, *_]:
                self.clusters.append(name)
                self._write(Path(path), f"kind-{name}", name)
            case ["kind", "delete", "cluster", "--name", name] | [
                "gcloud",
                "container",
                "clusters",
                "delete",
                name,
                *_,
            ]:
                self.clusters.remove(name)
            case [_, "inspect", "--format", _, node]:
                address = f"172.18.0.{int(node.removesuffix('-control-plane')[-1]) + 1}"
                return json.dumps({"kind": {"IPAddress": address, "IPPrefixLen": 16}})
            case ["gcloud", "config", "get-value", key]:
                return {"project": "PROJECT", "compute/zone": "ZONE"}[key]
            case ["gcloud", "container", "clusters", "create", name, *_]:
                self.clusters.append(name)
            case ["gcloud", "container", "clusters", "get-credentials", name, "--project", project, "--zone", zone]:
                self._write(where, f"gke_{project}_{zone}_{name}", name)
            case ["gcloud", "container", "clusters", "describe", name, *_]:
                return f"10.{4 * int(name[-1])}.0.0/14"
            case ["gcloud", "compute", "instances", "list", chosen, *_]:
                return f"gke-{chosen.rpartition('=')[2]}-0123abcd-node\n" * 2
            case ["gcloud", "compute", "firewall-rules", "list", *_]:
                return "\n".join(self.rules)
            case ["gcloud", "compute", "firewall-rules", "create", rule, *_]:
                self.rules.append(rule)
            case ["gcloud", "compute", "firewall-rules", "delete", rule, *_]:
                self.rules.remove(rule)
            case ["kubectl", *_] | [_, "exec", *_]:
                pass
            case _:
                raise AssertionError(f"no such command: {argv}")
        return "done\n"

    def _write(self, path: Path, context: str, name: str) -> None:
        made = kubeconfig(path.parent, self.servers[name[-1]].url, name=context)
        made.rename(path)


@contextmanager
def tools() -> Iterator[Tools]:
    """Tools for clusters whose names end with 1 and 2."""
    servers = {number: Api(number) for number in "12"}
    try:
        yield Tools(dict(servers))
    finally:
        for server in servers.values():
            server.close()
