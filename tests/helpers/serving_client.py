"""A client of `octavo.serving`, and a collection to serve."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import octavo
from octavo.serving import PageServer
from toy_models import direction

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def mean_of_words(texts: list[str]) -> Any:
    """Encode a text as the mean direction of its words."""
    return [sum((direction(word) for word in text.lower().split()), start=direction("")) for text in texts]


def other_words(texts: list[str]) -> Any:
    """Encode a text as the mean of other directions of its words, with another model's dimension."""
    return [
        sum((direction(f"other {word}", 48) for word in text.lower().split()), start=direction("", 48))
        for text in texts
    ]


def half_reencoded(path: Path | None, n: int = 160, done: int = 100) -> octavo.Collection:
    """Return a collection of which a change of the model, from `mean_of_words` to `other_words`, was interrupted."""
    kb = octavo.open(path, mean_of_words)
    kb.add([f"apple w{i} w{i // 2}" for i in range(n)], ids=[str(i) for i in range(n)])

    def interrupted(texts: list[str]) -> Any:
        nonlocal done
        done -= len(texts)
        if done < 0:
            raise ConnectionError("no network")
        return other_words(texts)

    interrupted.__qualname__, interrupted.__module__ = other_words.__qualname__, other_words.__module__
    with contextlib.suppress(ConnectionError):
        kb.reencode(interrupted, batch_size=20)
    assert kb.info().reencoding is not None
    return kb


@dataclass
class Client:
    """Asks a server, with the right key unless told otherwise."""

    server: PageServer

    @property
    def port(self) -> int:
        return urlsplit(self.server.url).port or 0

    @property
    def key(self) -> str:
        return self.server.url.partition("#key=")[2]

    def raw(self, method: str, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def headers(self, **more: str) -> dict[str, str]:
        return {"Host": f"127.0.0.1:{self.port}", "X-Octavo-Key": self.key} | {
            name.replace("_", "-"): value for name, value in more.items()
        }

    def ask(self, route: str, **given: Any) -> tuple[int, Any]:
        status, _, content = self.raw("GET", f"/api/{route}?{urlencode(given)}", self.headers())
        return status, json.loads(content)

    def get(self, route: str, **given: Any) -> Any:
        status, found = self.ask(route, **given)
        assert status == 200, found
        return found


TEXTS = {
    "apple": "a red apple is ripe and sweet",
    "pear": "the green pear hangs in the orchard, ripe in autumn",
    "engine": "an engine burns fuel and drives the wheels",
    "running": "runners run in the park with new shoes",
    "evil": f"a text of somebody else: {EVIL} with an apple",
    "émile": "un café crème, s'il vous plaît",
}


def fill(kb: Any) -> None:
    kb.add(
        list(TEXTS.values()),
        ids=list(TEXTS),
        metadata=[
            {"kind": "fruit", "year": 2020, "day": date(2024, 5, 1)},
            {"kind": "fruit", "year": 2021, "tags": ["green", "ripe"], "by": {"name": "Ada"}},
            {"kind": "machine", "year": 2022, "open": True},
            {"kind": "sport", "year": 2022, "open": False},
            {"kind": EVIL, EVIL: EVIL},
            {"kind": "drink"},
        ],
    )
