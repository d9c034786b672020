"""Whom the page's server answers: nobody but the browser of the user who started it."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from typing import Any

import pytest

import octavo
from octavo.errors import ParameterError
from octavo.serving import PageServer
from octavo.serving._server import _CONNECTIONS
from serving_client import Client

API = "/api/about"


def test_it_listens_on_loopback_only(client: Client) -> None:
    bound = client.server._http.socket.getsockname()
    assert bound[0] == "127.0.0.1"
    with pytest.raises(TypeError):
        PageServer(client.server._http.site.answers._collection, host="0.0.0.0")  # type: ignore[call-arg]


@pytest.mark.parametrize("target", ["/", API])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", "", None],
)
def test_other_hosts_are_refused(client: Client, target: str, host: str | None) -> None:
    headers = client.headers()
    del headers["Host"]
    if host is not None:
        headers["Host"] = host.format(port=client.port)
    status, _, content = client.raw("GET", target, headers)
    assert status == 421
    assert b"documents" not in content


def test_two_hosts_are_refused(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nHost: evil.example\r\n\r\n".encode())
        assert b" 421 " in connection.recv(1_000)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_its_own_names_are_answered(client: Client, host: str) -> None:
    assert client.raw("GET", API, client.headers(Host=f"{host}:{client.port}"))[0] == 200


@pytest.mark.parametrize("key", [None, "", "wrong", "ü"])
def test_without_the_key_there_is_no_data(client: Client, key: str | None) -> None:
    headers = client.headers()
    del headers["X-Octavo-Key"]
    if key is not None:
        headers["X-Octavo-Key"] = key
    for route in ("about", "search?q=apple", "document?id=apple", "neighbours?id=apple", "map", "explain?id=apple&q=x"):
        status, _, content = client.raw("GET", f"/api/{route}", headers)
        assert status == 403
        assert b"apple" not in content
    assert client.raw("GET", "/", headers)[0] == 200  # the page itself holds nothing


def test_keys_differ() -> None:
    with octavo.open() as kb, PageServer(kb, port=0) as one, PageServer(kb, port=0) as other:
        assert Client(one).key != Client(other).key
        assert len(Client(one).key) >= 32


@pytest.mark.parametrize(
    "more",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_are_refused(client: Client, more: dict[str, str]) -> None:
    assert client.raw("GET", API, client.headers() | more)[0] == 403


def test_no_other_origin_is_ever_allowed(client: Client) -> None:
    for headers in (client.headers(), client.headers(Origin=f"http://127.0.0.1:{client.port}")):
        _, answered, _ = client.raw("GET", API, headers)
        assert not [name for name in answered if name.startswith("access-control")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "<script>"])
def test_nothing_but_reading(client: Client, method: str) -> None:
    status, _, content = client.raw(method, API, client.headers())
    assert status in (400, 405)
    assert b"script" not in content


def test_head_has_no_body(client: Client) -> None:
    status, headers, content = client.raw("HEAD", "/", client.headers())
    assert (status, content) == (200, b"")
    assert int(headers["content-length"]) > 1_000


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/page.js",
        "/api/",
        "/api/about/",
        "//evil.example/",
        "http://evil.example/",
        "/api/about%00",
        "*",
        "/api/search/../about",
    ],
)
def test_there_are_no_files(client: Client, target: str) -> None:
    status, _, content = client.raw("GET", target, client.headers())
    assert status in (400, 404)
    assert b"root:" not in content
    assert b"evil" not in content


def test_what_every_answer_says(client: Client) -> None:
    for target, headers in (
        ("/", client.headers()),
        (API, client.headers()),
        (API, {"Host": "evil"}),
        ("/no", client.headers()),
    ):
        _, answered, _ = client.raw("GET", target, headers)
        policy = answered["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answered["x-content-type-options"] == "nosniff"
        assert answered["referrer-policy"] == "no-referrer"
        assert answered["cache-control"] == "no-store"
        assert "python" not in answered["server"].lower()


def test_the_page_needs_nothing_beside_itself(client: Client) -> None:
    _, _, content = client.raw("GET", "/", client.headers())
    page = content.decode()
    assert "/*STYLE*/" not in page
    assert "/*SCRIPT*/" not in page
    # The one address in it names SVG's elements and is never fetched.
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\.innerHTML|insertAdjacentHTML|document\.write|outerHTML|\beval\(", page)
    assert not re.search(r"<[^>]+\son[a-z]+=|<[^>]+\sstyle=", page)


def test_too_many_fields(client: Client) -> None:
    assert client.raw("GET", "/api/search?" + "&".join(f"a{n}=1" for n in range(2_000)), client.headers())[0] == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_is_refused_and_the_server_goes_on(client: Client, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(sent)
        answered = connection.recv(4_000)
    assert b"Traceback" not in answered
    assert b"documents" not in answered
    assert client.get("about")["documents"] == 6


def test_a_body_is_not_taken_for_the_next_request(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        inner = f"GET {API} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nX-Octavo-Key: {client.key}\r\n\r\n"
        connection.sendall(
            f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nContent-Length: {len(inner)}\r\n\r\n{inner}".encode()
        )
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(10_000):
                received += part
    assert received.count(b"HTTP/1.1 ") == 1


def test_many_idle_connections_keep_nobody_else_out_for_good(client: Client) -> None:
    held = [socket.create_connection(("127.0.0.1", client.port), timeout=30) for _ in range(_CONNECTIONS + 5)]
    try:
        refused = [connection for connection in held[_CONNECTIONS:] if connection.recv(1) == b""]
        assert len(refused) == 5
    finally:
        for connection in held:
            connection.close()
    for _ in range(100):
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert client.get("about")["documents"] == 6
            return
    pytest.fail("the server does not answer any more")


def test_many_at_once(client: Client) -> None:
    found: list[Any] = []

    def ask() -> None:
        found.append(client.get("search", q="ripe apple", k=3)["hits"][0]["id"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["apple"] * 12


def test_a_bug_is_logged_and_not_shown(client: Client, monkeypatch: Any, caplog: Any) -> None:
    def broken() -> Any:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(client.server._http.site.answers, "map", broken)
    status, found = client.ask("map")
    assert (status, found["error"]) == (500, "something went wrong; the terminal says what")
    assert "a secret path" in caplog.text


def test_questions_are_not_logged(client: Client, caplog: Any, capfd: Any) -> None:
    caplog.set_level("DEBUG")
    client.get("search", q="apple of my eye")
    client.raw("GET", "/nothing?private=yes", client.headers())
    assert "my eye" not in caplog.text
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_port_in_use(client: Client, kb: octavo.Collection) -> None:
    with pytest.raises(ParameterError, match=f"cannot listen on 127.0.0.1:{client.port}.*another port"):
        PageServer(kb, port=client.port)
    with pytest.raises(ParameterError, match="port"):
        PageServer(kb, port=70_000)


def test_closing() -> None:
    with octavo.open() as kb:
        server = PageServer(kb, port=0)
        server.close()  # never started
        server = PageServer(kb, port=0)
        server.start()
        server.start()
        server.close()
        server.close()
        server.wait()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", Client(server).port), timeout=5)


def test_closing_ends_connections_that_are_kept_alive(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.request("GET", API, headers=client.headers())
    assert connection.getresponse().read()
    client.server.close()
    connection.auto_open = 0  # it must not make a new connection, which nobody would take
    with contextlib.suppress(OSError):  # what is sent may still go into a buffer
        connection.request("GET", API, headers=client.headers())
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()


def test_a_collection_that_was_closed(client: Client, kb: octavo.Collection) -> None:
    kb.close()
    status, found = client.ask("search", q="apple")
    assert (status, "closed" in found["error"]) == (400, True)
