"""How texts and queries become terms: Unicode normalisation, splitting, stemming."""

from __future__ import annotations

import unicodedata
from typing import Final

import tantivy

from octavo.errors import ParameterError

#: Names of the Snowball stemmers that tantivy has, and "plain" for none.
LANGUAGES: Final = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "plain",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
)

#: Rises when the same text would give other terms; an index with another number is rebuilt.
ANALYSIS_VERSION: Final = 1

#: Longer tokens (in UTF-8 bytes) are not indexed: room for digests and long identifiers, none for embedded images.
MAX_TOKEN_BYTES: Final = 255


def check_language(language: str) -> str:
    """Return `language` if texts can be analysed in it.

    Raises
    ------
    ParameterError
        The language is not one of `LANGUAGES`.

    Examples
    --------
    >>> check_language("german")
    'german'
    """
    if language not in LANGUAGES:
        raise ParameterError(
            f"expected full_text to be one of {', '.join(LANGUAGES)}, got {language!r}; "
            "'plain' splits into lower-case words without stemming and suits any language that separates its words"
        )
    return language


def build_analyzer(language: str) -> tantivy.TextAnalyzer:
    """Build what splits a normalised text into terms.

    Words are runs of letters and digits, in lower case, stemmed unless the language is "plain". Stop words are kept:
    BM25 gives them next to no weight anyway (measured: nDCG@10 moves by less than 0.004 on SciFact, Cranfield, Vaswani
    and SQuAD, up and down), and without a list "The Who" and "to be or not to be" can be found.
    """
    builder = (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(MAX_TOKEN_BYTES + 1))  # tantivy keeps tokens strictly below its limit
        .filter(tantivy.Filter.lowercase())
    )
    if language != "plain":
        builder = builder.filter(tantivy.Filter.stemmer(language))
    return builder.build()


def normalise(text: str) -> str:
    r"""Bring a text into Unicode's NFKC form.

    So that ``e`` with a combining accent equals ``é`` and full-width letters equal narrow ones. Lone surrogates,
    which UTF-8 cannot hold, become question marks and so separate words.

    Examples
    --------
    >>> normalise("cafe\u0301") == "caf\u00e9"
    True
    """
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="replace").decode()
    return text
