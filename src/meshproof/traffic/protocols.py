"""HTTP/1.1, gRPC and TCP requests, and whether each was handled as its own protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshproof.core.deadlines import SAMPLES
from meshproof.probes.http_batch import HttpCall, HttpReply, summarize_replies
from meshproof.probes.http_bodies import BodyAnswer
from meshproof.workloads.testbed.lifecycle import TestBed
from meshproof.workloads.testbed.names import PORT_GRPC, PORT_HTTP, PORT_TCP

# The protocol that the probe must report; TCP carries what the client sends.
PROTOCOLS: Mapping[str, str] = {"http": "HTTP/1.1", "grpc": "HTTP/2", "tcp": "HTTP/1.1"}


def protocol_calls(test_bed: TestBed, service: str, count: int = SAMPLES.repeated) -> dict[str, HttpCall]:
    """One call per protocol. A TCP connection is balanced once, so each request there has one of its own."""
    post = ("--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc", "-H", "te: trailers")
    return {
        "http": HttpCall(url=test_bed.url(service, port=PORT_HTTP), count=count),
        "grpc": HttpCall(
            url=test_bed.url(service, "/probe/Ask", port=PORT_GRPC), count=count, options=post, fresh=True
        ),
        "tcp": HttpCall(url=test_bed.url(service, port=PORT_TCP), count=count, fresh=True),
    }


def protocol_problems(seen: Mapping[str, Sequence[HttpReply]], servers: set[str]) -> list[str]:
    """Judge replies by protocol: answered by all these servers, in that protocol, and TCP not parsed as HTTP."""
    problems = []
    for protocol, replies in seen.items():
        answered = {reply.outcome for reply in replies}
        if answered != servers:
            wanted = " and ".join(sorted(servers))
            problems.append(f"{protocol}: answered by {summarize_replies(replies)}, expected {wanted}")
            continue
        spoken = {reply.protocol for reply in replies}
        if spoken != {PROTOCOLS[protocol]}:
            problems.append(f"{protocol}: reached the service as {' and '.join(sorted(spoken))}")
        if protocol == "grpc" and {reply.grpc_status for reply in replies} != {"0"}:
            problems.append("grpc: the grpc-status trailer is missing or not 0")
        if protocol == "tcp" and any(reply.proxied for reply in replies):
            problems.append("tcp: a proxy handled it as HTTP")
    return problems


def body_problems(answers: Iterable[BodyAnswer], server: str) -> list[str]:
    """Problems of bodies that one cluster's probe should have returned."""
    problems = []
    for answer in answers:
        if answer.problem:
            problems.append(answer.problem)
        elif answer.server != server:
            problems.append(f"{answer.size} bytes were answered by {answer.server or 'an unknown server'}")
    return problems
