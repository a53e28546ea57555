"""A stand-in of the Hugging Face hub: the routes, headers and errors that its client needs, over folders on disk.

Large files are answered as the hub does: HEAD and GET redirect to where the bytes are, with the SHA-256 as linked ETag.
"""

import contextlib
import hashlib
import http.server
import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

LARGE = 2000
"""Bytes from which a weight or data file is stored as Git LFS does."""


@dataclass
class Stored:
    """A repository: commits (revision -> folder), the newest one, who may read its files."""

    commits: dict = field(default_factory=dict)
    newest: str = ""
    gated: bool = False

    def commit(self, folder):
        self.newest = hashlib.sha1(f"{folder} {self.newest}".encode()).hexdigest()
        self.commits[self.newest] = Path(folder)
        return self.newest


class Hub:
    """What the server has, what goes wrong, and what it was asked for."""

    def __init__(self):
        self.stored, self.requests, self.ranges = {}, [], []
        self.drops, self.wrong, self.lost = {}, set(), set()
        self.refusal = None  # (status, message) for whatever is asked
        self.endpoint = self.elsewhere = ""

    def add(self, kind, repo_id, folder):
        """Add a commit of a repository; returns its revision."""
        return self.stored.setdefault((kind, repo_id), Stored()).commit(folder)

    def of(self, repo_id, kind="model"):
        return self.stored[kind, repo_id]


def is_large(path):
    return path.suffix in {".safetensors", ".parquet", ".model"} and path.stat().st_size >= LARGE


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def blob_id(path):
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(folder, path):
    lfs = {"sha256": sha256(path), "size": path.stat().st_size, "pointerSize": 135} if is_large(path) else None
    return path.relative_to(folder).as_posix(), path.stat().st_size, blob_id(path), lfs


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if self.hub.refusal:
            self.refuse(self.hub.refusal[0], None, body, {"X-Error-Message": self.hub.refusal[1]})
        elif api:
            self.about(api[1].removesuffix("s"), api[2], api[3], api[4], body)
        elif file:
            self.file("dataset" if file[1] else "model", *file.group(2, 3, 4), body)
        elif path.startswith("/lfs/"):
            self.bytes(Path(path.removeprefix("/lfs")), {}, body)
        else:
            self.refuse(404, "EntryNotFound", body)

    def found(self, kind, repo_id, revision, body):
        """Return revision and folder of what is asked for, None after a refusal."""
        stored = self.hub.stored.get((kind, repo_id))
        if stored is None:
            self.refuse(401, "RepoNotFound", body)
            return None
        revision = stored.newest if revision in {None, "main"} else revision
        if revision not in stored.commits:
            self.refuse(404, "RevisionNotFound", body)
            return None
        return revision, stored.commits[revision]

    def about(self, kind, repo_id, what, revision, body):
        at = self.found(kind, repo_id, revision, body)
        if at is None:
            return
        entries = [entry(at[1], path) for path in sorted(at[1].rglob("*")) if path.is_file()]
        if what == "tree":
            told = [
                {
                    "type": "file",
                    "path": n,
                    "size": s,
                    "oid": b,
                    **({"lfs": {**lfs, "oid": lfs["sha256"]}} if lfs else {}),
                }
                for n, s, b, lfs in entries
            ]
        else:
            siblings = [
                {"rfilename": n, "size": s, "blobId": b, **({"lfs": lfs} if lfs else {})} for n, s, b, lfs in entries
            ]
            gated = "manual" if self.hub.of(repo_id, kind).gated else False
            told = {
                "id": repo_id,
                "sha": at[0],
                "siblings": siblings,
                "gated": gated,
                "private": False,
                "tags": [],
                "cardData": {"license": "apache-2.0"} if kind == "model" else {},
                "downloads": 0,
                "config": self.about_class(at[1] / "config.json"),
            }
        self.send(200, json.dumps(told).encode(), {"Content-Type": "application/json"}, body)

    @staticmethod
    def about_class(path):
        """What the hub repeats of a model's configuration."""
        told = json.loads(path.read_text()) if path.is_file() else {}
        return {key: told[key] for key in ("architectures", "auto_map", "model_type") if key in told}

    def file(self, kind, repo_id, revision, name, body):
        at = self.found(kind, repo_id, revision, body)
        if at is None:
            return
        commit, folder = at
        if self.hub.of(repo_id, kind).gated:
            self.refuse(403, "GatedRepo", body)
        elif name in self.hub.lost or not (folder / name).is_file():
            self.refuse(404, "EntryNotFound", body, {"X-Repo-Commit": commit})
        elif is_large(folder / name):
            path = folder / name
            linked = {
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{sha256(path)}"',
                "X-Linked-Size": str(path.stat().st_size),
            }
            self.send(302, b"", {**linked, "Location": f"{self.hub.elsewhere}/lfs{path}"}, body)
        else:
            self.bytes(folder / name, {"X-Repo-Commit": commit, "ETag": f'"{blob_id(folder / name)}"'}, body)

    def bytes(self, path, headers, body):
        content = path.read_bytes()
        if path.name in self.hub.wrong:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and body:
            self.hub.ranges.append((path.name, int(asked[1])))
            last = min(int(asked[2] or len(content)), len(content) - 1)
            headers = {**headers, "Content-Range": f"bytes {asked[1]}-{last}/{len(content)}"}
            content = content[int(asked[1]) : last + 1]
        drop = self.hub.drops.get(path.name, []) if body and not (asked and asked[2]) else []
        self.send(206 if asked and body else 200, content, headers, body, drop.pop(0) if drop else None)

    def refuse(self, status, code, body, headers=None):
        named = {} if code is None else {"X-Error-Code": code, "X-Error-Message": code}
        self.send(status, b"", {**named, **(headers or {})}, body)

    def send(self, status, content, headers, body, cut=None):
        """Answer. Args: cut: bytes after which the connection is dropped."""
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(hub):
    """Serve a hub on a free port of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"hub": hub})) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        hub.elsewhere = f"http://localhost:{server.server_port}"  # large files come from another host
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
