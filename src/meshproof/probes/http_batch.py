"""Calls of every kind from a client pod: one `exec`, one curl, any number of different requests."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import VERSION_HEADER, HttpAnswer, curl_problem

PROTOCOL_HEADER: Final = "x-meshproof-protocol"
"""In which protocol the request reached the probe service itself, past all proxies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One kind of request, sent `count` times; `fresh` means over a new connection each time."""

    url: str
    count: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def argv(self) -> list[str]:
        told = [word for name, value in self.headers.items() for word in ("-H", f"{name}: {value}")]
        return [*told, *self.options, f"{self.url}?n=[1-{self.count}]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(HttpAnswer):
    """One answer, with what else its headers tell."""

    protocol: str = ""
    grpc_status: str = ""
    proxied: bool = False

    @property
    def server(self) -> str:
        """The cluster of the probe that answered: probes tell it as their version."""
        return self.version


_FIELDS: Final = (
    "%{http_code}",
    "%{time_total}",
    "%{exitcode}",
    f"%header{{{VERSION_HEADER}}}",
    f"%header{{{PROTOCOL_HEADER}}}",
    "%header{grpc-status}",
    "%header{x-envoy-upstream-service-time}",
    "%{errormsg}",
)


def call_from_pod(
    kube: Kube, pod: PodFacts, calls: Sequence[Call], *, timeout_s: float = DEADLINES.answer
) -> list[list[Reply]]:
    """Send all calls at once from a client pod, the requests of each one after the other; the replies of each call.

    A call ends with the first request that gets no answer at all: it is red already, and a dropped path would cost a
    time limit for each of the others. Raises `NotReady` if curl told of fewer requests than that.
    """
    argv = ["sh", "-c", script(calls, timeout_s)]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=DEADLINES.batch)
    replies: list[list[Reply]] = [[] for _ in calls]
    for row in answer.stdout.splitlines():
        if row:
            index, reply = parse_row(row)
            replies[index].append(reply)
    for call, got in zip(calls, replies, strict=True):
        if len(got) != call.count and not (got and got[-1].error):
            raise NotReady(
                f"{call.count} requests to {call.url} from {pod} on {kube.name}",
                f"curl told of {len(got)} (exit code {answer.exit_code}): {(answer.stderr or answer.stdout)[-300:]!r}",
            )
    return replies


def script(calls: Sequence[Call], timeout_s: float) -> str:
    """Shell commands: one curl for each call, or one for each of its requests where these may not share connections.

    curl 7.88 fails to reuse an HTTP/2 connection with prior knowledge ("Error in the HTTP2 framing layer"), and has no
    option for a new connection.
    """
    lines = ["work=/tmp/meshproof-calls-$$", 'mkdir "$work" || exit 1', """trap 'rm -rf "$work"' EXIT"""]
    for index, call in enumerate(calls):
        told = ";".join((str(index), *_FIELDS)) + "\\n"
        part = ["-s", "-o", "/dev/null", "--fail-early", "--max-time", f"{timeout_s:g}", "-w", told, *call.argv]
        if call.fresh:
            requests = [_curl([*part[:-1], f"{call.url}?n={number + 1}"]) for number in range(call.count)]
        else:
            requests = [_curl(part)]
        lines.append(f'({" && ".join(requests)}) >"$work/{index}" &')
    return "\n".join([*lines, "wait", 'cat "$work"/*'])


def _curl(arguments: Sequence[str]) -> str:
    return shlex.join(["curl", *arguments])


def parse_row(row: str) -> tuple[int, Reply]:
    """One line of curl's `-w` output as asked for above: which call, and its reply."""
    parts = row.split(";", 8)
    if len(parts) != 9:
        raise NotReady("curl's output", f"unexpected line {row!r}", "the client image needs curl 7.84 or newer")
    index, status, seconds, code, server, protocol, grpc, proxied, message = parts
    return int(index), Reply(
        status=int(status),
        version=server.strip(),
        seconds=float(seconds),
        protocol=protocol.strip(),
        grpc_status=grpc.strip(),
        proxied=bool(proxied.strip()),
        error=curl_problem(int(code), message),
    )


def told_replies(replies: Iterable[Reply]) -> str:
    """Replies in one line: `cluster1 x3, HTTP 403 x1`."""
    counts = Counter(reply.outcome for reply in replies)
    return ", ".join(f"{outcome} x{count}" for outcome, count in sorted(counts.items())) or "nothing"
