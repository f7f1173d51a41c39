"""Requests from client pods and from this machine, and what became of them."""

from __future__ import annotations

import http.client
import time
from contextlib import ExitStack, closing
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken, NotReady
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import VERSION_HEADER, HttpAnswer, bracketed, curl_problem, words

_HTTP_FORMAT: Final = f"%{{http_code}} %{{time_total}} %{{exitcode}} %header{{{VERSION_HEADER}}}|%{{errormsg}}\\n"


def http_from_pod(
    kube: Kube, pod: PodFacts, url: str, count: int, *, timeout_s: float = DEADLINES.answer, through: str = ""
) -> list[HttpAnswer]:
    """Send `count` GET requests from a client pod: one `exec`, one curl, one request at a time.

    curl keeps its connection to the sidecar, which balances request by request. One at a time, since with several in
    flight its least-request balancing prefers the endpoint that answers sooner. The sample ends with the first request
    that gets no answer at all: it is red already, and a dropped path would cost a deadline for each of the others.
    With `through` that address is dialled, whatever the URL's host is: so an ingress gateway is asked.
    """
    argv = ["curl", "-s", "-o", "/dev/null", "--max-time", f"{timeout_s:g}", "--fail-early", "-w", _HTTP_FORMAT]
    argv += dialling(through)
    argv += [f"{url}?n=[1-{count}]"]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD, timeout_s=DEADLINES.batch)
    answers = [parse_http_row(row) for row in answer.stdout.splitlines() if row]
    if len(answers) != count and not (answers and answers[-1].error):
        raise NotReady(
            f"{count} requests from {pod} on {kube.name}",
            f"curl told of {len(answers)} (exit code {answer.exit_code}): {(answer.stderr or answer.stdout)[-300:]!r}",
        )
    return answers


def dialling(address: str) -> list[str]:
    """curl's option to dial this address for every host, at the port of the URL; none if it is empty."""
    return ["--connect-to", f"::{bracketed(address)}:"] if address else []


def parse_http_row(row: str) -> HttpAnswer:
    """One line of curl's `-w` output as asked for above."""
    figures, _, message = row.partition("|")
    parts = figures.split(" ", 3)
    if len(parts) < 3:
        raise Broken("curl's output", f"unexpected line {row!r}", "the client image needs curl 7.84 or newer")
    code = int(parts[2])
    return HttpAnswer(
        status=int(parts[0]),
        version=parts[3].strip() if len(parts) > 3 else "",
        seconds=float(parts[1]),
        error=curl_problem(code, message),
    )


def app_url() -> str:
    """The application as mesh clients call it."""
    return f"http://{names.APP_FQDN}:{names.APP_PORT}/"


def plain_http_from_pod(kube: Kube, pod: PodFacts, address: str, port: int) -> HttpAnswer:
    """One plain HTTP request to `address:port` from a client pod."""
    url = f"http://{bracketed(address)}:{port}/"
    argv = ["curl", "-s", "-o", "/dev/null", "--max-time", f"{DEADLINES.connect:g}", "-w", _HTTP_FORMAT, url]
    answer = kube.exec(pod.namespace, pod.name, argv, container=names.CLIENT_POD)
    return parse_http_row(answer.stdout.strip("\n"))


def http_from_runner(
    address: str,
    count: int,
    *,
    host: str = names.APP_HOST,
    path: str = "/",
    port: int = 80,
    timeout_s: float = DEADLINES.answer,
) -> list[HttpAnswer]:
    """Send `count` GET requests to an ingress gateway, one at a time, in turn over a few kept-alive connections.

    The gateway balances request by request. One at a time, since with several in flight its least-request balancing
    prefers the endpoint that answers sooner, so that shares would depend on the distance. The sample ends with the
    first request that gets no answer at all, as in `http_from_pod`.
    """
    answers: list[HttpAnswer] = []
    with ExitStack() as stack:
        connections = [stack.enter_context(_connection(address, port, timeout_s)) for _ in range(_CONNECTIONS)]
        for number in range(count):
            answers.append(_ask(connections[number % _CONNECTIONS], host, path))
            if answers[-1].error:
                break
    return answers


_CONNECTIONS: Final = 4


def _connection(address: str, port: int, timeout_s: float) -> closing[http.client.HTTPConnection]:
    """Opened by its first request. The port is always said: without one the end of an IPv6 address is taken for it."""
    return closing(http.client.HTTPConnection(address, port, timeout=timeout_s))


def _ask(connection: http.client.HTTPConnection, host: str, path: str) -> HttpAnswer:
    """One request over that connection."""
    start = time.monotonic()
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
    except (http.client.HTTPException, OSError) as problem:
        connection.close()  # the next request opens it again
        return HttpAnswer(status=0, version="", seconds=time.monotonic() - start, error=words(problem))
    version = answer.getheader(VERSION_HEADER, "")
    return HttpAnswer(status=answer.status, version=version, seconds=time.monotonic() - start)
