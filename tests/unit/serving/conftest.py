from __future__ import annotations

from collections.abc import Iterator

import pytest

import octavo
from octavo.serving import PageServer
from serving_client import Client, fill, mean_of_words
from toy_models import words


@pytest.fixture
def kb() -> Iterator[octavo.Collection]:
    with octavo.open(encoder=mean_of_words) as kb:
        fill(kb)
        yield kb


@pytest.fixture
def client(kb: octavo.Collection) -> Iterator[Client]:
    with PageServer(kb, port=0) as server:
        yield Client(server)


@pytest.fixture
def late_client() -> Iterator[Client]:
    with octavo.open_multi_vector(encoder=words, pool_factor=1) as kb:
        fill(kb)
        with PageServer(kb, port=0) as server:
            yield Client(server)
