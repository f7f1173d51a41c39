"""Requests that are allowed or denied by the identity of the client."""

from __future__ import annotations

from collections.abc import Sequence

from meshproof.probes.http_batch import HttpReply, summarize_replies
from meshproof.workloads.testbed.names import GUARDED

# Status below `/guarded`: a policy there allows or denies the client's own identity, or another one.
EXPECTED = {"allowed": 200, "others": 403, "denied": 403, "spared": 200}
MEANING = {
    "allowed": "allowed to this identity",
    "others": "allowed to another identity only",
    "denied": "denied to this identity",
    "spared": "denied to another identity only",
}


def guard_problems(replies: Sequence[Sequence[HttpReply]]) -> list[str]:
    """Judge the replies to each guarded path, in the order of `EXPECTED`."""
    problems = []
    for (path, status), got in zip(EXPECTED.items(), replies, strict=True):
        if {reply.status for reply in got} != {status}:
            problems.append(f"{GUARDED}/{path} ({MEANING[path]}): {summarize_replies(got)}, expected HTTP {status}")
    return problems
