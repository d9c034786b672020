"""The HTTP server of the page: loopback only, read-only, with a key. ``docs/decisions/serve.md`` says against whom, and why."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from octavo._validation import check_integer
from octavo.collection import CollectionLike
from octavo.errors import DocumentNotFoundError, OctavoError, ParameterError
from octavo.serving._answers import MOST_QUERY, MOST_RESULTS, Answers

_log = logging.getLogger(__name__)

#: The only address that is listened on.
_LOOPBACK = "127.0.0.1"

#: Port unless another is asked for.
DEFAULT_PORT = 8620

#: The header that carries the key.
_KEY_HEADER = "X-Octavo-Key"

#: Requests answered at once, and connections held.
_AT_ONCE, _CONNECTIONS = 4, 32

#: Characters of a filter as JSON, and of an id.
_MOST_FILTER, _MOST_ID = 10_000, 10_000


class RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class PageServer:
    """Serves a page about one collection to browsers on this machine, and to nobody else.

    Parameters
    ----------
    collection : CollectionLike
        An open collection; nothing is ever written to it. It is not closed with the server.
    port : int, default=8620
        Port on 127.0.0.1; 0 for any free one.

    Raises
    ------
    ParameterError
        When the port cannot be listened on.

    Examples
    --------
    >>> import octavo
    >>> kb = octavo.open()
    >>> _ = kb.add(["red", "green"], vectors=[[1, 0], [0, 1]])
    >>> with PageServer(kb, port=0) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    >>> kb.close()
    """

    def __init__(self, collection: CollectionLike, *, port: int = DEFAULT_PORT) -> None:
        self._key = secrets.token_urlsafe(24)
        port = check_integer(port, "port", least=0, most=65_535)
        try:
            self._http = _Server((_LOOPBACK, port), _Site(Answers(collection), self._key))
        except OSError as error:
            raise ParameterError(
                f"cannot listen on {_LOOPBACK}:{port} ({error.strerror}); give another port, or 0 for any free one"
            ) from error
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to open. What follows ``#`` is the key: whoever has it can read the collection."""
        return f"http://{_LOOPBACK}:{self._http.server_port}/#key={self._key}"

    def start(self) -> None:
        """Serve in the background, until `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._http.serve_forever, daemon=True, name="octavo serve")
            self._thread.start()

    def wait(self) -> None:
        """Wait until the server is closed, or the wait is interrupted."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(1)

    def close(self) -> None:
        """Stop listening; harmless when it was done already."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Site:
    """What is served, and to whom."""

    def __init__(self, answers: Answers, key: str) -> None:
        self.answers = answers
        self._key = key.encode()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._routes: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/api/about": lambda given: answers.about(),
            "/api/search": self._search,
            "/api/document": lambda given: answers.document(_id(given), _query(given)),
            "/api/neighbours": lambda given: answers.neighbours(_id(given)),
            "/api/explain": lambda given: answers.explain(_id(given), _query(given, needed=True)),
            "/api/map": lambda given: answers.map(),
        }

    @cached_property
    def page(self) -> bytes:
        """The page: one file, with its style and its script."""
        style, script = _asset("page.css"), _asset("page.js")
        return _asset("page.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()

    @cached_property
    def policy(self) -> str:
        """What a browser may do with the page: run and show exactly this, ask this server, and nothing else."""
        style, script = (
            base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()
            for name in ("page.css", "page.js")
        )
        return (
            f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def check(self, headers: Any, port: int) -> None:
        """Refuse what does not come from this machine's own pages."""
        allowed = {f"{name}:{port}" for name in (_LOOPBACK, "localhost")}
        hosts = headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].strip().lower() not in allowed:  # a foreign name that leads here: DNS rebinding
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, f"this server answers to {_LOOPBACK}:{port} only")
        for origin in headers.get_all("Origin") or []:
            if origin.strip().lower() not in {f"http://{host}" for host in allowed}:
                raise RefusedError(HTTPStatus.FORBIDDEN, "requests of other sites are refused")

    def answer(self, target: str, headers: Any) -> tuple[str, bytes]:
        """Return the type and the bytes of what lies at a target."""
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "expected a path")
        if parts.path == "/":
            return "text/html; charset=utf-8", self.page
        route = self._routes.get(parts.path)
        if route is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        keys = headers.get_all(_KEY_HEADER) or [""]
        if len(keys) != 1 or not hmac.compare_digest(keys[0].encode("utf-8", "replace"), self._key):
            raise RefusedError(HTTPStatus.FORBIDDEN, "the key is wrong: open the address that the server printed last")
        if (headers.get("Sec-Fetch-Site") or "same-origin") not in ("same-origin", "none"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "requests of other sites are refused")
        given = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
        with self._turns:
            found = route(given)
        return "application/json", json.dumps(found, allow_nan=False).encode()

    def _search(self, given: Mapping[str, str]) -> Any:
        k = given.get("k", "10")
        if not (k.isascii() and k.isdigit() and len(k) < 6 and 1 <= int(k) <= MOST_RESULTS):
            raise ParameterError(f"expected k to be a whole number from 1 to {MOST_RESULTS}, got {k[:20]!r}")
        return self.answers.search(
            _query(given, needed=True), mode=given.get("mode", self.answers.modes[0]), k=int(k), filter=_filter(given)
        )


def _query(given: Mapping[str, str], *, needed: bool = False) -> str:
    query = given.get("q", "")
    if len(query) > MOST_QUERY or (needed and not query.strip()):
        raise ParameterError(f"expected a question of 1 to {MOST_QUERY:,} characters, got {len(query):,}")
    return query


def _id(given: Mapping[str, str]) -> str:
    identifier = given.get("id", "")
    if not 0 < len(identifier) <= _MOST_ID:
        raise ParameterError(f"expected an id of 1 to {_MOST_ID:,} characters, got {len(identifier):,}")
    return identifier


def _filter(given: Mapping[str, str]) -> dict[str, Any] | None:
    text = given.get("filter", "")
    if not text:
        return None
    if len(text) > _MOST_FILTER:
        raise ParameterError(f"expected a filter of at most {_MOST_FILTER:,} characters, got {len(text):,}")
    try:
        parsed = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ParameterError("expected the filter to be a JSON object") from None
    if not isinstance(parsed, dict):
        raise ParameterError("expected the filter to be a JSON object")
    return parsed


def _asset(name: str) -> str:
    return resources.files("octavo.serving").joinpath(name).read_text(encoding="utf-8")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], site: _Site) -> None:
        self.site = site
        self._held: set[Any] = set()
        self._changing = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            full = len(self._held) >= _CONNECTIONS  # a browser holds six for a page
            if not full:
                self._held.add(request)
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._held.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._changing:
            held = list(self._held)
        for request in held:  # kept alive, they would be answered for ever
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "octavo", ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer a request; whatever goes wrong is told in one line of JSON."""
        try:
            self.server.site.check(self.headers, self.server.server_port)
            kind, content = self.server.site.answer(self.path, self.headers)
            self._send(HTTPStatus.OK, kind, content)
        except RefusedError as refused:
            self._fail(refused.status, str(refused))
        except DocumentNotFoundError as error:
            self._fail(HTTPStatus.NOT_FOUND, str(error))
        except (OctavoError, ValueError) as error:  # ValueError: too many fields in a query string
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            _log.exception("the page could not be answered")
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong; the terminal says what")

    do_HEAD = do_GET  # noqa: N815 - so is this

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what cannot be read, or another method, without repeating what was sent."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self._fail(status, status.phrase)

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # a body that was not read must not be taken for the next request
        self._send(status, "application/json", json.dumps({"error": message}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", self.server.site.policy),
            ("Cache-Control", "no-store"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing that was asked: questions are the user's own."""
