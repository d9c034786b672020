"""Late chunking: a whole document is read, and the vectors of its tokens are averaged over each chunk."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from octavo._arrays import Floats, as_matrix, real_array
from octavo._validation import check_integer, check_number
from octavo.encoders.dense import _model_name
from octavo.errors import InputTypeError, InvalidVectorsError, ParameterError

#: A chunk: its text, or where it begins and ends in the document.
Chunk = str | tuple[int, int]

#: Where each of several things begins and ends, in characters of the document.
_Spans = npt.NDArray[np.int64]


class _Read(NamedTuple):
    """What a model says of a stretch of text: the vectors of its tokens, and where these stand in that stretch."""

    vectors: Floats
    spans: _Spans


def late_chunks(
    model: Any, text: str, chunks: Sequence[Chunk], *, window: int | None = None, overlap: float = 0.25
) -> Floats:
    """Return vectors of a document's chunks, made of what its tokens mean in the whole document.

    The model reads the document first and is averaged over chunks then [1]_: "It has 2.1 million inhabitants." is embedded by
    a model that has just read what "it" is. Add the chunks with these as ready vectors.

    Parameters
    ----------
    model : SentenceTransformer or callable
        A sentence-transformers model that averages its token vectors, as most do, with a fast tokenizer; or a callable from a
        list of texts to one pair for each: token vectors, array-like of shape ``(n_tokens, dim)``, and where each token begins
        and ends in its text, array-like of shape ``(n_tokens, 2)``.
    text : str
        The document.
    chunks : sequence of (str or tuple of int and int)
        Pieces of it, however they were cut, in the order of the document; they may overlap, and need not cover all of it.
        Instead of its text, where a chunk begins and ends.
    window : int, optional
        What the model reads at a time where the document is longer: tokens of a sentence-transformers model (by default as
        many as it takes), characters for a callable (by default all of them).
    overlap : float, default=0.25
        The share of a window that the next one reads again. Each token's vector comes from the window in which it stands
        further from the edge.

    Returns
    -------
    ndarray of shape (len(chunks), dim), float32
        One vector a chunk.

    Raises
    ------
    ParameterError
        When a chunk is not found in the text, or has no token; when the model does not average its token vectors.
    InputTypeError
        When an argument is something else.
    InvalidVectorsError
        When the model gives vectors that cannot be used.

    References
    ----------
    .. [1] M. Günther, I. Mohr, D. J. Williams, B. Wang and H. Xiao, "Late Chunking: Contextual Chunk Embeddings Using
       Long-Context Embedding Models", 2024, arXiv:2409.04701.

    Examples
    --------
    >>> def letters(texts):  # a toy model: each letter is a token, and knows how many letters there are
    ...     return [([[ord(letter), len(text)] for letter in text], [(n, n + 1) for n in range(len(text))]) for text in texts]
    >>> late_chunks(letters, "aac ee", ["aac", "ee"]).tolist()
    [[97.66666412353516, 6.0], [101.0, 6.0]]
    """
    if not isinstance(text, str):
        raise InputTypeError(f"expected the document as a str, got {type(text).__name__}")
    share = check_number(overlap, "overlap", least=0.0, most=0.5)
    most = check_integer(window, "window", least=1) if window is not None else None
    places = _places(text, chunks)
    if not len(places):
        return np.zeros((0, 0), np.float32)
    read, finish = _reader(model, most, share)
    tokens = _owned(read(text), len(text))
    sums = np.zeros((len(places), tokens.vectors.shape[1]), np.float64)
    for row, (begin, end) in enumerate(places.tolist()):
        inside = (tokens.spans[:, 0] < end) & (tokens.spans[:, 1] > begin)
        if not inside.any():
            raise ParameterError(
                f"expected chunks with words in them, but chunk {row} (characters {begin} to {end}) has no token; leave it out"
            )
        sums[row] = tokens.vectors[inside].mean(axis=0, dtype=np.float64)
    return finish(sums.astype(np.float32))


def _places(text: str, chunks: Sequence[Chunk]) -> _Spans:
    """Return where chunks begin and end in a text."""
    if isinstance(chunks, str | bytes) or not isinstance(chunks, Sequence):
        raise InputTypeError(f"expected chunks as a list of str or of (begin, end), got {type(chunks).__name__}")
    places: list[tuple[int, int]] = []
    after = 0
    for number, chunk in enumerate(chunks):
        if isinstance(chunk, str):
            begin = text.find(chunk, after)
            if not chunk or begin < 0:
                where = f" behind character {after}" if after else ""
                raise ParameterError(
                    f"expected chunk {number} as a piece of the text, in the order of the text, but {chunk[:60]!r} is not "
                    f"found there{where}; give (begin, end) for a chunk whose text was changed"
                )
            place = begin, begin + len(chunk)
            after = begin + 1
        else:
            place = _pair(chunk, number, len(text))
        places.append(place)
    return np.array(places, np.int64).reshape(-1, 2)


def _pair(chunk: Any, number: int, length: int) -> tuple[int, int]:
    if not isinstance(chunk, Sequence) or len(chunk) != 2:
        raise InputTypeError(f"expected chunk {number} as a str or (begin, end), got {chunk!r}")
    begin = check_integer(chunk[0], f"the beginning of chunk {number}", least=0)
    end = check_integer(chunk[1], f"the end of chunk {number}", least=0)
    if not begin < end <= length:
        raise ParameterError(f"expected chunk {number} within the text of {length} characters, got {chunk!r}")
    return begin, end


#: Reads a document, window by window: where each begins and ends in it, and what the model says.
_Reader = Callable[[str], "list[tuple[int, int, _Read]]"]


def _reader(model: Any, window: int | None, overlap: float) -> tuple[_Reader, Callable[[Floats], Floats]]:
    """Return what reads a document with a model, and what the model does with averages."""
    if isinstance(model, str | type):
        raise InputTypeError(
            f"expected a model that is loaded, or a callable, got {model!r}; load it once: "
            "sentence_transformers.SentenceTransformer(name)"
        )
    if hasattr(model, "encode") and hasattr(model, "tokenizer") and hasattr(model, "max_seq_length"):
        transformer = _Transformer(model, window)
        return (lambda text: transformer.read(text, overlap)), transformer.finish
    if not callable(model):
        raise InputTypeError(
            f"expected a SentenceTransformer, or a callable from texts to token vectors and where they stand, got "
            f"{type(model).__name__}"
        )

    def read(text: str) -> list[tuple[int, int, _Read]]:
        size = window if window is not None else len(text)
        bounds = list(_windows(len(text), size, overlap))
        answers = list(model([text[begin:end] for begin, end in bounds]))
        if len(answers) != len(bounds):
            raise InvalidVectorsError(f"expected {len(bounds)} answers, one for each text, got {len(answers)}")
        return [(begin, end, _checked(answer)) for (begin, end), answer in zip(bounds, answers, strict=True)]

    return read, lambda vectors: vectors


def _checked(answer: Any) -> _Read:
    try:
        vectors, spans = answer
    except (TypeError, ValueError):
        raise InvalidVectorsError(
            f"expected a pair of token vectors and where they stand for each text, got {type(answer).__name__}"
        ) from None
    matrix = as_matrix(vectors, None, "token vectors") if len(vectors) else np.zeros((0, 0), np.float32)
    places = real_array(spans, "where tokens stand")
    if places.shape != (len(matrix), 2) and len(matrix):
        raise InvalidVectorsError(
            f"expected where each of {len(matrix)} tokens begins and ends, got an array of shape {places.shape}"
        )
    return _Read(matrix, places.astype(np.int64).reshape(-1, 2))


def _windows(length: int, size: int, overlap: float) -> Iterator[tuple[int, int]]:
    """Yield stretches of at most `size` that overlap, the last one as long as the others."""
    if length <= size:
        yield 0, length
        return
    step = max(1, size - int(size * overlap))
    for begin in range(0, length - size, step):
        yield begin, begin + size
    yield length - size, length


def _owned(windows: list[tuple[int, int, _Read]], length: int) -> _Read:
    """Return the tokens of a document, each from the window in which it stands further from the edge."""
    vectors, spans = [], []
    for number, (begin, end, read) in enumerate(windows):
        first = (begin + windows[number - 1][1]) / 2 if number else 0.0
        last = (windows[number + 1][0] + end) / 2 if number + 1 < len(windows) else float(length)
        places = read.spans + begin
        middles = places.mean(axis=1)
        kept = (places[:, 1] > places[:, 0]) & (middles >= first) & ((middles < last) | (last == length))
        if kept.any():
            vectors.append(read.vectors[kept])
            spans.append(places[kept])
    if not vectors:
        raise ParameterError("expected a text with words in it, but the model has no token for it")
    if len({matrix.shape[1] for matrix in vectors}) > 1:
        raise InvalidVectorsError("expected token vectors of one dimension, got several")
    return _Read(np.concatenate(vectors), np.concatenate(spans))


class _Transformer:
    """A sentence-transformers model, taken apart: what reads, and what comes behind the averaging.

    Parameters
    ----------
    model : SentenceTransformer
        The model.
    window : int or None
        Tokens that it reads at a time; None for as many as it can.
    """

    def __init__(self, model: Any, window: int | None) -> None:
        modules = list(model)
        pooling = next((at for at, module in enumerate(modules) if type(module).__name__ == "Pooling"), None)
        if pooling != 1 or not _averages(modules[1]):
            raise ParameterError(
                f"expected a model that averages its token vectors, but {_model_name(model)!r} does not; late chunking is an "
                "average over chunks"
            )
        if not getattr(model.tokenizer, "is_fast", False):
            raise ParameterError(
                f"the tokenizer of {_model_name(model)!r} does not tell where tokens stand; expected a fast one"
            )
        self._model, self._rest = model, modules[2:]
        prompts = getattr(model, "prompts", None) or {}
        self._prompt = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")
        most = int(model.max_seq_length or model.tokenizer.model_max_length)
        beside = len(self._tokenized(self._prompt, special=True))  # what stands in every window besides
        if window is not None and window > most - beside:
            raise ParameterError(
                f"expected a window of at most {most - beside} tokens, which is what the model reads, got {window}"
            )
        self._most = most
        self._size = window if window is not None else most - beside
        if self._size < 1:
            raise ParameterError(f"the model reads {most} tokens at a time, and its prompt alone has {beside}")

    def read(self, text: str, overlap: float) -> list[tuple[int, int, _Read]]:
        """Return what the model says of a document, window by window."""
        spans = self._tokenized(text, special=False)
        if not len(spans):
            return []
        bounds = [
            (int(spans[first, 0]) if first else 0, int(spans[last - 1, 1]) if last < len(spans) else len(text))
            for first, last in _windows(len(spans), self._size, overlap)
        ]
        found: list[tuple[int, int, _Read]] = []
        for begin, end in bounds:  # one after the other: what is long enough for several fills a batch by itself
            found.append((begin, end, self._window(text[begin:end])))
        return found

    def finish(self, vectors: Floats) -> Floats:
        """Return what the model makes of averages: scaled, or through a further layer."""
        torch = importlib.import_module("torch")
        features = {"sentence_embedding": torch.from_numpy(vectors).to(self._model.device)}
        with torch.no_grad():
            for module in self._rest:
                features = module(features)
        return np.asarray(features["sentence_embedding"].float().cpu().numpy(), np.float32)

    def _tokenized(self, text: str, *, special: bool) -> _Spans:
        found = self._model.tokenizer(
            text, add_special_tokens=special, return_offsets_mapping=True, truncation=False, verbose=False
        )
        return np.array(found["offset_mapping"], np.int64).reshape(-1, 2)

    def _window(self, text: str) -> _Read:
        torch = importlib.import_module("torch")
        features = self._model.tokenizer(
            [self._prompt + text],
            truncation=True,
            max_length=self._most,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        spans = features.pop("offset_mapping")[0].numpy().astype(np.int64)
        special = features.pop("special_tokens_mask")[0].numpy().astype(bool)
        with torch.no_grad():
            given = {name: value.to(self._model.device) for name, value in features.items()}
            vectors = self._model[0](given)["token_embeddings"][0].float().cpu().numpy()
        kept = ~special & (spans[:, 1] > len(self._prompt))
        return _Read(np.asarray(vectors[kept], np.float32), np.maximum(spans[kept] - len(self._prompt), 0))


def _averages(pooling: Any) -> bool:
    mode = getattr(pooling, "pooling_mode", None)
    if mode is None:  # before version 6
        return bool(getattr(pooling, "pooling_mode_mean_tokens", False))
    return mode == "mean" or (isinstance(mode, list | tuple) and list(mode) == ["mean"])
