"""Keep a collection in step with a folder of notes through LangChain's indexing API: only what changed is embedded.

Run it with ``python examples/langchain_indexing.py``.
"""

import tempfile
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import index

from octavo.integrations.langchain import OctavoRecordManager, OctavoVectorStore


def notes(folder: Path) -> list[Document]:
    """Return one document for each paragraph of each note."""
    return [
        Document(page_content=paragraph, metadata={"source": note.name})
        for note in sorted(folder.glob("*.txt"))
        for paragraph in note.read_text(encoding="utf-8").split("\n\n")
    ]


def main() -> None:
    """Index two notes, change one, delete the other, and index again."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "garden.txt").write_text("Prune the apple tree.\n\nSow peas in March.", encoding="utf-8")
        (folder / "kitchen.txt").write_text("Sharpen the knives.", encoding="utf-8")
        with OctavoVectorStore(DeterministicFakeEmbedding(size=64), folder / "kb") as store:
            records = OctavoRecordManager(store)  # lives in the same database, so the two cannot disagree

            def synchronise() -> None:
                print(
                    index(notes(folder), records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
                )

            synchronise()
            (folder / "garden.txt").write_text("Prune the apple tree.\n\nSow peas in April.", encoding="utf-8")
            (folder / "kitchen.txt").unlink()
            synchronise()
            print(sorted(document.text for document in store.collection.documents()))


if __name__ == "__main__":
    main()
