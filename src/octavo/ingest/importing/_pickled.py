"""The documents that LangChain pickles beside a FAISS index, read without running anything.

A pickle is a program: it names functions and has them called, and a file that was made to do harm is told from another only
by reading it. So this reads it as data. The few instructions that LangChain's files consist of are carried out on plain values;
a class or function is a name here, never imported and never called, and a name that is not in the list below ends the reading.
"""

from __future__ import annotations

import datetime
import decimal
import pickletools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from octavo.ingest.rows import SourceError

#: LangChain's own classes, under all names that its versions gave them, and what they are here.
_CLASSES = {
    "langchain_community.docstore.in_memory InMemoryDocstore": "docstore",
    "langchain.docstore.in_memory InMemoryDocstore": "docstore",
    "langchain_core.documents.base Document": "document",
    "langchain.schema.document Document": "document",
    "langchain.schema Document": "document",
    "langchain.docstore.document Document": "document",
}

_WIDTHS = {f"{kind}{size}" for kind, sizes in {"i": "1248", "u": "1248", "f": "48", "b": "1"}.items() for size in sizes}


def _numpy_value(kind: Any, data: bytes) -> Any:
    dtype = np.dtype(kind.args[0])
    if kind.state is not None and kind.state[1] not in ("<", "|", "="):
        raise ValueError("it holds numpy values with their bytes in reverse")
    return np.frombuffer(data, dtype, count=1)[0].item()


def _timezone(offset: datetime.timedelta, name: str | None = None) -> datetime.timezone:
    return datetime.timezone(offset, name) if name is not None else datetime.timezone(offset)


#: Both take their stored form, which their types do not tell.
_DATETIME: Any = datetime.datetime
_DATE: Any = datetime.date

#: Values that people keep in metadata, and what makes them of what is stored.
_VALUES: dict[str, Callable[..., Any]] = {
    "builtins set": lambda values=(): list(values),
    "builtins frozenset": lambda values=(): list(values),
    "datetime datetime": lambda data, zone=None: _DATETIME(data, zone),
    "datetime date": lambda data: _DATE(data),
    "datetime timedelta": lambda days=0, seconds=0, micro=0: datetime.timedelta(days, seconds, micro),
    "datetime timezone": _timezone,
    "decimal Decimal": lambda text: str(decimal.Decimal(text)),
    "pathlib PosixPath": lambda *parts: "/".join(parts).replace("//", "/"),
    "pathlib PurePosixPath": lambda *parts: "/".join(parts).replace("//", "/"),
    "numpy.core.multiarray scalar": _numpy_value,
    "numpy._core.multiarray scalar": _numpy_value,
}

#: Named, with arguments that are looked at where they are used.
_INERT = {"numpy dtype", "uuid UUID", "uuid SafeUUID"}

#: Instructions of more are no docstore, but an attempt to fill the memory.
_MOST = 500_000_000


class _Name(NamedTuple):
    """A class or function that the file names."""

    text: str


class _Made:
    """An object of LangChain's, or another with parts that come later: its class, and what it was made with."""

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind = kind
        self.args = args
        self.state: Any = None


@dataclass(frozen=True)
class StoredDocument:
    """A document of a docstore."""

    id: str | None
    text: Any
    metadata: Any


def read_docstore(data: bytes, place: str) -> tuple[dict[str, StoredDocument], dict[int, str]]:
    """Return the documents by their id, and the id of each row of the index.

    Parameters
    ----------
    data : bytes
        The file.
    place : str
        Its name, for messages.

    Raises
    ------
    SourceError
        When it is not what LangChain writes; nothing of it has been run.
    """
    try:
        pair = _run(data)
        docstore, rows = pair
        documents = {_text(name): _document(value) for name, value in docstore.state["_dict"].items()}
        if docstore.kind != "docstore" or not isinstance(rows, dict):
            raise ValueError("it holds something else than a docstore and the ids of the rows")
        return documents, {_number(number): _text(name) for number, name in rows.items()}
    except RecursionError:
        raise SourceError(f"{place} is nested too deeply to be read") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError) as error:
        raise SourceError(
            f"{place} is not what LangChain's FAISS.save_local writes ({error}); nothing of it was run. Its texts can be given "
            "as JSON lines instead: documents="
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected an id, got {type(value).__name__}")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected the number of a row, got {type(value).__name__}")
    return value


def _document(made: Any) -> StoredDocument:
    if not isinstance(made, _Made) or made.kind != "document":
        raise TypeError("expected a document of LangChain's in the docstore")
    # pydantic keeps the fields under __dict__ since its first version; what is beside it is of no use here
    fields = made.state.get("__dict__", made.state)
    return StoredDocument(fields.get("id"), fields.get("page_content"), _plain(fields.get("metadata") or {}, 0))


def _plain(value: Any, depth: int) -> Any:
    """Return a value without the objects that stand in for others; a list that holds itself ends in an error."""
    if depth > 100:
        raise ValueError("its metadata are nested too deeply")
    if isinstance(value, dict):
        return {key: _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_plain(inner, depth + 1) for inner in value])
    if isinstance(value, _Made) and value.kind == "uuid UUID":
        return str(uuid.UUID(int=value.state["int"]))
    if isinstance(value, _Made | _Name):
        raise TypeError("an object stands where a value was expected")
    return value


def _named(module: Any, name: Any) -> _Name:
    text = f"{module} {name}".replace("__builtin__ ", "builtins ")
    if text not in _CLASSES and text not in _VALUES and text not in _INERT:
        raise ValueError(f"it names {module}.{name}, which LangChain does not put there: do not trust this file")
    return _Name(text)


def _made(name: Any, args: Any) -> Any:
    if not isinstance(name, _Name) or not isinstance(args, tuple):
        raise TypeError("it calls what is no class")
    if name.text in _VALUES:
        return _VALUES[name.text](*args)
    if name.text == "numpy dtype" and (not args or args[0] not in _WIDTHS):
        raise ValueError(f"it holds numpy values of the type {args[:1]!r}")
    return _Made(_CLASSES.get(name.text, name.text), args)


_MARK = object()

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}

_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}

_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

#: Instructions whose argument is the value.
_LITERALS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip


def _run(data: bytes) -> Any:
    """Carry out the instructions of a pickle that make values, and no other."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = next((place for place in range(len(stack) - 1, -1, -1) if stack[place] is _MARK), None)
        if at is None:
            raise ValueError("it ends what has not begun")
        values = stack[at + 1 :]
        del stack[at:]
        return values

    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if count > _MOST:
            raise ValueError("it is too long")
        if name in _LITERALS:
            stack.append(argument)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[_index(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[_index(argument)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "SETITEMS":
            values = since_mark()
            _fill(stack[-1], values)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _fill(stack[-1], [key, value])
        elif name in ("APPENDS", "ADDITEMS"):
            values = since_mark()
            _list(stack[-1]).extend(values)
        elif name == "APPEND":
            value = stack.pop()
            _list(stack[-1]).append(value)
        elif name in _SHORT_TUPLES:
            size = _SHORT_TUPLES[name]
            values = stack[len(stack) - size :]
            del stack[len(stack) - size :]
            stack.append(tuple(values))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("LIST", "FROZENSET"):
            stack.append(since_mark())
        elif name == "DICT":
            values = since_mark()
            stack.append(_fill({}, values))
        elif name == "GLOBAL":
            stack.append(_named(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            args, kind = stack.pop(), stack.pop()
            stack.append(_made(kind, args))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], _Made):
                raise TypeError("it changes what is no object")
            stack[-1].state = state
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it holds the instruction {name}")
    raise ValueError("it is cut short")


def _index(argument: Any) -> int:
    return int(argument)


def _fill(target: Any, values: list[Any]) -> Any:
    if type(target) is not dict or len(values) % 2:
        raise TypeError("it fills what is no dictionary")
    target.update(zip(values[::2], values[1::2], strict=True))
    return target


def _list(target: Any) -> list[Any]:
    if type(target) is not list:
        raise TypeError("it fills what is no list")
    return target
