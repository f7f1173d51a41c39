"""Requests from client pods and from this machine, and what became of them."""

from __future__ import annotations

import http.client
import time
from contextlib import ExitStack, closing
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answer_words import bracketed, words
from meshproof.probes.answers import VERSION_HEADER, HttpAnswer
from meshproof.probes.pod_script import CurlResult, Output, curl, exec_in_pod, parse_curls


def http_from_pod(
    kube: Kube, pod: PodFacts, url: str, count: int, *, timeout_s: float = DEADLINES.answer, through: str = ""
) -> list[HttpAnswer]:
    """Send `count` GET requests from a client pod: one `exec`, one curl, one request at a time.

    curl keeps its connection to the sidecar, which balances request by request. One at a time, since with several in
    flight its least-request balancing prefers the endpoint that answers sooner. The sample ends with the first request
    that gets no answer at all: it is red already, and a dropped path would cost a deadline for each of the others.
    With `through` that address is dialled, whatever the URL's host is: so an ingress gateway is asked.
    """
    argv = curl(f"{url}?n=[1-{count}]", "--fail-early", *dialling(through), timeout_s=timeout_s)
    return _sample(kube, pod, argv, count, timeout_s=DEADLINES.batch)


def _sample(kube: Kube, pod: PodFacts, argv: list[str], count: int, *, timeout_s: float) -> list[HttpAnswer]:
    answer = exec_in_pod(kube, pod, argv, timeout_s=timeout_s)
    output = Output(text=answer.stdout or answer.stderr, exit_code=answer.exit_code)
    return [answer_of(result) for result in parse_curls(output, count, f"{count} requests from {pod} on {kube.name}")]


def dialling(address: str) -> list[str]:
    """curl's option to dial this address for every host, at the port of the URL; none if it is empty."""
    return ["--connect-to", f"::{bracketed(address)}:"] if address else []


def answer_of(result: CurlResult) -> HttpAnswer:
    return HttpAnswer(
        status=result.status, version=result.headers[VERSION_HEADER], seconds=result.seconds, error=result.error
    )


def app_url() -> str:
    """The application as mesh clients call it."""
    return f"http://{names.APP_FQDN}:{names.APP_PORT}/"


def plain_http_from_pod(kube: Kube, pod: PodFacts, address: str, port: int) -> HttpAnswer:
    """One plain HTTP request to `address:port` from a client pod."""
    argv = curl(f"http://{bracketed(address)}:{port}/", timeout_s=DEADLINES.connect)
    return _sample(kube, pod, argv, 1, timeout_s=30.0)[0]


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
