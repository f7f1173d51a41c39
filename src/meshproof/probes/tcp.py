"""Whether a port accepts connections."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import bracketed, words


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


def tcp_from_runner(targets: Iterable[tuple[str, int]], *, timeout_s: float = DEADLINES.connect) -> list[TcpAnswer]:
    """Connect to each `(address, port)` from this machine, all at once."""

    def connect(target: tuple[str, int]) -> TcpAnswer:
        address, port = target
        try:
            socket.create_connection(target, timeout=timeout_s).close()
        except OSError as problem:
            return TcpAnswer(address=address, port=port, accepted=False, reason=words(problem))
        return TcpAnswer(address=address, port=port, accepted=True)

    return together(connect, targets, width=32)


# `time_connect` stays 0 until the TCP handshake is done, whatever is said (or not said) after it. Not with https: there
# curl 7.88 leaves it at 0 when TLS fails.
_TCP_SCRIPT: Final = """
limit=$1; shift
for target in "$@"; do
  curl -s -o /dev/null --connect-timeout "$limit" --max-time "$limit" \\
    -w "$target %{time_connect} %{exitcode} %{errormsg}\\n" "http://$target/" </dev/null &
done
wait
"""


def tcp_from_pod(
    kube: Kube, pod: PodFacts, targets: Iterable[tuple[str, int]], *, timeout_s: float = DEADLINES.connect
) -> list[TcpAnswer]:
    """Connect to each `(address, port)` from a client pod: one `exec`, all at once."""
    wanted = list(dict.fromkeys(targets))
    arguments = [f"{bracketed(address)}:{port}" for address, port in wanted]
    argv = ["sh", "-c", _TCP_SCRIPT, "sh", f"{timeout_s:g}", *arguments]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=timeout_s + 20)
    rows = {row.split(" ", 1)[0]: row for row in answer.stdout.splitlines() if row.strip()}
    return [
        parse_tcp_row(rows.get(argument, ""), address, port, answer.stderr)
        for argument, (address, port) in zip(arguments, wanted, strict=True)
    ]


def parse_tcp_row(row: str, address: str, port: int, stderr: str = "") -> TcpAnswer:
    """One line `target time_connect exitcode message` of the script above."""
    parts = row.split(" ", 3)
    if len(parts) < 3:
        raise Broken(f"probing {address}:{port} from a pod", f"no answer from its curl: {stderr.strip()[-300:]!r}")
    accepted = float(parts[1]) > 0
    reason = "" if accepted else (parts[3].strip() if len(parts) > 3 else "") or f"curl exit code {parts[2]}"
    return TcpAnswer(address=address, port=port, accepted=accepted, reason=reason)
