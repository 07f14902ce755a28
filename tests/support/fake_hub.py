"""A hub on this machine: the few answers of the real one that huggingface_hub asks for, and ways of failing."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

MINUTE = 60.0
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories by their path at the hub, such as ``datasets/a/b``, each with its files, all at ``COMMIT``."""

    files: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    hangs: bool = False
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)

    def answer(self, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        api, _, rest = path.partition("/api/")
        repository, revision, file = self._parse(path.lstrip("/") if api else rest.removeprefix("models/"))
        if repository not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in (COMMIT, "main"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if file is None:
            return self._describe(path, query, repository)
        if repository in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if file not in self.files[repository]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body = self.files[repository][file]
        return 200, {"ETag": f'"{oid(body)}"', "X-Repo-Commit": COMMIT}, body

    def _parse(self, path: str) -> tuple[str, str, str | None]:
        """Repository, revision and file of what is asked for."""
        if path.endswith("/auth-check"):
            return path.removesuffix("/auth-check"), COMMIT, "any file"
        for verb in ("/resolve/", "/revision/", "/tree/"):
            repository, found, rest = path.partition(verb)
            if found:
                revision, _, file = rest.partition("/")
                return repository, revision, file if verb == "/resolve/" else None
        return path, "main", None

    def _describe(self, path: str, query: str, repository: str) -> tuple[int, dict[str, str], bytes]:
        files = self.files[repository]
        siblings = [{"rfilename": name, "size": len(body), "blobId": oid(body)} for name, body in files.items()]
        record: object = {"id": repository, "sha": COMMIT, "siblings": siblings, "gated": repository in self.gated}
        if "/tree/" in path:
            folder = path.partition("/tree/")[2].partition("/")[2]
            record = _tree(files, folder and f"{folder}/", "recursive=true" in query.lower())
        return 200, {"Content-Type": "application/json"}, json.dumps(record).encode()


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    """What lies in ``folder``: its files and folders, or the files of these too."""
    below = {name: body for name, body in files.items() if name.startswith(folder)}
    folders = {folder + name.removeprefix(folder).partition("/")[0] for name in below} - set(below)
    rows: list[dict[str, object]] = [
        {"type": "file", "path": name, "size": len(body), "oid": oid(body)}
        for name, body in below.items()
        if recursive or "/" not in name.removeprefix(folder)
    ]
    return rows + [{"type": "directory", "path": name, "oid": "0" * 40} for name in folders]


def oid(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Let ``hub`` answer on a port of this machine, which its ``endpoint`` then names."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = unquote(urlsplit(self.path).path), urlsplit(self.path).query
            hub.requests.append(path)
            if hub.hangs:
                over.wait(2 * MINUTE)
                return
            status, headers, body = hub.answer(path, query)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def use(hub: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub of this process ask ``hub``, and keep its downloads in ``home``."""
    settings = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


@contextmanager
def in_time() -> Iterator[None]:
    """Fail when the block waits for a hub as huggingface_hub does, for minutes: no neighbour takes that."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    assert seconds < MINUTE, f"took {seconds:.1f} s; expected less than {MINUTE:.0f} s"


@contextmanager
def computing(limit: float) -> Iterator[None]:
    """Fail when this process computes for longer than ``limit`` seconds in the block: its own time, not the clock's."""
    start = time.process_time()
    yield
    seconds = time.process_time() - start
    assert seconds < limit, f"computed for {seconds:.1f} s; expected less than {limit:.1f} s"
