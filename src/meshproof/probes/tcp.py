"""Whether a port accepts connections."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import bracketed, words
from meshproof.probes.pod_script import REQUEST, parse_curl, request, run


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAnswer:
    """Whether `address:port` accepted a connection; if not, `reason` says why."""

    address: str
    port: int
    accepted: bool
    reason: str = ""

    def __str__(self) -> str:
        return (
            f"{self.address}:{self.port} {'accepts TCP' if self.accepted else f'does not accept TCP ({self.reason})'}"
        )


def tcp_from_runner(targets: Iterable[tuple[str, int]], *, timeout_s: float = DEADLINES.connect_s) -> list[TcpAnswer]:
    """Connect to each `(address, port)` from this machine, all at once."""

    def connect(target: tuple[str, int]) -> TcpAnswer:
        address, port = target
        try:
            socket.create_connection(target, timeout=timeout_s).close()
        except OSError as problem:
            return TcpAnswer(address=address, port=port, accepted=False, reason=words(problem))
        return TcpAnswer(address=address, port=port, accepted=True)

    return together(connect, targets, width=32)


def tcp_from_pod(
    kube: Kube, pod: PodFacts, targets: Iterable[tuple[str, int]], *, timeout_s: float = DEADLINES.connect_s
) -> list[TcpAnswer]:
    """Connect to each `(address, port)` from a client pod: one `exec`, all at once.

    `time_connect` stays 0 until the TCP handshake is done, whatever is sent after it. Not with https:
    there curl 7.88 leaves it at 0 when TLS fails.
    """
    wanted = list(dict.fromkeys(targets))
    limit = ("--connect-timeout", f"{timeout_s:g}")
    commands = [
        shlex.join(request(f"http://{bracketed(address)}:{port}/", *limit, timeout_s=timeout_s))
        for address, port in wanted
    ]
    what = f"{len(wanted)} connections"
    outputs = run(kube, pod, commands, what=what, timeout_s=timeout_s + 20, functions=REQUEST)
    return [parse_tcp(output.text, address, port) for output, (address, port) in zip(outputs, wanted, strict=True)]


def parse_tcp(text: str, address: str, port: int) -> TcpAnswer:
    """From curl's line about one connection."""
    row = text.strip("\n")
    if "\t" not in row:
        raise Broken(f"probing {address}:{port} from a pod", f"no output from curl: {row[-300:]!r}")
    result = parse_curl(row)
    accepted = result.connect_s > 0
    return TcpAnswer(address=address, port=port, accepted=accepted, reason="" if accepted else result.error)
