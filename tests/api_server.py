"""A small server on loopback that answers as an API server does, and kubeconfigs that lead to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from meshproof.clients.kubernetes.client import Json

Answer = tuple[int, list[Json]]
"""HTTP status, and the JSON lines of the body."""


class Server:
    """Answers with what `reply(method, path, query)` returns, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.credentials: set[str] = set()
        self.reply: Callable[[str, str, dict[str, str]], Answer] = lambda *_: (404, [{"message": "not found"}])
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                parts = urlsplit(self.path)
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                outer.credentials.add(self.headers.get("Authorization", ""))
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                outer.asked.append((self.command, parts.path, query))
                status, lines = outer.reply(self.command, parts.path, query)
                body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def kubeconfig(tmp_path: Path, url: str, *, name: str = "c", user: Json | None = None) -> Path:
    """A kubeconfig with one context of that name."""
    document = {
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path = tmp_path / ("kubeconfig" if name == "c" else f"{name.replace(':', '-')}.kubeconfig")
    path.write_text(yaml.safe_dump(document))
    return path
