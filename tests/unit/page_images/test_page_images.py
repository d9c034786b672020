"""Images as documents: what is taken, what is refused before anything is written, and that they last like texts."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import octavo
from octavo import PageImage
from octavo.compression import SpatialPooling, TokenPooling
from octavo.encoders.page_images import MARK, MAX_PIXELS
from octavo.errors import InputTypeError, InvalidImageError, ParameterError
from page_models import COLUMNS, ROWS, ColourModel, colour_words, page, patch_grid, patches, pdf


def png(picture: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a small PNG that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    page("red", "green").save(tmp_path / "first.png")
    page("blue").save(tmp_path / "second.jpg", quality=95)
    pdf(tmp_path / "scan.pdf", ["nothing but text", page("yellow", size=(320, 480)), None])
    return tmp_path


def filled(path: Path | None, files: Path, **options: Any) -> octavo.MultiVectorCollection:
    kb = octavo.open_multi_vector(path, ColourModel(), pool_factor=1, **options)
    kb.add(
        [
            PageImage(files / "first.png", "an invoice", keep="reference"),
            PageImage(files / "second.jpg", "a letter"),
            PageImage(files / "scan.pdf", page=2),
            page("green", "green"),
            "white text",
        ],
        ids=["first", "second", "scan", "pil", "text"],
        metadata=[{"year": 1}, None, {"page": "ii"}, None, None],
    )
    return kb


def test_images_are_found_by_what_they_show_and_by_their_words(files: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "kb", files) as kb:
        assert [kb.search(colour, k=1).ids[0] for colour in ("red", "blue", "yellow")] == ["first", "second", "scan"]
        assert kb.search("letter", mode="text").ids == ["second"]
        assert kb.search("blue invoice", k=2, mode="hybrid").ids[0] in ("first", "second")
        assert kb.get(["first"])[0].metadata == {"source": str(files / "first.png"), "year": 1}
        assert kb.get(["scan"])[0].metadata == {"source": str(files / "scan.pdf"), "page": "ii"}
        assert kb.get(["pil"])[0].metadata == {}
        assert kb.get(["text"])[0].image is None
    os.remove(files / "second.jpg")  # kept as bytes
    os.remove(files / "scan.pdf")
    with octavo.open(tmp_path / "kb", ColourModel()) as again:
        hits = {hit.id: hit for hit in again.search("blue", k=5)}
        assert hits["second"].image is not None
        assert hits["second"].image.load().size == (160, 240)
        assert hits["second"].image.to_bytes()[1] == "image/jpeg"
        assert hits["scan"].image is not None
        assert hits["scan"].image.to_bytes()[1] == "image/jpeg"
        assert hits["pil"].image is not None
        assert hits["pil"].image.load().tobytes() == page("green", "green").tobytes()
        assert again.verify().ok


def test_a_reference_that_has_changed_or_gone_is_an_error(files: Path) -> None:
    with filled(None, files) as kb:
        reference = kb.get(["first"])[0].image
        assert reference is not None
        assert reference.load().size == (160, 240)
        page("red", "red").save(files / "first.png")
        with pytest.raises(InvalidImageError, match="has changed since"):
            reference.load()
        os.remove(files / "first.png")
        with pytest.raises(InvalidImageError, match="could not be read"):
            reference.load()


def test_bytes_go_with_the_document(files: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "kb", files) as kb:
        stored = {document.id: document.embed_text for document in kb.documents()}
        kb.export(tmp_path / "out")
        kb.copy(tmp_path / "copied")
        kb.delete(["second"])
        kb.compact()
    for made in (octavo.import_from(tmp_path / "out", tmp_path / "restored"), octavo.open(tmp_path / "copied")):
        with made as again:
            assert {document.id: document.embed_text for document in again.documents()} == stored
    database = (tmp_path / "kb" / "octavo.db").read_bytes()
    assert stored["second"] is not None
    assert stored["second"][1:200].encode() not in database


def test_lost_vectors_come_back_from_the_images(files: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "kb", files) as kb:
        before = kb.get_token_vectors(["first", "scan"])
    [tokens] = (tmp_path / "kb").glob("g*-tokens.vec")
    data = bytearray(tokens.read_bytes())
    data[10] ^= 0xFF
    tokens.write_bytes(data)
    with octavo.open(tmp_path / "kb", ColourModel()) as kb:
        assert not kb.verify().ok
        assert kb.verify(repair=True).ok
        for was, now in zip(before, kb.get_token_vectors(["first", "scan"]), strict=True):
            np.testing.assert_allclose(was, now, atol=2e-2)


def test_another_model_encodes_the_images_again(files: Path) -> None:
    class Other(ColourModel):
        name = "turned"

        def encode_images(self, images: list[Any]) -> Any:
            return [matrix[:, ::-1].copy() for matrix in patches(images)]

        def encode_documents(self, texts: list[str]) -> Any:
            return [matrix[:, ::-1].copy() for matrix in colour_words(texts)]

        encode_queries = encode_documents

    with filled(None, files) as kb:
        kb.reencode(octavo.TokenEncoder(Other()))
        assert kb.search("blue", k=1).ids == ["second"]
        assert kb.encoder is not None
        assert kb.encoder.name == "turned"


def test_the_same_image_is_not_encoded_twice(files: Path) -> None:
    asked = []

    def counted(images: list[Any]) -> Any:
        asked.append(len(images))
        return patches(images)

    encoder = octavo.TokenEncoder(colour_words, images=counted)
    with octavo.open_multi_vector(encoder=encoder, pool_factor=1) as kb:
        kb.add([files / "first.png"], ids=["a"])
        kb.add([files / "first.png"], ids=["a"], metadata=[{"new": True}])
        assert sum(asked) <= 2  # once, and once by the check of the model
        assert kb.get(["a"])[0].metadata["new"] is True


BAD: dict[str, tuple[Any, str]] = {
    "no bytes": (b"", "no bytes at all"),
    "no image": (b"hello", "not an image of a kind"),
    "truncated": (png(page("red"))[:-400], "damaged"),
    "a bomb": (bomb(), "pixels"),
    "a smaller bomb": (bomb(10_000, 9_000), "pixels"),
    "cmyk": (Image.new("CMYK", (4, 4)), "CMYK"),
    "float": (Image.new("F", (4, 4)), "in F"),
    "no pixels": (Image.new("RGB", (0, 5)), "0 x 5"),
    "no file": (Path("/nowhere/at all.png"), "could not be read"),
    "a folder": (Path("/tmp"), "could not be read"),
    "a device": (Path("/dev/null"), "device"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image of a kind"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a kind"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_usable_image_is_refused_before_anything_is_written(name: str) -> None:
    bad, said = BAD[name]
    with octavo.open_multi_vector(encoder=ColourModel()) as kb:
        with pytest.raises(InvalidImageError, match=said) as caught:
            kb.add([page("red"), bad], batch_size=1)
        assert "document 1" in str(caught.value)
        assert len(kb) == 0


def test_animations_and_files_of_several_pages_are_refused(tmp_path: Path) -> None:
    frames = [page("red"), page("blue")]
    for name in ("a.gif", "a.tif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InvalidImageError, match="expected one picture"):
            _ = PageImage(tmp_path / name).embed_text
    with pytest.raises(InvalidImageError, match=r"octavo\.pdf_pages"):
        _ = PageImage(pdf(tmp_path / "a.pdf", ["text"])).embed_text
    with pytest.raises(InvalidImageError, match="from 1 to 1"):
        _ = PageImage(tmp_path / "a.pdf", page=2).embed_text
    with pytest.raises(InvalidImageError, match="expected a PDF"):
        _ = PageImage(png(page("red")), page=1).embed_text
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4\nnonsense")
    with pytest.raises(InvalidImageError, match="not a PDF"):
        next(octavo.pdf_pages(tmp_path / "broken.pdf"))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (((3,), {}), InputTypeError, "path, bytes or a PIL image"),
        ((("a.png",), {"text": 3}), InputTypeError, "as a str"),
        ((("a.png",), {"keep": "both"}), ParameterError, "keep"),
        ((("a.png",), {"page": 0}), ParameterError, "page"),
        ((("a.png",), {"dpi": 1}), ParameterError, "dpi"),
        (((b"x",), {"keep": "reference"}), ParameterError, "belongs to a path"),
        (((page(),), {"page": 1}), ParameterError, "belongs to a PDF"),
    ],
)
def test_options_are_checked(arguments: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        PageImage(*arguments[0], **arguments[1])


@pytest.mark.parametrize("text", [f"{MARK}file:///etc/passwd?sha256={'0' * 64}", f"{MARK}data:image/png;base64,AAAA"])
def test_a_text_never_becomes_an_image(text: str) -> None:
    with octavo.open_multi_vector(encoder=ColourModel()) as kb:
        for given in (
            {"documents": [text]},
            {"documents": ["a"], "embed_texts": [text]},
            {"documents": [{"text": text}]},
        ):
            with pytest.raises(ParameterError, match="stands for an image"):
                kb.add(**given)
        kb.add(["a", f"{MARK} alone is a text"], ids=["a", "b"])
        with pytest.raises(ParameterError, match="stands for an image"):
            kb.update(["a"], texts=[text])
        assert kb.search(text, k=1).ids  # a query is a text, whatever it says
        assert len(kb) == 2


def test_models_of_texts_say_that_they_take_no_images() -> None:
    image = PageImage(page("red"))
    with octavo.open_multi_vector(encoder=colour_words) as kb, pytest.raises(ParameterError, match="takes no images"):
        kb.add([image])
    with (
        octavo.open(encoder=lambda texts: np.ones((len(texts), 2))) as dense,
        pytest.raises(ParameterError, match="open_multi"),
    ):
        dense.add([image])
    sparse = octavo.SparseEncoder(lambda texts: [{1: 1.0} for _ in texts])
    with octavo.open_multi_vector(encoder=ColourModel(), sparse=sparse) as kb:
        with pytest.raises(ParameterError, match="sparse_vectors="):
            kb.add([image])
        kb.add([image], ids=["a"], sparse_vectors=[{1: 1.0}])
        assert kb.search("red", k=1).ids == ["a"]


def test_ready_vectors_need_no_model() -> None:
    with octavo.open_multi_vector(pool_factor=1) as kb:
        kb.add([PageImage(page("red"), "red page")], ids=["r"], token_vectors=patches([page("red")]))
        [query] = colour_words(["red"])
        assert kb.search(query, k=1)[0].image is not None
        why = kb.explain(query, "r")
        with pytest.raises(ParameterError, match="encoder"):
            why.heat_map()
        assert why.patch_similarities(patch_grid(None)).shape == (1, ROWS, COLUMNS)
        assert why.heat_map(grid=patch_grid(None), most=300).size == (200, 300)


def test_transparent_turned_and_gray_images_are_seen_as_people_see_them() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert PageImage(clear).load().getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (2, 1))
    turned.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert PageImage(png(turned, exif=exif)).load().size == (1, 2)
    assert PageImage(Image.new("L", (3, 2), 128)).load().mode == "RGB"
    assert PageImage(Image.new("1", (3, 2), 1)).load().getpixel((0, 0)) == (255, 255, 255)


def test_a_pdf_gives_its_pages_with_their_text(files: Path) -> None:
    found = list(octavo.pdf_pages(files / "scan.pdf", dpi=72))
    assert [(each.page, each.text) for each in found] == [(1, "nothing but text"), (2, ""), (3, "")]
    assert found[1].load().size == (595, 842)
    assert [each.text for each in octavo.pdf_pages(files / "scan.pdf", ["a", "b", "c"])] == ["a", "b", "c"]
    for texts in (["a"], ["a", "b", "c", "d"]):
        with pytest.raises(ParameterError, match="a text for each of 3 pages"):
            list(octavo.pdf_pages(files / "scan.pdf", texts))
    reference = PageImage(files / "scan.pdf", page=2, keep="reference", dpi=72)
    again = PageImage.stored(reference.embed_text)
    assert (again.page, again.dpi, again.path) == (2, 72, files / "scan.pdf")
    assert again.load().tobytes() == reference.load().tobytes()


def test_a_page_as_large_as_a_wall_is_drawn_smaller(tmp_path: Path) -> None:
    data = pdf(tmp_path / "wall.pdf", ["small"]).read_bytes().replace(b"[0 0 595 842]", b"[0 0 9999 999]")
    (tmp_path / "wall.pdf").write_bytes(data)
    width, height = PageImage(tmp_path / "wall.pdf", page=1, dpi=2_400).load().size
    assert width * height <= 16_100_000
    assert MAX_PIXELS > 16_100_000


def test_file_names_of_any_kind_come_back(tmp_path: Path) -> None:
    for name in ("a b#c?d%20e.png", "ünï.png", "\U0001f600.png", os.fsdecode(b"\xff.png")):
        path = tmp_path / name
        page("red").save(path, "PNG")
        stored = PageImage(path, keep="reference").embed_text
        stored.encode()
        assert PageImage.stored(stored).path == path
        assert PageImage.stored(stored).load().size == (160, 240)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "data:",
        f"{MARK}data:text/html;base64,AAAA",
        f"{MARK}file://relative.png",
        f"{MARK}file:///a.png",
        f"{MARK}data:image/png;base64,?",
    ],
)
def test_what_is_stored_is_checked(stored: str) -> None:
    with pytest.raises(InvalidImageError):
        PageImage.stored(stored)


def test_an_encoder_with_images_can_be_pickled() -> None:
    encoder = pickle.loads(pickle.dumps(octavo.TokenEncoder(colour_words, images=patches, patch_grid=patch_grid)))
    text = PageImage(page("red")).embed_text
    assert encoder.takes_images
    assert encoder.encode_documents([text, "red"])[0].shape == (ROWS * COLUMNS + 1, 4)
    assert encoder.patch_grid(text).shape == (ROWS, COLUMNS)
    with pytest.raises(ParameterError, match="belongs to images="):
        octavo.TokenEncoder(colour_words, patch_grid=patch_grid)


def test_the_heat_map_is_warm_where_the_page_matches() -> None:
    with octavo.open_multi_vector(encoder=ColourModel(), pooling=SpatialPooling(4)) as kb:
        kb.add([page("white", "white", "red", "white", "white", "blue")], ids=["p"])
        why = kb.explain("red blue", "p")
        assert why.patch_similarities().shape == (2, ROWS, COLUMNS)
        best = [divmod(int(each.argmax()), COLUMNS) for each in why.patch_similarities()]
        assert best == [(0, 2), (1, 1)]
        plain, heat = np.asarray(page("white").resize((800, 1200))).astype(int), np.asarray(why.heat_map(0)).astype(int)
        assert heat.shape == (1200, 800, 3)
        assert abs(heat[1000:, :] - 255).max() <= 2  # cold: the paper as it was
        assert abs(heat[20:180, 420:580] - plain[20:180, 420:580]).mean() > 30
        with pytest.raises(ParameterError, match="token"):
            why.heat_map(2)
        with pytest.raises(ParameterError, match="opacity"):
            why.heat_map(opacity=2)
        kb.add(["red"], ids=["t"])
        with pytest.raises(ParameterError, match="is a text"):
            kb.explain("red", "t").heat_map()


def test_what_is_no_patch_is_kept_by_either_pooling() -> None:
    special = np.float32([[0.5, 0.5, 0.5, 0.5]])
    for pooling in (
        TokenPooling(9),
        SpatialPooling(9),
        TokenPooling(n_vectors=4),
        SpatialPooling(n_vectors=4),
        TokenPooling(distance=0.3),
    ):
        with octavo.open_multi_vector(encoder=ColourModel(), pooling=pooling) as kb:
            kb.add([page("red", "blue")], ids=["p"])
            assert kb.pooling == pooling
            assert type(kb.pooling) is type(pooling)
            [matrix] = kb.get_token_vectors(["p"])
            np.testing.assert_allclose(matrix[:1], special, atol=2e-3)
            assert len(matrix) <= 4


def test_an_image_is_read_once_for_its_vectors_and_its_grid(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = PageImage.load
    monkeypatch.setattr(PageImage, "load", lambda image: read.append(image.embed_text) or load(image))
    encoder = octavo.TokenEncoder(colour_words, images=patches, patch_grid=patch_grid)
    named = [path for path in sorted(files.iterdir()) if path.suffix in (".png", ".jpg")]
    with octavo.open_multi_vector(encoder=encoder, pooling=SpatialPooling(2)) as kb:
        read.clear()
        kb.add([PageImage(path) for path in named])
        added = list(read)
    assert len(added) == len(set(added)) == len(named)
    texts = [PageImage(path).embed_text for path in named] + ["red"]
    matrices, grids = encoder.encode_with_grids(texts)
    for one, other in zip(matrices, encoder.encode_documents(texts), strict=True):
        np.testing.assert_array_equal(one, other)
    for grid, text in zip(grids, texts, strict=True):
        np.testing.assert_array_equal(grid, encoder.patch_grid(text))


def test_a_collection_remembers_pooling_by_place(tmp_path: Path) -> None:
    with octavo.open_multi_vector(tmp_path / "kb", ColourModel(), pooling=SpatialPooling(9)) as kb:
        kb.add([page("red", "blue")], ids=["p"])
    with octavo.open_multi_vector(tmp_path / "kb", ColourModel()) as kb:
        assert kb.pooling == SpatialPooling(9)
    with pytest.raises(octavo.OctavoError, match="pool"):
        octavo.open_multi_vector(tmp_path / "kb", ColourModel(), pool_factor=9)


def test_an_image_and_a_text_to_embed_contradict_each_other() -> None:
    with octavo.open_multi_vector(encoder=ColourModel()) as kb:
        with pytest.raises(ParameterError, match="embed_texts for an image"):
            kb.add([page("red")], embed_texts=["text"])
        kb.add([page("red"), "text"], embed_texts=[None, "blue"], ids=["a", "b"])
        assert kb.search("blue", k=1).ids == ["b"]
        kb.add([page("green"), "c"], embed_texts=[None, "yellow c"], embed_words=True, ids=["g", "c"])
        assert kb.search("base64", mode="text").ids == []  # the words of an image are those beside it
        kb.update(["a"], texts=["poppies"])  # words change, the image stays
        assert kb.search("poppies", k=1, mode="text")[0].image is not None


def test_a_closed_image_is_refused() -> None:
    closed = Image.open(io.BytesIO(png(page("red"))))
    closed.close()
    with (
        octavo.open_multi_vector(encoder=ColourModel()) as kb,
        pytest.raises(InvalidImageError, match="cannot be read"),
    ):
        kb.add([closed])
