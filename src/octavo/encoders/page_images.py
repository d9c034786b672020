"""Images as documents: of files, bytes, PIL images and pages of PDFs; checked, decoded, and as they are stored."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

from octavo._validation import check_choice, check_integer
from octavo.errors import InputTypeError, InvalidImageError, MissingExtraError, ParameterError

#: What an `embed_text` begins with that stands for an image: the character for an object in a text.
MARK = "\ufffc"

#: Formats that are read, and their media types; no others, since some of PIL's readers start programs.
FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # what telephones make: a JPEG with a second one behind it
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}

#: Pixels of the largest image that is decoded, and of the largest that a page is drawn as.
MAX_PIXELS, MAX_DRAWN = 89_478_485, 16_000_000

#: Bytes of the largest image file; a PDF may be larger, since one page of it is read.
MAX_BYTES = 100_000_000

_MAX_PDF_BYTES = 2_000_000_000

#: Modes of PIL whose colours are those of a screen.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "La", "RGBa", "RGBX")

_DPI = 150
_JPEG_QUALITY = 90
_POINTS_PER_INCH = 72.0

_REFERENCE = re.compile(
    r"file://(?P<path>/[^?#]*)\?sha256=(?P<sha256>[0-9a-f]{64})(?:&dpi=(?P<dpi>\d{1,4})#page=(?P<page>\d{1,9}))?"
)
_DATA = re.compile(r"data:(?P<type>image/[a-z]+);base64,")

#: What `add` takes in place of a text.
ImageLike: TypeAlias = "PageImage | os.PathLike[str] | bytes | Any"

_pdfium_lock = threading.Lock()  # PDFium is for one thread at a time

_digests: dict[tuple[Any, ...], str] = {}
_DIGESTS_KEPT = 1_024


class PageImage:
    """An image as a document of a collection for late interaction, with what is written on it beside.

    Parameters
    ----------
    image : path, bytes or PIL image
        An image file (PNG, JPEG, WebP, GIF, TIFF, BMP; one picture, in colours of a screen), its bytes, a
        ``PIL.Image.Image``, or with `page` a PDF file or its bytes.
    text : str, default=""
        What words find it by: recognised text, a caption. The vectors are made of the image alone.
    page : int, optional
        Which page of a PDF, from 1. `pdf_pages` gives all of them.
    keep : {"bytes", "reference"}, default="bytes"
        Whether the image itself is stored in the collection (a page of a PDF as a JPEG), or where it lies and a digest of the
        file. A reference takes no space, and is an error to encode or to show again once the file has moved or changed.
    dpi : int, default=150
        How finely a page of a PDF is drawn: dots an inch. Very large pages are drawn with at most 16 million pixels.

    Raises
    ------
    InputTypeError
        When it is none of these.
    ParameterError
        When options do not go together.

    Notes
    -----
    The image is looked at when it is added: what is damaged, empty, animated, too large or in colours for print raises
    `octavo.errors.InvalidImageError` before anything is written. An image that comes from a file has ``source`` and, if it is
    a page, ``page`` in its metadata, unless other values are given there.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> def patches(images):  # a toy model: the mean colour of each quarter
    ...     return [np.asarray(image.resize((2, 2))).reshape(4, 3) / 255 + 0.01 for image in images]
    >>> def names(texts):
    ...     colours = {"red": [1, 0, 0], "blue": [0, 0, 1]}
    ...     return [[colours.get(word, [1, 1, 1]) for word in text.split()] for text in texts]
    >>> import octavo
    >>> kb = octavo.open_multi_vector(encoder=octavo.TokenEncoder(names, images=patches), pool_factor=1)
    >>> _ = kb.add([octavo.PageImage(Image.new("RGB", (8, 8), c), text=f"a {c} wall") for c in ("red", "blue")], ids=["r", "b"])
    >>> kb.search("blue", k=1).ids, kb.search("red wall", k=1, mode="text").ids
    (['b'], ['r'])
    >>> kb.get(["b"])[0].image.load().size
    (8, 8)
    >>> kb.close()
    """

    def __init__(
        self,
        image: ImageLike,
        text: str = "",
        *,
        page: int | None = None,
        keep: Literal["bytes", "reference"] = "bytes",
        dpi: int = _DPI,
    ) -> None:
        if not isinstance(text, str):
            raise InputTypeError(f"expected the text beside an image as a str, got {type(text).__name__}")
        check_choice(keep, "keep", ("bytes", "reference"))
        self.text = text
        self.page = None if page is None else check_integer(page, "page", least=1)
        self.dpi = check_integer(dpi, "dpi", least=10, most=2_400)
        self.keep = keep
        self.path: Path | None = None
        self._content: Any = None  # bytes, or a PIL image
        self._sha256: str | None = None  # that the file has to have
        self._stored: str | None = None
        if isinstance(image, PageImage):
            raise InputTypeError("expected a path, bytes or a PIL image, got a PageImage; use it as it is")
        if isinstance(image, str | os.PathLike):
            self.path = Path(image).absolute()
        elif isinstance(image, bytes | bytearray | memoryview):
            self._content = bytes(image)
        elif is_pil(image):
            self._content = image
            if self.page is not None:
                raise ParameterError("page= belongs to a PDF, got a PIL image")
        else:
            raise InputTypeError(f"expected an image as a path, bytes or a PIL image, got {type(image).__name__}")
        if keep == "reference" and self.path is None:
            raise ParameterError('keep="reference" belongs to a path; bytes and PIL images are stored (keep="bytes")')

    # ------------------------------------------------------------------ stored form

    @classmethod
    def stored(cls, embed_text: str, text: str = "") -> Self:
        """Return the image that a document's `embed_text` stands for.

        Parameters
        ----------
        embed_text : str
            What `embed_text` was.
        text : str
            The document's text.

        Raises
        ------
        InvalidImageError
            When it is no such text.
        """
        url = embed_text.removeprefix(MARK)
        if (found := _DATA.match(url)) is not None:
            try:
                page_image = cls(base64.b64decode(url[found.end() :], validate=True), text)
            except binascii.Error as error:
                raise InvalidImageError(f"expected an image as base64, got {_short(url)}: {error}") from error
        elif (found := _REFERENCE.fullmatch(url)) is not None:
            number, dpi = found["page"], found["dpi"]
            page_image = cls(
                _path_of(found["path"]),
                text,
                page=int(number) if number else None,
                keep="reference",
                dpi=int(dpi) if dpi else _DPI,
            )
            page_image._sha256 = found["sha256"]
        else:
            raise InvalidImageError(f"expected an image as a data: or file: URL, got {_short(url)}")
        page_image._stored = embed_text
        return page_image

    @property
    def embed_text(self) -> str:
        """What stands for the image in a collection; the image is checked for it."""
        if self._stored is None:
            data = self._file()
            picture = self._decoded(data)  # what cannot be decoded is not stored
            if self.keep == "reference":
                assert self.path is not None  # the constructor has checked
                place = quote_from_bytes(os.fsencode(self.path.as_posix()), safe="/")
                page = f"&dpi={self.dpi}#page={self.page}" if self.page is not None else ""
                place = place if place.startswith("/") else f"/{place}"  # a drive letter
                self._stored = f"{MARK}file://{place}?sha256={_sha256(self.path, data)}{page}"
            else:
                kept, media_type = self._as_file(data, picture)
                self._stored = f"{MARK}data:{media_type};base64,{base64.b64encode(kept).decode('ascii')}"
        return self._stored

    @property
    def about(self) -> dict[str, Any]:
        """What the metadata says of it unless told otherwise: where it is from."""
        about: dict[str, Any] = {"source": os.fsencode(self.path).decode("utf-8", "replace")} if self.path else {}
        return about | ({"page": self.page} if self.page is not None else {})

    # ------------------------------------------------------------------ reading it

    def load(self) -> Any:
        """Decode the picture.

        Returns
        -------
        PIL.Image.Image
            In RGB, upright, on white where it is transparent.

        Raises
        ------
        InvalidImageError
            When it cannot be decoded, or the file that is referred to is gone or has changed.
        MissingExtraError
            When pillow, or for a PDF pypdfium2, is not installed.
        """
        return _to_rgb(self._decoded(self._file()))

    def to_bytes(self) -> tuple[bytes, str]:
        """Return an image file and its media type: as it was given, or for a page of a PDF a JPEG, for a PIL image a PNG."""
        data = self._file()
        return self._as_file(data, self._decoded(data))

    def __repr__(self) -> str:
        what = repr(os.fspath(self.path)) if self.path is not None else f"<{type(self._content).__name__}>"
        page = f", page={self.page}" if self.page is not None else ""
        return f"PageImage({what}{page}, keep={self.keep!r})"

    @property
    def _name(self) -> str:
        name = repr(os.fspath(self.path)) if self.path is not None else "the image"
        return f"page {self.page} of {name}" if self.page is not None else name

    def _file(self) -> Any:
        """Return the bytes of the file, or the PIL image."""
        if self.path is None:
            if isinstance(self._content, bytes) and not self._content:
                raise InvalidImageError("expected an image, got no bytes at all")
            return self._content
        data = _read_file(self.path, _MAX_PDF_BYTES if self.page is not None else MAX_BYTES)
        if not data:
            raise InvalidImageError(f"expected an image in {self._name}, got an empty file")
        if self._sha256 is not None and _sha256(self.path, data) != self._sha256:
            raise InvalidImageError(
                f"{os.fspath(self.path)!r} has changed since it was added to the collection by reference; add it again"
            )
        return data

    def _decoded(self, data: Any) -> Any:
        if not isinstance(data, bytes):
            try:
                return _checked_picture(data, self._name)
            except (ValueError, OSError) as error:
                if isinstance(error, InvalidImageError):
                    raise
                raise InvalidImageError(f"{self._name} cannot be read: {error}") from error
        is_pdf = data[:1024].lstrip().startswith(b"%PDF-") or b"%PDF-" in data[:1024]
        if self.page is not None:
            if not is_pdf:
                raise InvalidImageError(f"expected a PDF, because page={self.page} was given; {self._name} is none")
            return draw_page(data, self.page, self.dpi, self._name)
        if is_pdf:
            raise InvalidImageError(
                f"expected one image, got a PDF ({self._name}); say which page (page=1), or take all: octavo.pdf_pages(path)"
            )
        return _open_picture(data, self._name)

    def _as_file(self, data: Any, picture: Any) -> tuple[bytes, str]:
        if isinstance(data, bytes) and self.page is None:
            return data, FORMATS[picture.format]
        kind = "JPEG" if self.page is not None else "PNG"
        out = io.BytesIO()
        if kind == "JPEG":
            _to_rgb(picture).save(out, kind, quality=_JPEG_QUALITY)
        else:
            picture.save(out, kind, compress_level=3)
        return out.getvalue(), FORMATS[kind]


def pdf_pages(
    path: str | os.PathLike[str],
    texts: Iterable[str] | None = None,
    *,
    keep: Literal["bytes", "reference"] = "bytes",
    dpi: int = _DPI,
) -> Iterator[PageImage]:
    """Yield every page of a PDF as an image, one after the other, so that a long file takes the memory of a batch.

    Parameters
    ----------
    path : str or path-like
        The file.
    texts : iterable of str, optional
        For each page what words find it by; else what the file itself says is written there (nothing for a scan).
    keep, dpi
        See `PageImage`.

    Yields
    ------
    PageImage
        In order.

    Raises
    ------
    InvalidImageError
        When it is not a PDF that can be read.
    ParameterError
        When there are fewer or more texts than pages.

    Examples
    --------
    >>> import octavo
    >>> kb.add(octavo.pdf_pages("report.pdf"))  # doctest: +SKIP
    """
    pdfium = _pdfium()
    place = Path(path)
    data = _read_file(place, _MAX_PDF_BYTES)
    with _pdfium_lock, _pdf(pdfium, data, repr(os.fspath(place))) as document:
        count = len(document)
    given = iter(texts) if texts is not None else None
    for number in range(1, count + 1):
        if given is None:
            text = _text_of(pdfium, data, number)
        else:
            text = next(given, None)  # type: ignore[assignment]
            if text is None:
                raise ParameterError(f"expected a text for each of {count} pages, got {number - 1}")
        yield PageImage(place, text, page=number, keep=keep, dpi=dpi)
    if given is not None and next(given, None) is not None:
        raise ParameterError(f"expected a text for each of {count} pages, got more")


# ---------------------------------------------------------------------- texts that stand for images


def is_image(embed_text: str) -> bool:
    """Tell whether a text to embed stands for an image."""
    return embed_text.startswith(MARK) and embed_text.startswith((f"{MARK}data:", f"{MARK}file:"))


def as_page_image(value: Any) -> PageImage | None:
    """Return what `add` takes for an image in place of a text; None for anything else."""
    if isinstance(value, PageImage):
        return value
    if isinstance(value, os.PathLike | bytes | bytearray | memoryview) or is_pil(value):
        return PageImage(value)
    return None


def is_pil(value: Any) -> bool:
    """Tell whether something is an image of PIL, without importing that."""
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(value).__mro__)


def refuse_images(texts: Sequence[str], encoder: str, instead: str) -> None:
    """Raise for documents that are images where an encoder takes texts alone.

    Raises
    ------
    ParameterError
        When there is one.
    """
    if any(map(is_image, texts)):
        raise ParameterError(f"expected texts for the encoder {encoder!r}, got an image; {instead}")


# ---------------------------------------------------------------------- decoding


def _pil() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "PIL":
            raise
        raise MissingExtraError("images as documents need pillow. Install it: pip install 'octavo[images]'") from None


def _pdfium() -> Any:
    try:
        return importlib.import_module("pypdfium2")
    except ModuleNotFoundError as error:
        if error.name != "pypdfium2":
            raise
        raise MissingExtraError("pages of PDFs need pypdfium2. Install it: pip install 'octavo[images]'") from None


def _open_picture(data: bytes, name: str) -> Any:
    pil = _pil()
    if len(data) > MAX_BYTES:
        raise InvalidImageError(f"expected an image file of at most {MAX_BYTES:,} bytes, {name} has {len(data):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is out of order; pixels are counted below
            picture = pil.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind != "MPO"])
            return _checked_picture(picture, name)
    except pil.DecompressionBombError as error:
        raise InvalidImageError(f"{name} has more than {MAX_PIXELS:,} pixels; make it smaller") from error
    except pil.UnidentifiedImageError as error:
        kinds = ", ".join(kind for kind in FORMATS if kind != "MPO")
        raise InvalidImageError(f"{name} is not an image of a kind that is read ({kinds})") from error
    except InvalidImageError:
        raise
    except Exception as error:  # whatever a decoder makes of a damaged file
        raise InvalidImageError(
            f"{name} is damaged: {' '.join(str(error).split())[:200] or type(error).__name__}"
        ) from error


def _checked_picture(picture: Any, name: str) -> Any:
    """Return a picture of PIL that has been decoded and can be used."""
    width, height = picture.size
    if not width or not height:
        raise InvalidImageError(f"expected an image with pixels, {name} has {width} x {height}")
    if width * height > MAX_PIXELS:
        raise InvalidImageError(
            f"expected an image of at most {MAX_PIXELS:,} pixels, {name} has {width:,} x {height:,}; make it smaller"
        )
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise InvalidImageError(
            f"expected one picture, {name} has {picture.n_frames} (animated, or of several pages); give each by itself"
        )
    if picture.mode not in _MODES:
        raise InvalidImageError(
            f"expected an image in gray or RGB, {name} is in {picture.mode}; convert it first: image.convert('RGB')"
        )
    picture.load()
    return picture


def _to_rgb(picture: Any) -> Any:
    pil = _pil()
    ops: Any = importlib.import_module("PIL.ImageOps")
    upright = ops.exif_transpose(picture)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        front = upright.convert("RGBA")
        upright = pil.alpha_composite(pil.new("RGBA", front.size, "white"), front)
    return upright.convert("RGB")


def _read_file(path: Path, most: int) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise InvalidImageError(f"expected a file, {os.fspath(path)!r} is a folder, a pipe or a device")
            if about.st_size > most:
                raise InvalidImageError(
                    f"expected a file of at most {most:,} bytes, {os.fspath(path)!r} has {about.st_size:,}"
                )
            return file.read(most)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidImageError):
            raise
        said = getattr(error, "strerror", None) or error
        raise InvalidImageError(f"the image {os.fspath(path)!r} could not be read: {said}") from error


def _sha256(path: Path, data: bytes) -> str:
    """Return the digest of a file's bytes; a PDF of many pages is asked for once a page."""
    try:
        about = os.stat(path)
        key = (os.fspath(path), about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, len(data))
    except OSError:
        return hashlib.sha256(data).hexdigest()
    if key not in _digests:
        if len(_digests) >= _DIGESTS_KEPT:
            _digests.clear()
        _digests[key] = hashlib.sha256(data).hexdigest()
    return _digests[key]


def _path_of(quoted: str) -> Path:
    path = os.fsdecode(unquote_to_bytes(quoted))
    return Path(path[1:] if re.match(r"/[A-Za-z]:", path) and os.name == "nt" else path)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# ---------------------------------------------------------------------- PDF


class _pdf:  # noqa: N801 - used as a function
    """A PDF that is closed again; the lock is the caller's."""

    def __init__(self, pdfium: Any, data: bytes, name: str) -> None:
        try:
            self._document = pdfium.PdfDocument(data)
        except pdfium.PdfiumError as error:
            locked = "password" in str(error).lower()
            why = "is encrypted with a password" if locked else f"is not a PDF that can be read ({error})"
            raise InvalidImageError(f"{name} {why}") from error

    def __enter__(self) -> Any:
        return self._document

    def __exit__(self, *exc: object) -> None:
        self._document.close()


def draw_page(data: bytes, number: int, dpi: int, name: str) -> Any:
    """Return a page of a PDF as a picture.

    Raises
    ------
    InvalidImageError
        When there is no such page, or it cannot be drawn.
    """
    pdfium = _pdfium()
    _pil()
    with _pdfium_lock, _pdf(pdfium, data, name) as document:
        if number > len(document):
            raise InvalidImageError(f"expected a page from 1 to {len(document)}, there is no {name}")
        try:
            page = document[number - 1]
            width, height = page.get_size()
            inches = max(width, 1e-3) * max(height, 1e-3) / _POINTS_PER_INCH**2
            scale = min(dpi, (MAX_DRAWN / inches) ** 0.5) / _POINTS_PER_INCH
            picture = page.render(scale=scale).to_pil()
            picture.load()
        except pdfium.PdfiumError as error:
            raise InvalidImageError(f"{name} cannot be drawn ({error})") from error
        return picture.convert("RGB")  # a copy: the page's own memory goes with the document


def _text_of(pdfium: Any, data: bytes, number: int) -> str:
    with _pdfium_lock, _pdf(pdfium, data, "the file") as document:
        text: str = document[number - 1].get_textpage().get_text_bounded()
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufffe\n", "").replace("\ufffe", "").strip()
