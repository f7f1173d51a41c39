"""HTTP requests from client pods and from this machine, and their results."""

from __future__ import annotations

import time
from contextlib import ExitStack
from http.cookiejar import DefaultCookiePolicy
from typing import Final

import requests
from requests.adapters import HTTPAdapter

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.mesh.objects import PodFacts
from meshproof.probes.answers import VERSION_HEADER, HttpAnswer, bracketed, words
from meshproof.probes.pod_script import CurlResult, Output, curl, exec_in_pod, parse_curls


def http_from_pod(
    kube: Kube, pod: PodFacts, url: str, count: int, *, timeout_s: float = DEADLINES.answer_s, through: str = ""
) -> list[HttpAnswer]:
    """Send `count` GET requests from a client pod: one `exec`, one curl, one request at a time.

    curl keeps its connection to the sidecar, which balances request by request. One at a time, since with several in
    flight its least-request balancing prefers the endpoint that answers sooner. The sample ends with the first request
    that gets no response: it has failed already, and a dropped path would cost a timeout for each of the others.
    With `through` curl connects to that address for any host of the URL, for example an ingress gateway.
    """
    argv = curl(f"{url}?n=[1-{count}]", "--fail-early", *dialling(through), timeout_s=timeout_s)
    return _sample(kube, pod, argv, count, timeout_s=DEADLINES.batch_s)


def _sample(kube: Kube, pod: PodFacts, argv: list[str], count: int, *, timeout_s: float) -> list[HttpAnswer]:
    answer = exec_in_pod(kube, pod, argv, timeout_s=timeout_s)
    output = Output(text=answer.stdout or answer.stderr, exit_code=answer.exit_code)
    return [answer_of(result) for result in parse_curls(output, count, f"{count} requests from {pod} on {kube.name}")]


def dialling(address: str) -> list[str]:
    """curl's option to connect to this address for every host, at the URL's port; empty without an address."""
    return ["--connect-to", f"::{bracketed(address)}:"] if address else []


def answer_of(result: CurlResult) -> HttpAnswer:
    return HttpAnswer(
        status=result.status, version=result.headers[VERSION_HEADER], seconds=result.seconds, error=result.error
    )


def app_url() -> str:
    """The application's URL for mesh clients."""
    return f"http://{names.APP_FQDN}:{names.APP_PORT}/"


def plain_http_from_pod(kube: Kube, pod: PodFacts, address: str, port: int) -> HttpAnswer:
    """One plain HTTP request to `address:port` from a client pod."""
    argv = curl(f"http://{bracketed(address)}:{port}/", timeout_s=DEADLINES.connect_s)
    return _sample(kube, pod, argv, 1, timeout_s=30.0)[0]


def http_from_runner(
    address: str,
    count: int,
    *,
    host: str = names.APP_HOST,
    path: str = "/",
    port: int = 80,
    timeout_s: float = DEADLINES.answer_s,
) -> list[HttpAnswer]:
    """Send `count` GET requests to an ingress gateway, one at a time, alternating between a few kept-alive connections.

    The gateway balances request by request. One at a time, since with several in flight its least-request balancing
    prefers the endpoint that answers sooner, so that shares would depend on the distance. The sample ends with the
    first request that gets no response, as in `http_from_pod`.
    """
    answers: list[HttpAnswer] = []
    with ExitStack() as stack:
        sessions = [stack.enter_context(plain_session()) for _ in range(_CONNECTIONS)]
        request = _prepared(sessions[0], address, host=host, path=path, port=port)
        for number in range(count):
            answers.append(_answer(sessions[number % _CONNECTIONS], request, timeout_s))
            if answers[-1].error:
                break
    return answers


_CONNECTIONS: Final = 4


def _answer(session: requests.Session, request: requests.PreparedRequest, timeout_s: float) -> HttpAnswer:
    """One request over that session, which reconnects if necessary."""
    start = time.monotonic()
    try:
        answer = session.send(request, timeout=timeout_s, allow_redirects=False)
    except OSError as problem:
        return HttpAnswer(status=0, version="", seconds=time.monotonic() - start, error=words(problem))
    version = answer.headers.get(VERSION_HEADER, "")
    return HttpAnswer(status=answer.status_code, version=version, seconds=time.monotonic() - start)


def plain_session(connections: int = 1) -> requests.Session:
    """A client without retries, cookies, or proxies from the environment.

    It keeps up to `connections` open. More concurrent requests open further ones, which are closed after use.
    """
    session = requests.Session()
    session.trust_env = False
    session.headers.clear()
    session.headers["Accept-Encoding"] = "identity"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # a cookie could bind a client to one endpoint
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0))
    return session


def get(
    session: requests.Session,
    address: str,
    *,
    host: str,
    path: str = "/",
    port: int = 80,
    timeout_s: float,
    close: bool = False,
) -> requests.Response:
    """Send a GET request to `address:port`, and read the whole response. `close` disables keep-alive.

    `timeout_s` applies to connecting, and to each wait for data. Raises `OSError`, `requests.RequestException`
    included.
    """
    request = _prepared(session, address, host=host, path=path, port=port, close=close)
    return session.send(request, timeout=timeout_s, allow_redirects=False)


def _prepared(
    session: requests.Session, address: str, *, host: str, path: str, port: int, close: bool = False
) -> requests.PreparedRequest:
    """The GET request, for any plain session: preparing it costs half a millisecond, as much as sending it."""
    headers = {"Host": host} | ({"Connection": "close"} if close else {})
    url = f"http://{bracketed(address)}:{port}{path}"
    return session.prepare_request(requests.Request("GET", url, headers=headers))
