"""Batches of different HTTP requests from a client pod in one `exec`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.deadlines import DEADLINES
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import PROTOCOL_HEADER, VERSION_HEADER, HttpAnswer
from meshproof.probes.pod_script import REQUEST, CurlResult, parse_curls, request, run


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One kind of request, sent `count` times; with `fresh` over a new connection each time."""

    url: str
    count: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    fresh: bool = False

    def command(self, timeout_s: float) -> str:
        """One curl, or one for each of the requests where these may not share connections.

        curl 7.88 fails to reuse an HTTP/2 connection with prior knowledge ("Error in the HTTP2 framing layer"), and has
        no option for a new connection.
        """
        options = [word for name, value in self.headers.items() for word in ("-H", f"{name}: {value}")]
        options += [*self.options, "--fail-early"]
        numbers = [str(number + 1) for number in range(self.count)] if self.fresh else [f"[1-{self.count}]"]
        return " && ".join(
            shlex.join(request(f"{self.url}?n={number}", *options, timeout_s=timeout_s)) for number in numbers
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply(HttpAnswer):
    """One response, with further headers."""

    protocol: str = ""
    grpc_status: str = ""
    proxied: bool = False

    @property
    def server(self) -> str:
        """The cluster of the responding probe, which it sends as its version."""
        return self.version


def http_calls_from_pod(
    kube: Kube, pod: PodFacts, calls: Sequence[HttpCall], *, timeout_s: float = DEADLINES.answer_s
) -> list[list[HttpReply]]:
    """Send all calls concurrently from a client pod, the requests of each call sequentially; the replies of each call.

    A call ends with the first request that gets no response: it has failed already, and a dropped path would cost a
    timeout for each of the others. Raises `NotReady` if curl reported fewer requests than that.
    """
    commands = [call.command(timeout_s) for call in calls]
    outputs = run(kube, pod, commands, what=f"{len(calls)} calls", timeout_s=DEADLINES.batch_s, functions=REQUEST)
    whats = [f"{call.count} requests to {call.url} from {pod} on {kube.name}" for call in calls]
    return [
        [reply_of(result) for result in parse_curls(output, call.count, what)]
        for call, output, what in zip(calls, outputs, whats, strict=True)
    ]


def reply_of(result: CurlResult) -> HttpReply:
    headers = result.headers
    return HttpReply(
        status=result.status,
        version=headers[VERSION_HEADER],
        seconds=result.seconds,
        protocol=headers[PROTOCOL_HEADER],
        grpc_status=headers["grpc-status"],
        proxied=bool(headers["x-envoy-upstream-service-time"]),
        error=result.error,
    )


def summarize_replies(replies: Iterable[HttpReply]) -> str:
    """Replies in one line: `cluster1 x3, HTTP 403 x1`."""
    counts = Counter(reply.outcome for reply in replies)
    return ", ".join(f"{outcome} x{count}" for outcome, count in sorted(counts.items())) or "nothing"
