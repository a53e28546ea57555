"""The server of `abi demo`: one page, its script and style, and a JSON interface, on 127.0.0.1 alone.

Only the standard library: one reader on this machine needs no framework, and nothing here calls another host. A page of
another site cannot use it: the header `Host` must name this server, `Origin`, where there is one, too, and a request
must be declared as JSON, which a browser sends to another origin only when it is allowed to.
"""

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from abi.api.inspecting import compare_modules, inspect_tokens, write_both
from abi.api.several import Several
from abi.base.errors import AbiError, DataError, first_line
from abi.base.typed import Typed

HOST = "127.0.0.1"
HTTP_PORT = 80
"""Which a browser leaves out of `Host` and `Origin`."""
MOST_BYTES = 64_000
"""Of a request."""
TIMEOUT_S = 30
"""Between two bytes of a request."""
FILES = {
    "/": ("demo.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

Prompt = Annotated[str, Field(min_length=1, max_length=8000)]
Weight = Annotated[float, Field(ge=-4, le=4)]


class Asked(Typed):
    """What every request names."""

    model: str
    prompt: Prompt


class Inspect(Asked):
    """POST /api/inspect: how a mixture moves every position of a prompt."""

    weights: Annotated[dict[str, Weight], Field(max_length=64)]


class Write(Inspect):
    """POST /api/write: what is written without and with the mixture."""

    tokens: Annotated[int, Field(ge=1, le=200)] = 40
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


class Compare(Asked):
    """POST /api/compare: every module of the model alone, beside one that is the reference."""

    reference: str | None = None


class Demo:
    """What the page asks for. Args: models: name -> the model with its modules attached."""

    def __init__(self, models: Mapping[str, Several]) -> None:
        self.models = models
        self.lock = threading.Lock()
        """One request runs a model at a time: two would share the cores and hold the logits of both."""

    def listed(self) -> list[dict[str, Any]]:
        """Return the models and their modules, as the page needs them."""
        return [
            {"name": name, "parameters": attached.backbone.model.num_parameters(), "modules": list(attached.modules)}
            for name, attached in self.models.items()
        ]

    def inspect(self, asked: Inspect) -> Any:
        """Return the positions of a prompt."""
        with self.lock:
            found = inspect_tokens(self._of(asked), asked.weights, asked.prompt)
        return [position.model_dump(mode="json") for position in found]

    def write(self, asked: Write) -> Any:
        """Return both texts."""
        with self.lock:
            found = write_both(
                self._of(asked),
                asked.weights,
                asked.prompt,
                asked.tokens,
                temperature=asked.temperature,
                seed=asked.seed,
            )
        return found.model_dump(mode="json")

    def compare(self, asked: Compare) -> Any:
        """Return the effect of every module alone."""
        attached = self._of(asked)
        with self.lock:
            found = compare_modules(attached, list(attached.modules), asked.prompt, asked.reference)
        return [effect.model_dump(mode="json") for effect in found]

    def _of(self, asked: Asked) -> Several:
        """Return the model that is asked for. Raises: DataError: there is none of that name."""
        if asked.model not in self.models:
            raise DataError(f"model: no {asked.model!r}; there are {', '.join(self.models)}")
        return self.models[asked.model]


class Refused(Exception):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def server(demo: Demo, port: int) -> ThreadingHTTPServer:
    """Return a server of the page, listening; it answers once `serve_forever` runs.

    Args: port: 0: a free one. Raises: DataError: the port is taken, or is none.
    """
    handler = type("Handler", (_Handler,), {"demo": demo})
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"demo: port {port} cannot be used ({why}); give another with --port, or 0") from None


def own_names(port: int) -> set[str]:
    """Return what a browser calls this server in `Host`; the port of HTTP it may leave out."""
    names = {HOST, "localhost"}
    return {f"{name}:{port}" for name in names} | (names if port == HTTP_PORT else set())


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    demo: Demo
    timeout = TIMEOUT_S
    server_version, sys_version = "abi", ""

    def do_GET(self) -> None:
        """Answer with a file of the page, or the models."""
        self._answered(self._read)

    def do_POST(self) -> None:
        """Answer a request for figures."""
        self._answered(self._asked)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet."""

    def _answered(self, make: Callable[[], tuple[bytes, str]]) -> None:
        """Send what is made, or one sentence that says why not."""
        status = HTTPStatus.OK
        try:
            self._require_own()
            body, form = make()
        except Refused as refused:
            status, (body, form) = refused.status, _json({"error": str(refused)})
        except AbiError as error:
            status, (body, form) = HTTPStatus.BAD_REQUEST, _json({"error": str(error)})
        except (ConnectionError, TimeoutError):  # nobody is there to be answered
            self.close_connection = True
            return
        except Exception as error:
            told = f"demo: failed ({type(error).__name__}: {first_line(error)}); ask something else, or start it again"
            status, (body, form) = HTTPStatus.INTERNAL_SERVER_ERROR, _json({"error": told})
        try:
            self.send_response(status)
            headers = {"Content-Type": form, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
            headers |= {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": POLICY}
            headers |= {"Referrer-Policy": "no-referrer"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # the page was closed, or asked for something newer
            self.close_connection = True

    def _require_own(self) -> None:
        """Raise Refused for a request that is not of the page itself (DNS rebinding, another site)."""
        port = self.connection.getsockname()[1]
        own = own_names(port)
        if self.headers.get("Host") not in own:
            raise Refused(HTTPStatus.FORBIDDEN, f"Host: this page is http://{HOST}:{port}/ alone; open that")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in own:
            raise Refused(HTTPStatus.FORBIDDEN, f"Origin: requests of {origin} are refused; open http://{HOST}:{port}/")

    def _read(self) -> tuple[bytes, str]:
        """Return a file of the page, or the models."""
        if self.path == "/api/models":
            return _json(self.demo.listed())
        if self.path not in FILES:
            raise Refused(HTTPStatus.NOT_FOUND, f"{self.path}: there is nothing; the page is /")
        name, form = FILES[self.path]
        return (Path(__file__).parent / "templates" / name).read_bytes(), form

    def _asked(self) -> tuple[bytes, str]:
        """Return the answer to a request for figures."""
        known: dict[str, tuple[type[Asked], Callable[[Any], Any]]] = {
            "/api/inspect": (Inspect, self.demo.inspect),
            "/api/write": (Write, self.demo.write),
            "/api/compare": (Compare, self.demo.compare),
        }
        if self.path not in known:
            raise Refused(HTTPStatus.NOT_FOUND, f"{self.path}: there is nothing; requests are {', '.join(known)}")
        form, make = known[self.path]
        try:
            asked = form.model_validate_json(self._body())
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "request"
            raise Refused(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}; correct it") from None
        return _json(make(asked))

    def _body(self) -> bytes:
        """Return what was sent. Raises: Refused: no JSON, or too much."""
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: send application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length: send how many bytes follow")
        if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:  # `int` refuses thousands of digits
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"request: it is longer than {MOST_BYTES} bytes")
        return self.rfile.read(int(length))


def _json(value: object) -> tuple[bytes, str]:
    """Return a value as the body of an answer, with its type."""
    return json.dumps(value, allow_nan=False).encode(), "application/json"
