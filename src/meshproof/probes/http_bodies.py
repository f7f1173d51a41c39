"""Bodies there and back: what was sent to an echo and what came back, compared by hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import urllib3

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import VERSION_HEADER
from meshproof.probes.http import dialling

SIZES: Final = (1024, 16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024)
"""1 KiB to 1 MiB: below, at and above the buffers (16 KiB TLS records, 64 KiB HTTP/2 windows, Envoy's 1 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyAnswer:
    """One body that was sent; hashes are SHA-256 in hex. `error` says why there was no answer, or what a refusal says:
    Envoy tells in words what became of the connection."""

    size: int
    status: int
    server: str
    sent: str
    returned: str
    error: str = ""

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""
        if self.status != 200:
            refusal = f"HTTP {self.status}, {self.error}".removesuffix(", ")
            return f"{self.size} bytes: {refusal if self.status else self.error}"
        return None if self.sent == self.returned else f"{self.size} bytes came back changed"


# Hashes by openssl, which other probes need as well; -r prints the hash first.
_SCRIPT: Final = """
limit=$1; sizes=$2; through=$3; shift 3
work=/tmp/meshproof-bodies-$$
mkdir "$work" || exit 1
trap 'rm -rf "$work"' EXIT
post() {
  for size in $sizes; do
    head -c "$size" /dev/urandom >"$work/$1.sent"
    sent=$(openssl dgst -sha256 -r <"$work/$1.sent")
    : >"$work/$1.back"
    told=$(curl -s -o "$work/$1.back" --max-time "$limit" -H 'Expect:' -H 'Content-Type: application/octet-stream' \\
      ${through:+--connect-to "$through"} --data-binary "@$work/$1.sent" \\
      -w '%{http_code};%header{x-app-version};%{errormsg}' "$2"); code=$?
    case $told in 200*) ;; *) told=$told$(head -c 160 "$work/$1.back" | tr -c ' -~' ' ');; esac
    back=$(openssl dgst -sha256 -r <"$work/$1.back")
    echo "$1;$size;${sent%% *};${back%% *};$told"
    [ "$code" = 0 ] || break
  done
}
number=0
for url in "$@"; do
  post "$number" "$url" >"$work/$number.told" &
  number=$((number + 1))
done
wait
cat "$work"/*.told
"""


def bodies_from_pod(
    kube: Kube, pod: PodFacts, urls: Sequence[str], sizes: Sequence[int] = SIZES, *, through: str = ""
) -> list[list[BodyAnswer]]:
    """POST random bodies of each size to each URL from a client pod, to all at once; the answers of each URL.

    With `through` that address is dialled, whatever the URLs' hosts are: so an ingress gateway is asked.
    Those of a URL end with the first body that gets no answer at all.
    """
    words = " ".join(str(size) for size in sizes)
    address = "".join(dialling(through)[1:])
    argv = ["sh", "-c", _SCRIPT, "sh", f"{DEADLINES.call:g}", words, address, *urls]
    answer = kube.exec(
        pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=DEADLINES.batch + DEADLINES.call
    )
    found: list[list[BodyAnswer]] = [[] for _ in urls]
    for row in answer.stdout.splitlines():
        number, body = parse_body_row(row)
        found[number].append(body)
    if any(len(bodies) != len(sizes) and not (bodies and bodies[-1].error) for bodies in found):
        said = (answer.stderr or answer.stdout)[-300:]
        raise NotReady(f"sending bodies from {pod} on {kube.name}", f"not all were told of: {said!r}")
    return found


def parse_body_row(row: str) -> tuple[int, BodyAnswer]:
    """One line of the script above: which URL, and its answer."""
    number, size, sent, returned, status, server, error = row.split(";", 6)
    return int(number), BodyAnswer(
        size=int(size), status=int(status), server=server.strip(), sent=sent, returned=returned, error=error.strip()
    )


def bodies_from_runner(address: str, host: str, path: str, sizes: Iterable[int] = SIZES) -> list[BodyAnswer]:
    """POST random bodies of each size to an ingress gateway over one connection, until one gets no answer."""
    found = []
    with urllib3.HTTPConnectionPool(address, 80, maxsize=1, retries=False, timeout=DEADLINES.call) as pool:
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


def body_problems(answers: Iterable[BodyAnswer], server: str) -> list[str]:
    """What is wrong with bodies that should have come back from the probe of one cluster."""
    problems = []
    for answer in answers:
        if answer.problem:
            problems.append(answer.problem)
        elif answer.server != server:
            problems.append(f"{answer.size} bytes were answered by {answer.server or 'nobody known'}")
    return problems
