"""A local HTTP server that stands in for the model hub, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 100_000  # from this size on, the hub keeps a file in git LFS and states its SHA-256


@dataclass
class Hub:
    """Serves the files of `folder` as the repository `repo`."""

    folder: Path
    repo: str = "test/tiny"
    cut_after: dict[str, int] = field(default_factory=dict)
    """By file name: close the connection after so many bytes, once."""
    corrupted: set[str] = field(default_factory=set)
    """Files that are sent with one wrong byte."""
    bare: bool = False
    """List names only, as a simple mirror does."""
    fails: dict[str, list[int]] = field(default_factory=dict)
    """By file name: HTTP statuses of its next downloads."""
    hold_after: dict[str, int] = field(default_factory=dict)
    """By file name: stop sending after so many bytes, once, until `resume` is set."""
    is_holding: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, range) of every request."""
    endpoint: str = ""

    def siblings(self) -> list[dict]:
        found = []
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            if self.bare:
                found.append({"rfilename": path.relative_to(self.folder).as_posix()})
                continue
            entry = {
                "rfilename": path.relative_to(self.folder).as_posix(),
                "size": len(content),
                "blobId": _git_hash(content),
            }
            if len(content) >= _LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            found.append(entry)
        return found

    def content(self, name: str) -> bytes:
        content = (self.folder / name).read_bytes()
        if name in self.corrupted:
            content = bytes([content[0] ^ 1]) + content[1:]
        return content

    def etag(self, name: str) -> str:
        content = (self.folder / name).read_bytes()
        large = len(content) >= _LARGE
        return hashlib.sha256(content).hexdigest() if large else _git_hash(content)


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        revision = path.rpartition("/revision/")[2]
        if path.startswith(f"/api/models/{self.hub.repo}/revision/"):
            if revision not in ("main", COMMIT):
                self._error(404, "RevisionNotFound")
                return
            body = {
                "id": self.hub.repo,
                "modelId": self.hub.repo,
                "sha": COMMIT,
                "siblings": self.hub.siblings(),
            }
            self._send(json.dumps(body).encode(), {"Content-Type": "application/json"}, with_body=with_body)
            return
        parts = path.removeprefix(f"/{self.hub.repo}/resolve/").split("/", 1)
        known = path.startswith(f"/{self.hub.repo}/resolve/") and (self.hub.folder / parts[-1]).is_file()
        if not known:
            ours = path.startswith((f"/{self.hub.repo}/", f"/api/models/{self.hub.repo}"))
            self._error(404, "EntryNotFound" if ours else "RepoNotFound")
            return
        self._file(parts[1], with_body=with_body)

    def _file(self, name: str, *, with_body: bool) -> None:
        if with_body and self.hub.fails.get(name):
            self._error(self.hub.fails[name].pop(0), "")
            return
        content = self.hub.content(name)
        start = 0
        asked = self.headers.get("Range")
        if asked and with_body:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                self._error(416, "")
                return
        headers = {"ETag": f'"{self.hub.etag(name)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(content[start:], headers, with_body=with_body, partial=bool(start), name=name)

    def _send(
        self, body: bytes, headers: dict[str, str], *, with_body: bool, partial: bool = False, name: str = ""
    ) -> None:
        self.send_response(206 if partial else 200)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not with_body:
            return
        cut = self.hub.cut_after.pop(name, None)
        hold = self.hub.hold_after.pop(name, None)
        sent = body if cut is None else body[:cut]
        with suppress(BrokenPipeError, ConnectionResetError):
            if hold is not None:
                self.wfile.write(sent[:hold])
                self.wfile.flush()
                self.hub.is_holding.set()
                self.hub.resume.wait(400)
                sent = sent[hold:]
            self.wfile.write(sent)
            self.wfile.flush()
        self.close_connection = cut is not None

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve the hub on a free port of this machine; its address is `hub.endpoint`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
