"""Which files are read, by their names, and what each is read as."""

from __future__ import annotations

from octavo.ingest.converter import KINDS as CONVERTED

#: Endings of plain text.
TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".mdx", ".rst", ".adoc", ".asciidoc", ".org", ".tex")

#: Endings of text that may begin with fields between two lines of dashes.
MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx")

#: Endings of files with one document a row or line.
ROW_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")

NOTEBOOK_SUFFIX = ".ipynb"

#: Endings of images, for models that encode them.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp")

# fmt: off

#: Endings of source code and settings.
CODE_SUFFIXES = (
    ".py", ".pyi", ".pyx", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".tsx", ".vue", ".svelte", ".java", ".kt",
    ".kts", ".scala", ".groovy", ".gradle", ".clj", ".cljs", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp",
    ".hxx", ".cu", ".m", ".mm", ".cs", ".fs", ".vb", ".go", ".rs", ".zig", ".nim", ".d", ".swift", ".dart", ".rb",
    ".erb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".hs", ".elm", ".ml", ".mli", ".ex", ".exs", ".erl", ".hrl",
    ".lisp", ".el", ".scm", ".rkt", ".f", ".f90", ".f95", ".for", ".pas", ".adb", ".ads", ".v", ".sv", ".vhd",
    ".vhdl", ".asm", ".s", ".sql", ".graphql", ".proto", ".thrift", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat",
    ".cmd", ".awk", ".tcl", ".css", ".scss", ".sass", ".less", ".xml", ".xsd", ".xsl", ".json", ".json5", ".yaml",
    ".yml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".env.example", ".tf", ".hcl", ".nix", ".cmake", ".mk",
    ".dockerfile", ".po", ".pot",
)

#: Names without an ending that are text all the same.
TEXT_NAMES = frozenset({
    "readme", "license", "licence", "copying", "notice", "authors", "contributors", "changes", "changelog", "news",
    "history", "todo", "install", "makefile", "gnumakefile", "dockerfile", "containerfile", "rakefile", "gemfile",
    "procfile", "jenkinsfile", "vagrantfile", "justfile",
})

#: What tools write to pin versions: long, and nobody asks for it.
LOCK_NAMES = frozenset({
    "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "composer.lock",
    "poetry.lock", "pdm.lock", "uv.lock", "pipfile.lock", "cargo.lock", "gemfile.lock", "go.sum", "flake.lock",
})

# fmt: on


def kind_of(name: str) -> str | None:
    """Return what a file of this name is read as: text, markdown, code, notebook, rows, pdf, html, docx, image; or None.

    Examples
    --------
    >>> kind_of("Guide.MD"), kind_of("rows.jsonl.gz"), kind_of("Makefile"), kind_of("photo.jpg")
    ('markdown', 'rows', 'code', 'image')
    """
    lowered = name.lower()
    if lowered.removesuffix(".gz").endswith(ROW_SUFFIXES):
        return "rows"
    if lowered.endswith(MARKDOWN_SUFFIXES):
        return "markdown"
    if lowered.endswith(TEXT_SUFFIXES):
        return "text"
    for suffix, kind in CONVERTED.items():
        if lowered.endswith(suffix):
            return kind
    if lowered.endswith(IMAGE_SUFFIXES):
        return "image"
    if lowered.endswith(NOTEBOOK_SUFFIX):
        return "notebook"
    return "code" if lowered.endswith(CODE_SUFFIXES) or lowered in TEXT_NAMES else None
