"""What a package exports: every public name of its `__init__` is in `__all__`, and every name in `__all__` is there.

`PUBLIC` is what users are promised. A name that is added, renamed or taken away has to be changed here as well, so that it is
a decision.

The order of `__all__` is ruff's to check (RUF022).
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import octavo
from octavo.errors import MissingExtraError

ROOT = Path(octavo.__file__).parent

PACKAGES = sorted(".".join(["octavo", *path.parent.relative_to(ROOT).parts]) for path in ROOT.rglob("__init__.py"))


#: The public names of each package; the packages that are not in it promise none.
PUBLIC: dict[str, str] = {
    "octavo": """
        Collection CollectionInfo Document Encoder Hit MultiVectorCollection OctavoError PageImage SearchResult SparseEncoder
        TokenEncoder VerifyReport __version__ import_from open open_multi_vector pdf_pages restore
    """,
    "octavo.cli": "app main",
    "octavo.collection": "CollectionInfo CollectionLike Explanation MultiVectorLike VerifyReport add_to_each",
    "octavo.compression": """
        BFloat16 Binary CandidateEncoder CentredMean Codec FixedDimensionalEncoding Float16 Float32 Float8 Float8E5M2
        Int2 Int4 Int8 PCA Pipeline Quantizer RaBitQ RandomFeatures Reducer Rotate SVD SpatialPooling Step TokenMatrices
        TokenPooling Truncate register_step
    """,
    "octavo.encoders": "Encoder PageImage SparseEncoder TokenEncoder late_chunks pdf_pages",
    "octavo.eval": """
        Average Configuration Dataset DatasetError DatasetLoader Gate ReadyVectors Result ResultError Rival Timing
        average expand_sweep load_dataset load_results markdown register_loader register_measure register_rival
        result_schema run
    """,
    "octavo.eval.cli": "app",
    "octavo.eval.datasets": "Dataset DatasetError DatasetLoader load_dataset loader_names register_loader",
    "octavo.eval.inspect": """
        CodecExpectation Inspection OutlierDimension Suggestion inspect_collection inspect_dataset inspect_file
        inspect_vectors is_collection
    """,
    "octavo.eval.mteb": "IndexConfiguration Measured OctavoIndex OctavoSearch",
    "octavo.eval.report": "Report find_explanation report",
    "octavo.filters": """
        And Between Compare Contains Exists Field Filter In Leaf Like Not Or PartOf TextMatch Value escape_like
        has_empty_part matches parse_filter
    """,
    "octavo.index": "Graph Plan Tuning exact_search maxsim_codes maxsim_explain maxsim_search score_rows",
    "octavo.ingest.importing": "ImportReport import_chroma import_faiss import_lancedb",
    "octavo.integrations.dspy": "OctavoRetriever Passages",
    "octavo.integrations.haystack": """
        OctavoBM25Retriever OctavoDocumentStore OctavoEmbeddingRetriever OctavoHybridRetriever OctavoSparseEmbeddingRetriever
    """,
    "octavo.integrations.langchain": """
        LateInteractionRetriever MaxSimReranker OctavoRecordManager OctavoRetriever OctavoTranslator OctavoVectorStore
    """,
    "octavo.integrations.llama_index": "LateInteractionIndex MaxSimRerank OctavoVectorStore as_retriever",
    "octavo.integrations.mcp": "collection_server",
    "octavo.integrations.qdrant": "QdrantCollection QdrantInfo QdrantMultiVectorCollection open_collection",
    "octavo.integrations.ray": "UpsertReport encode fit_codec stored_codec upsert",
    "octavo.planning": """
        ClusterPlan FanOut Hardware LocalSize Plan ShardLatency Workload plan simulate_fan_out
    """,
    "octavo.retrievers": """
        LateOptions SearchOptions convex_combination linear_combination maximal_marginal_relevance maxsim_scores
        reciprocal_rank_fusion
    """,
    "octavo.training": "Late Matryoshka Matryoshka2d Pairs Starbucks Trained read_pairs train",
    "octavo.words": "AllOf AnyOf Not Phrase Prefix WordQuery Words parse_words",
    "octavo.serving": "PageServer",
    "octavo.testing": "check_collection check_step collection_checks",
}


def source_of(package: str) -> ast.Module:
    return ast.parse(ROOT.joinpath(*package.split(".")[1:], "__init__.py").read_text(encoding="utf-8"))


def is_bare(tree: ast.Module) -> bool:
    """Tell whether a package only holds others: nothing but a docstring."""
    return all(isinstance(node, ast.Expr) for node in tree.body)


def public_names(tree: ast.AST, package: str) -> set[str]:
    """Return the public names that a package defines or takes over from its own modules."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or f"{node.module}.".startswith(f"{package}.")):
            names.update(alias.asname or alias.name for alias in node.names)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def listed_names(tree: ast.Module) -> list[str]:
    """Return what stands in ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_has_a_docstring(package: str) -> None:
    assert ast.get_docstring(source_of(package))


@pytest.mark.parametrize("package", [name for name in PACKAGES if not is_bare(source_of(name))])
def test_all_is_complete(package: str) -> None:
    try:
        module = importlib.import_module(package)
        missing = [name for name in module.__all__ if not hasattr(module, name)]
    except MissingExtraError as err:
        pytest.skip(str(err))
    listed = list(module.__all__)
    assert len(listed) == len(set(listed))
    assert missing == []
    assert public_names(source_of(package), package) - set(listed) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_those_that_are_promised(package: str) -> None:
    """Read from the source, so that packages whose framework is not installed are looked at, too."""
    assert sorted(listed_names(source_of(package))) == sorted(PUBLIC.get(package, "").split())


def test_promises_are_about_packages_that_there_are() -> None:
    assert set(PUBLIC) <= set(PACKAGES)


def test_the_check_itself() -> None:
    tree = ast.parse(
        "from octavo.a._b import C, _d\nfrom octavo.errors import E\nimport sys\ndef f(): x = 1\nN: int = 3"
    )
    assert public_names(tree, "octavo.a") == {"C", "f", "N"}
    assert listed_names(ast.parse('"""Doc."""\n__all__ = ["A", "b"]')) == ["A", "b"]
