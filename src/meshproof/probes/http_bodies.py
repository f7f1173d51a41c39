"""Echoed bodies: sent and returned content, compared by hash."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import urllib3

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import VERSION_HEADER
from meshproof.probes.http import dialling
from meshproof.probes.pod_script import REQUEST, parse_curl, request, run

SIZES: Final = (1024, 16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024)
"""1 KiB to 1 MiB: below, at and above the buffers (16 KiB TLS records, 64 KiB HTTP/2 windows, Envoy's 1 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyAnswer:
    """One body that was sent; hashes are SHA-256 in hex. `error` is why there was no response, or the body of an error
    response, in which Envoy describes the connection's failure."""

    size: int
    status: int
    server: str
    sent: str
    returned: str
    error: str = ""

    @property
    def problem(self) -> str | None:
        """The problem, or None."""
        if self.status != 200:
            refusal = f"HTTP {self.status}, {self.error}".removesuffix(", ")
            return f"{self.size} bytes: {refusal if self.status else self.error}"
        return None if self.sent == self.returned else f"{self.size} bytes came back changed"


# Hashes by openssl, which other probes need too; -r prints the hash first.
_POST: Final = """
post() {
  file=$1 size=$2; shift 2
  head -c "$size" /dev/urandom >"$file.sent"; : >"$file.back"
  row=$("$@" --data-binary "@$file.sent"); code=$?
  printf '%s\\n' "$row"
  openssl dgst -sha256 -r "$file.sent" "$file.back"
  case $row in 200*) echo;; *) head -c 160 "$file.back" | tr -c ' -~' ' '; echo;; esac
  return "$code"
}
"""


def bodies_from_pod(
    kube: Kube, pod: PodFacts, urls: Sequence[str], sizes: Sequence[int] = SIZES, *, through: str = ""
) -> list[list[BodyAnswer]]:
    """POST random bodies of each size to each URL from a client pod, to all URLs concurrently; the results by URL.

    With `through` curl connects to that address for any host of the URLs, for example an ingress gateway.
    Those of a URL end with the first body that gets no response.
    """
    options = ["-H", "Expect:", "-H", "Content-Type: application/octet-stream", *dialling(through)]
    commands = []
    for number, url in enumerate(urls):
        argv = request(url, *options, timeout_s=DEADLINES.call_s, output=f"{number}.back")
        commands.append(" && ".join(shlex.join(["post", str(number), str(size), *argv]) for size in sizes))
    what, timeout_s = f"bodies to {len(urls)} URLs", DEADLINES.batch_s + DEADLINES.call_s
    outputs = run(kube, pod, commands, what=what, timeout_s=timeout_s, functions=REQUEST + _POST)
    found = [parse_bodies(output.text, sizes) for output in outputs]
    for bodies, output in zip(found, outputs, strict=True):
        if len(bodies) != len(sizes) and not (bodies and bodies[-1].error):
            raise NotReady(
                f"sending bodies from {pod} on {kube.name}", f"not all were reported: {output.text[-300:]!r}"
            )
    return found


def parse_bodies(text: str, sizes: Sequence[int]) -> list[BodyAnswer]:
    """From the output of the script above, four lines each: curl's, two hashes, and the body of an error response."""
    lines = text.splitlines()
    found = []
    for size, row, sent, back, refusal in zip(sizes, lines[0::4], lines[1::4], lines[2::4], lines[3::4], strict=False):
        result = parse_curl(row)
        found.append(
            BodyAnswer(
                size=size,
                status=result.status,
                server=result.headers[VERSION_HEADER],
                sent=sent.partition(" ")[0],
                returned=back.partition(" ")[0],
                error=(result.error + refusal).strip(),
            )
        )
    return found


def bodies_from_runner(address: str, host: str, path: str, sizes: Iterable[int] = SIZES) -> list[BodyAnswer]:
    """POST random bodies of each size to an ingress gateway over one connection, until one gets no response."""
    found = []
    with urllib3.HTTPConnectionPool(address, 80, maxsize=1, retries=False, timeout=DEADLINES.call_s) as pool:
        for size in sizes:
            body = os.urandom(size)
            sent = hashlib.sha256(body).hexdigest()
            try:
                answer = pool.request("POST", path, body=body, headers={"Host": host})
            except urllib3.exceptions.HTTPError as problem:
                found.append(BodyAnswer(size=size, status=0, server="", sent=sent, returned="", error=str(problem)))
                break
            found.append(
                BodyAnswer(
                    size=size,
                    status=answer.status,
                    server=answer.headers.get(VERSION_HEADER, ""),
                    sent=sent,
                    returned=hashlib.sha256(answer.data).hexdigest(),
                    error="" if answer.status == 200 else answer.data[:160].decode(errors="replace"),
                )
            )
    return found
