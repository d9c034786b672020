"""Page images through LangChain and LlamaIndex: in, found, out again as they were."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path

import pytest

import octavo
from octavo.compression import SpatialPooling
from octavo.errors import InvalidImageError, ParameterError
from page_models import ColourModel, colour_words, page, pdf

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode
from PIL import Image

from octavo.integrations.langchain import LateInteractionRetriever, OctavoVectorStore
from octavo.integrations.llama_index import LateInteractionIndex
from octavo.integrations.llama_index import OctavoVectorStore as LlamaIndexStore


def png(*colours: str) -> bytes:
    out = io.BytesIO()
    page(*colours).save(out, "PNG")
    return out.getvalue()


def encoded(*colours: str) -> str:
    return base64.b64encode(png(*colours)).decode()


class TestLangChain:
    def test_pages_come_back_with_source_and_page_and_their_image(self, tmp_path: Path) -> None:
        path = pdf(tmp_path / "a.pdf", ["an invoice of May", page("red"), page("blue")])
        with LateInteractionRetriever(tmp_path / "kb", ColourModel(), k=1) as retriever:
            retriever.add_images(octavo.pdf_pages(path), ids=["1", "2", "3"])
            retriever.add_documents([Document(page_content="green text", id="text")])
            [found] = retriever.invoke("blue")
            assert (found.id, found.metadata) == ("3", {"source": str(path), "page": 3})
            [block] = retriever.image_blocks([found])
            assert block is not None
            assert (block["type"], block["mime_type"]) == ("image", "image/jpeg")
            assert Image.open(io.BytesIO(base64.b64decode(block["base64"]))).size[0] > 1_000
            message = HumanMessage(content=[{"type": "text", "text": "What is it?"}, block])
            assert message.content_blocks[1]["type"] == "image"
            assert message.content_blocks[1]["base64"] == block["base64"]
            assert retriever.invoke("invoice", mode="text")[0].page_content == "an invoice of May"
            assert retriever.invoke("invoice", mode="text", filter={"page": 1})[0].id == "1"
            assert retriever.image_blocks(["text", "nobody"]) == [None, None]
        with LateInteractionRetriever.from_existing(tmp_path / "kb", ColourModel()) as again:
            assert again.image_blocks(["3"]) == [block]

    def test_off_the_event_loop(self) -> None:
        async def main() -> None:
            retriever = LateInteractionRetriever(model=ColourModel(), k=1)
            assert await retriever.aadd_images([page("red"), page("blue")], ids=["r", "b"]) == ["r", "b"]
            [found] = await retriever.ainvoke("red")
            [block] = await retriever.aimage_blocks([found])
            assert block is not None
            assert block["mime_type"] == "image/png"
            retriever.close()

        asyncio.run(main())

    def test_what_chat_models_cannot_read_is_made_a_png(self, tmp_path: Path) -> None:
        page("red").save(tmp_path / "a.tif")
        with LateInteractionRetriever(model=ColourModel()) as retriever:
            retriever.add_images([tmp_path / "a.tif"], ids=["a"])
            [block] = retriever.image_blocks(["a"])
            assert block is not None
            assert block["mime_type"] == "image/png"

    def test_stores_of_one_vector_a_document_and_models_of_texts_refuse_images(self) -> None:
        from langchain_core.embeddings import DeterministicFakeEmbedding

        with pytest.raises(ParameterError, match="late interaction"):
            OctavoVectorStore(DeterministicFakeEmbedding(size=4)).add_images([page("red")])
        with LateInteractionRetriever(model=colour_words) as retriever:
            with pytest.raises(ParameterError, match="takes no images"):
                retriever.add_images([page("red")])
            with pytest.raises(InvalidImageError, match="document 0"):
                retriever.add_images([b"nothing"])


class TestLlamaIndex:
    def nodes(self, tmp_path: Path) -> list[object]:
        (tmp_path / "blue.png").write_bytes(png("blue"))
        return [
            ImageNode(
                id_="red", image=encoded("red"), image_mimetype="image/png", text="an invoice", metadata={"page": 1}
            ),
            ImageNode(id_="blue", image_path=str(tmp_path / "blue.png")),
            ImageDocument(id_="green", image=encoded("green", "green"), text="a meadow", metadata={"a": [1]}),
            ImageDocument(id_="url", image=None, text="only white words"),
            Node(
                id_="yellow",
                image_resource=MediaResource(data=png("yellow"), mimetype="image/png"),
                text_resource=MediaResource(text="the sun"),
            ),
            ImageNode(id_="prefixed", image="data:image/png;base64," + encoded("red", "blue")),
            TextNode(id_="text", text="white"),
        ]

    def test_nodes_are_found_by_their_image_and_come_back_equal(self, tmp_path: Path) -> None:
        nodes = self.nodes(tmp_path)
        made = octavo.open_multi_vector(tmp_path / "kb", ColourModel(), pooling=SpatialPooling(4))
        index = LateInteractionIndex(nodes, vector_store=LlamaIndexStore(collection=made))
        for colour in ("blue", "green", "yellow"):
            [found] = index.as_retriever(similarity_top_k=1).retrieve(colour)
            assert found.node.node_id.startswith(colour) or found.node.node_id == "prefixed"
        [found] = index.as_retriever(similarity_top_k=1, mode="text").retrieve("invoice")
        assert isinstance(found.node, ImageNode)
        assert found.node.image == encoded("red")
        index.close()
        made.close()
        with octavo.open(tmp_path / "kb", ColourModel()) as kb:
            assert kb.verify().ok
            payloads = kb.search("red", k=10).payloads
            own = [payload for payload in payloads if payload and "prefixed" not in payload]
            assert not any(encoded("red") in payload for payload in own)  # once is enough
            assert kb.get(["red"])[0].image is not None
            assert kb.get(["text"])[0].image is None
        again = LateInteractionIndex.load(tmp_path / "kb", ColourModel())
        stored = {node.node_id: node for node in again.vector_store.get_nodes([node.node_id for node in nodes])}
        for node in nodes:
            assert type(stored[node.node_id]) is type(node)
            assert stored[node.node_id].model_dump() == node.model_dump()
            if isinstance(node, Node) and node.image_resource is not None:  # which a dump leaves out
                assert stored[node.node_id].image_resource.data == node.image_resource.data
        again.close()

    def test_nodes_with_images_are_updated_without_a_second_copy(self, tmp_path: Path) -> None:
        nodes = {node.node_id: node for node in self.nodes(tmp_path)}
        made = octavo.open_multi_vector(tmp_path / "kb", ColourModel(), pooling=SpatialPooling(4))
        store = LlamaIndexStore(collection=made)
        store.add(list(nodes.values()))
        (tmp_path / "blue.png").unlink()  # what is not embedded again is not read again
        changed = [nodes[name] for name in ("red", "blue", "yellow", "prefixed", "text")]
        for node in changed:
            node.metadata = {"page": 7}
        nodes["red"].text = "a bill"
        asyncio.run(store.async_update_nodes(changed))
        payloads = dict(zip(nodes, made.get_payloads(nodes), strict=True))
        assert not any(encoded(name) in payloads[name] for name in ("red", "yellow"))
        for given, stored in zip(changed, store.get_nodes([node.node_id for node in changed]), strict=True):
            assert type(stored) is type(given)
            assert stored.model_dump() == given.model_dump()
        assert made.search("bill", mode="text").ids == ["red"]
        assert made.search("blue", k=1).ids == ["blue"]
        assert sorted(made.ids({"page": 7})) == sorted(node.node_id for node in changed)

        before = made.get(["red"])[0].image
        nodes["red"].image = encoded("green")  # returned from now on; what its vectors are made of stays
        store.update_nodes([nodes["red"]])
        assert store.get_nodes(["red"])[0].image == encoded("green")
        after = made.get(["red"])[0].image
        assert before is not None
        assert after is not None
        assert after.to_bytes() == before.to_bytes()
        assert made.verify().ok
        made.close()

    def test_another_model_encodes_the_images_again(self, tmp_path: Path) -> None:
        class Other(ColourModel):
            name = "other"

            def encode_images(self, images: list[object]) -> object:
                return [matrix * 2.0 for matrix in ColourModel.encode_images(self, images)]

        index = LateInteractionIndex(self.nodes(tmp_path), model=ColourModel(), path=tmp_path / "kb")
        index.vector_store.reencode(octavo.TokenEncoder(Other()))
        [found] = index.as_retriever(similarity_top_k=1).retrieve("green")
        assert found.node.node_id == "green"
        index.close()

    def test_models_of_texts_go_on_with_the_text(self, tmp_path: Path) -> None:
        index = LateInteractionIndex([ImageNode(id_="a", image="no image", text="red")], model=colour_words)
        assert index.as_retriever().retrieve("red")[0].node.image == "no image"
        index.close()

    def test_a_broken_image_is_named(self) -> None:
        with pytest.raises(InvalidImageError, match="broken"):
            LateInteractionIndex([ImageNode(id_="broken", image="bm90aGluZw==")], model=ColourModel())
