"""How texts and queries become terms: Unicode normalisation, words of every script, stems.

One rule for every text, so that a word gives the same terms wherever it stands. Texts of Latin, Greek and Cyrillic letters
without combining marks take a short way through tantivy alone; the tests compare it with the long one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence, Set
from importlib import metadata
from itertools import accumulate, pairwise
from typing import Any, Final, TypeAlias

import tantivy

from octavo.errors import InputTypeError, MismatchError, MissingExtraError, ParameterError

#: Makes terms of a text.
Analyser: TypeAlias = Callable[[str], Iterable[str]]

#: Names of the Snowball stemmers that tantivy has; "plain" for none; "azerbaijani" for none and the casing of Azerbaijani.
LANGUAGES: Final = (
    "arabic",
    "azerbaijani",
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

#: What stands after the language: libraries that split the runs of a script, and what else to do with each word.
SEGMENTERS: Final = ("jieba", "fugashi", "kiwipiepy")
FOLD_ACCENTS: Final = "fold-accents"

DEFAULT_LANGUAGE: Final = "english"

#: Rises when the same text would give other terms; an index with another number is rebuilt.
ANALYSIS_VERSION: Final = 2

#: Longer tokens (in UTF-8 bytes) are not indexed: room for digests and long identifiers, none for embedded images.
MAX_TOKEN_BYTES: Final = 255

#: What the name of a function is recorded after.
FUNCTION: Final = "function:"

_UNSTEMMED: Final = frozenset({"plain", "azerbaijani"})
_TURKIC: Final = frozenset({"turkish", "azerbaijani"})

#: The extra that brings a library.
_EXTRAS: Final = {"jieba": "chinese", "fugashi": "japanese", "kiwipiepy": "korean"}
_PACKAGES: Final = {"jieba": ("jieba",), "fugashi": ("fugashi", "unidic-lite"), "kiwipiepy": ("kiwipiepy",)}

#: Whose terms tell one function from another.
_PROBES: Final = (
    "The quick brown foxes can't jump over 2,024 lazy dogs; naïve cafés -- U.S.A. (co-operation)!",
    "我在北京大学学习中文和計算機科學。",
    "東京都に住んでいる人はコンピューターを使う。",
    "서울에서 맛있는 김치를 먹었습니다.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "हिन्दी की किताबें तमिल தமிழ் العربيّة עברית Ελληνικός Русский İstanbul IŞIK",
)

_SEPARATOR: Final = "\x1f"

# ---------------------------------------------------------------------- letters

#: Characters of which tantivy's tokenizer and UAX 29 make the same words, when everything that is no letter or digit separates.
#: Not among them: combining marks, joiners, scripts written without spaces, and whatever the tests have found to differ.
_BEYOND_SHORT_WAY: Final = re.compile(
    "[^\x00-\xac\xae-\u02af\u0370-\u0482\u048a-\u052f\u1e00-\u1fff\u2000-\u200a\u2010-\u2029\u202f-\u205f"
    "\u20a0-\u20cf\u2190-\u245f\u2500-\u2775\u2794-\u2bff\ufffd\U0001f300-\U0001faff]"
)

#: Without a sound or a width of their own, inside words too: soft hyphens, joiners, marks of direction, variation selectors,
#: the Arabic line that makes words longer.
_INVISIBLE: Final = re.compile(
    "[\xad\u034f\u061c\u0640\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]"
)

_HAN: Final = "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA: Final = "\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f"
_HANGUL: Final = "\u1100-\u11ff\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
_OTHERS: Final = (
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\ua000-\ua48c\U00017000-\U00018d8f\U0001b170-\U0001b2fb"  # Yi, Tangut, Khitan, Nushu
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7c\uaa80-\uaadd"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b4c\ua980-\ua9c0\U00011700-\U0001172b"  # Balinese, Javanese, Ahom
)

#: Written without spaces between words, or, Korean, with particles on their words. Zero-width spaces are not always there.
_RUN: Final = re.compile(f"[{_HAN}{_KANA}{_HANGUL}{_OTHERS}](?:\u200b*[{_HAN}{_KANA}{_HANGUL}{_OTHERS}\u0300-\u036f])*")

#: What each library is given: runs of its script, Korean with the spaces, which tell it much.
_SEGMENTED: Final = {
    "jieba": re.compile(f"[{_HAN}]+"),
    "fugashi": re.compile(f"[{_HAN}{_KANA}]+"),
    "kiwipiepy": re.compile(f"[{_HANGUL}](?:[{_HANGUL} ]*[{_HANGUL}])?"),
}

#: Letters with two forms of which only one survives `lower`, or that have no other case: the same word, written in capitals.
_AMBIGUOUS: Final = re.compile("[İıςßẞ]|i\u0307")
_FOLDED: Final = str.maketrans({"İ": "i", "ı": "i", "ς": "σ", "ß": "ss", "ẞ": "ss"})
_FOLDED_TURKIC: Final = str.maketrans({"İ": "i", "I": "ı", "ς": "σ", "ß": "ss", "ẞ": "ss"})

#: Accents, points and vowel signs that words are written with or without. Not those of Indic scripts, which are letters.
_ACCENTS: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_UNDECOMPOSED: Final = str.maketrans(
    {
        **dict(zip("øØłŁđĐħĦŧŦıðÐ", "oOlLdDhHtTidD", strict=True)),
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "þ": "th",
        "Þ": "TH",
        "ß": "ss",
        "ẞ": "SS",
    }
)

_ALPHANUMERIC: Final = re.compile(r"[^\W_]+")
_BETWEEN_STOPS: Final = re.compile("[^'‘’.:_,;·‧]+")

#: Hebrew marks of abbreviation, which typewriters have as quotes.
_HEBREW_QUOTES: Final = re.compile("(?<=[\u05d0-\u05ea])[\u05f3\u05f4\"'](?=[\u05d0-\u05ea])")


def normalise(text: str) -> str:
    r"""Bring a text into Unicode's NFKC form.

    So that ``e`` with a combining accent equals ``é`` and full-width letters equal narrow ones. Lone surrogates,
    which UTF-8 cannot hold, become question marks and so separate words.

    Examples
    --------
    >>> normalise("cafe\u0301") == "caf\u00e9"
    True
    """
    if text.isascii():
        return text
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="replace").decode()
    return text


def check_full_text(full_text: Any) -> str:
    """Return what was asked of the analysis in the one form that is stored.

    Parameters
    ----------
    full_text : str or callable
        A language, then what else to do, separated by ``|``; or a function from a text to its terms.

    Raises
    ------
    ParameterError
        There is no such language or part.
    InputTypeError
        It is neither a string nor callable.

    Examples
    --------
    >>> check_full_text("german"), check_full_text("fold-accents | jieba")
    ('german', 'english|jieba|fold-accents')
    """
    if callable(full_text):
        return FUNCTION + function_name(full_text)
    if not isinstance(full_text, str):
        raise InputTypeError(f"expected full_text as a str or a function, got {type(full_text).__name__}")
    parts = [part.strip() for part in full_text.split("|")]
    languages = [part for part in parts if part in LANGUAGES]
    others = [part for part in parts if part not in LANGUAGES]
    for part in others:
        if part != FOLD_ACCENTS and part not in SEGMENTERS:
            raise ParameterError(
                f"expected full_text to be one of {', '.join(LANGUAGES)}, and after it, separated by '|', "
                f"{', '.join(SEGMENTERS)} or {FOLD_ACCENTS}; got {part!r}; 'plain' takes words as they are, without "
                "stemming, and suits any language"
            )
    if len(languages) > 1 or len(set(others)) < len(others):
        raise ParameterError(f"expected one language in full_text, and every part once, got {full_text!r}")
    if {"jieba", "fugashi"} <= set(others):
        raise ParameterError(
            "jieba and fugashi both split Chinese characters: expected one of them in full_text, got both; take jieba for "
            "Chinese texts, fugashi for Japanese ones"
        )
    order = [*SEGMENTERS, FOLD_ACCENTS]
    return "|".join([languages[0] if languages else DEFAULT_LANGUAGE, *sorted(others, key=order.index)])


def function_name(function: Any) -> str:
    """Return the name that a function is recorded by."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{name}"


def digest_of(function: Analyser) -> str:
    """Return what tells a function from another: a digest of its terms of fixed sentences."""
    made = "\n".join(_SEPARATOR.join(_called(function, text)) for text in _PROBES)
    return hashlib.sha256(made.encode(errors="replace")).hexdigest()[:32]


def check_function(stored: str, digest: str | None, function: Any) -> None:
    """Compare a function with the one whose name and digest a collection keeps.

    Raises
    ------
    MismatchError
        When it makes other terms.
    """
    if digest is not None and digest_of(function) != digest:
        raise MismatchError(
            f"the collection's words come from the function {stored.removeprefix(FUNCTION)!r}, got "
            f"{function_name(function)!r}, which makes other terms of the same sentences; open it with the first, or without "
            "full_text= and change over with set_full_text"
        )


class TextAnalysis:
    """Makes terms of texts and queries; the same of both.

    Parameters
    ----------
    spec : str
        What `check_full_text` returned.
    function : callable or None, default=None
        The function, where `spec` names one.

    Raises
    ------
    MissingExtraError
        A library that `spec` names is not installed.
    ParameterError
        `spec` names a function, and none was given.

    Examples
    --------
    >>> TextAnalysis("english").terms("Flying birds")
    ['fli', 'bird']
    >>> TextAnalysis("english").terms("東京のtower")
    ['東', '東京', '京', '京の', 'の', 'tower']
    """

    def __init__(self, spec: str, function: Analyser | None = None) -> None:
        self.spec = spec
        self._function = function
        if spec.startswith(FUNCTION):
            if function is None:
                raise ParameterError(
                    f"the collection's words come from the function {spec.removeprefix(FUNCTION)!r}, which only a program can "
                    "give: open the collection with full_text= that function, or change over with set_full_text"
                )
            self._language, parts = "plain", []
        else:
            self._language, *parts = spec.split("|")
        self._segmenters = [
            (_SEGMENTED[name], _segmenter(name), _PACKAGES[name]) for name in SEGMENTERS if name in parts
        ]
        self._fold = FOLD_ACCENTS in parts
        self._turkic = self._language in _TURKIC
        self.stems = self._language not in _UNSTEMMED
        simple = tantivy.Tokenizer.simple()
        #: What tantivy makes terms, and words, of texts that go the short way.
        self.analyzer = _builder(simple, self._language)
        self.word_analyzer = _builder(simple, "plain")
        split = r"[^\x1f]+" if function is not None else r"[\p{Alphabetic}\p{M}\p{N}]+"
        self._words = _builder(tantivy.Tokenizer.regex(split), "plain", lower=function is None)
        self._stems = _builder(tantivy.Tokenizer.regex(r"[^\x1f]+"), self._language, lower=False)

    @property
    def record(self) -> dict[str, Any]:
        """What decides which terms a text gives, as JSON: an index with another record is of no use."""
        used: dict[str, str] = {}
        for _, _, packages in self._segmenters:
            used |= {package: _version(package) for package in packages}
        if self._function is not None:
            used["function"] = digest_of(self._function)
        return {"version": ANALYSIS_VERSION, "spec": self.spec, "used": used}

    def prepare(self, text: str) -> tuple[str, list[str] | None]:
        """Return a text as tantivy should get it, and its words where they have to be made here (None: tantivy makes them).

        The words, here or there, are what is compared with phrases and prefixes; `stem` makes terms of them.
        """
        text = normalise(text)
        if self._function is not None:
            return "", self._joined(_called(self._function, text))
        if self._turkic:
            text = text.replace("i\u0307", "i").translate(_FOLDED_TURKIC)
        elif not text.isascii() and _AMBIGUOUS.search(text):
            text = text.replace("i\u0307", "i").translate(_FOLDED)
        if text.isascii() or (not self._fold and not _BEYOND_SHORT_WAY.search(text)):
            return text, None
        if self._fold:
            text = _without_accents(text)
            if text.isascii() or not _BEYOND_SHORT_WAY.search(text):
                return text, None
        return text, self._long_way(text)

    def words(self, text: str) -> list[str]:
        """Return the words of a text, in order, in lower case and not stemmed."""
        short, words = self.prepare(text)
        return words if words is not None else list(self.word_analyzer.analyze(short))

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text, in order."""
        short, words = self.prepare(text)
        return self.stem(words) if words is not None else list(self.analyzer.analyze(short))

    def stem(self, words: Sequence[str]) -> list[str]:
        """Return the term of each word."""
        if not self.stems:
            return list(words)
        return list(self._stems.analyze(_SEPARATOR.join(words))) if words else []

    def spans(self, text: str, wanted: Set[str]) -> list[tuple[int, int]]:
        """Return where words of a text stand that give one of the wanted terms, in order; the text is as it is shown.

        Examples
        --------
        >>> analysis = TextAnalysis("english")
        >>> analysis.spans("He runs in 東京都.", set(analysis.terms("running 東京")))
        [(3, 7), (11, 13)]
        """
        if not wanted or self._function is not None:
            return []
        found: list[tuple[int, int]] = []
        known: dict[str, bool] = {}
        start = 0
        runs = ((run.start(), run.end()) for run in _RUN.finditer(text)) if not text.isascii() else ()
        for begin, end in (*runs, (len(text), len(text))):
            for word in _words_of(text[start:begin]) if start < begin else ():
                is_wanted = known.get(word[0])
                if is_wanted is None:
                    is_wanted = known[word[0]] = not wanted.isdisjoint(self.terms(word[0]))
                if is_wanted:
                    found.append((start + word[1], start + word[1] + len(word[0])))
            if begin < end:
                found += [(begin + one, begin + other) for one, other in self._spans_of_run(text[begin:end], wanted)]
            start = end
        return found

    def _spans_of_run(self, run: str, wanted: Set[str]) -> list[tuple[int, int]]:
        """Return which parts of a run are wanted: pairs of characters, or what a library takes for words."""
        from unicode_segmentation_rs import graphemes

        letters = graphemes(run, True)
        starts = [0, *accumulate(map(len, letters))]
        marked = [False] * len(letters)
        pairs = {term for term in wanted if len(graphemes(term, True)) == 2}
        for place, letter in enumerate(letters):
            both = normalise(letter + letters[place + 1]) if place + 1 < len(letters) else ""
            if both in wanted:
                marked[place] = marked[place + 1] = True
            single = normalise(letter)
            if single in wanted and not any(single in pair for pair in pairs):
                marked[place] = True
        if self._segmenters:
            for term in wanted:
                for match in re.finditer(re.escape(term), run):
                    for place, at in enumerate(starts[:-1]):
                        marked[place] |= match.start() <= at < match.end()
        spans: list[tuple[int, int]] = []
        for place, is_marked in enumerate(marked):
            if not is_marked:
                continue
            if spans and spans[-1][1] == starts[place]:
                spans[-1] = (spans[-1][0], starts[place + 1])
            else:
                spans.append((starts[place], starts[place + 1]))
        return spans

    def _joined(self, parts: Sequence[str]) -> list[str]:
        return list(self._words.analyze(_SEPARATOR.join(parts))) if parts else []

    def _long_way(self, text: str) -> list[str]:
        from unicode_segmentation_rs import unicode_words

        text = _HEBREW_QUOTES.sub("", _INVISIBLE.sub("", text))
        parts: list[str] = []
        start = 0
        for begin, end, made in self._runs(text):
            parts += unicode_words(text[start:begin])
            parts += made
            start = end
        parts += unicode_words(text[start:])
        return self._joined(parts)

    def _runs(self, text: str) -> Iterable[tuple[int, int, Iterable[str]]]:
        """Yield where runs of scripts without spaces begin and end, and what becomes of them."""
        if not self._segmenters:
            for run in _RUN.finditer(text):
                yield run.start(), run.end(), _pairs(run[0])
            return
        taken = sorted(
            (run.start(), run.end(), split) for pattern, split, _ in self._segmenters for run in pattern.finditer(text)
        )
        start = 0
        for begin, end, split in [*taken, (len(text), len(text), None)]:
            for run in _RUN.finditer(text, start, begin):
                yield run.start(), run.end(), _pairs(run[0])
            if split is not None:
                yield begin, end, split(text[begin:end])
            start = end


def _words_of(text: str) -> Iterable[tuple[str, int]]:
    """Yield the words of a text as it stands, and where each begins."""
    if text.isascii():
        yield from ((word[0], word.start()) for word in _ALPHANUMERIC.finditer(text))
        return
    from unicode_segmentation_rs import split_word_bounds

    at = 0
    for part in split_word_bounds(text):
        yield from (
            (word[0], at + word.start()) for word in _BETWEEN_STOPS.finditer(part) if _ALPHANUMERIC.search(word[0])
        )
        at += len(part)


@functools.lru_cache(16)
def text_analysis(spec: str) -> TextAnalysis:
    """Return the analysis that a specification names; the same object again, since dictionaries are slow to load."""
    return TextAnalysis(spec)


def _builder(tokenizer: Any, language: str, *, lower: bool = True) -> Any:
    """Build what splits a normalised text into terms.

    Stop words are kept: BM25 gives them next to no weight anyway (measured: nDCG@10 moves by less than 0.004 on SciFact,
    Cranfield, Vaswani and SQuAD, up and down), and without a list "The Who" and "to be or not to be" can be found.
    """
    builder = tantivy.TextAnalyzerBuilder(tokenizer)
    # tantivy keeps tokens strictly below its limit
    builder = builder.filter(tantivy.Filter.remove_long(MAX_TOKEN_BYTES + 1))
    if lower:
        builder = builder.filter(tantivy.Filter.lowercase())
    if language not in _UNSTEMMED:
        builder = builder.filter(tantivy.Filter.stemmer(language))
    return builder.build()


def _pairs(run: str) -> list[str]:
    """Return each character of a run, followed by the pair that it makes with the next one.

    In this order a part of a run gives a part of its terms, so that phrases are found.
    """
    from unicode_segmentation_rs import graphemes

    letters = graphemes(run.replace("\u200b", ""), True)
    made = [letters[0]]
    for one, other in pairwise(letters):
        made += (one + other, other)
    return made


def _without_accents(text: str) -> str:
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", plain).translate(_UNDECOMPOSED)


def _called(function: Analyser, text: str) -> list[str]:
    """Return what a function makes of a text, checked."""
    made = function(text)
    if isinstance(made, str) or not isinstance(made, Iterable):
        raise InputTypeError(
            f"expected the function given as full_text to return terms, got {type(made).__name__}; return a list of str"
        )
    terms = list(made)
    for term in terms:
        if not isinstance(term, str):
            raise InputTypeError(
                f"expected the function given as full_text to return terms of type str, got {term!r} ({type(term).__name__})"
            )
    return [term.replace(_SEPARATOR, " ").encode(errors="replace").decode() for term in terms if term]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


# ---------------------------------------------------------------------- libraries for one script


def _segmenter(name: str) -> Callable[[str], list[str]]:
    """Load a library that splits the runs of a script into words."""
    try:
        return {"jieba": _jieba, "fugashi": _fugashi, "kiwipiepy": _kiwipiepy}[name]()
    except ModuleNotFoundError as err:
        if err.name not in {name, "unidic_lite", "unidic"}:
            raise
        raise MissingExtraError(
            f"full_text with {name!r} needs {name}. Install it: pip install 'octavo[{_EXTRAS[name]}]'"
        ) from err


def _jieba() -> Callable[[str], list[str]]:
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of setuptools, about how jieba finds its files
        import jieba
    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()  # its own, which words that a program adds to jieba's do not change

    def split(run: str) -> list[str]:
        return list(tokenizer.cut_for_search(run))

    return split


def _fugashi() -> Callable[[str], list[str]]:
    import threading

    import fugashi

    lock = threading.Lock()
    try:
        tagger = fugashi.Tagger()
    except RuntimeError as err:  # there is no dictionary
        raise MissingExtraError(
            "full_text with 'fugashi' needs a dictionary. Install it: pip install 'octavo[japanese]'"
        ) from err

    def split(run: str) -> list[str]:
        with lock:
            return [getattr(word.feature, "orthBase", None) or word.surface for word in tagger(run)]

    return split


#: Particles, endings and suffixes of verbs, which are for Korean what inflection is elsewhere.
_KOREAN_ENDINGS: Final = ("J", "E", "XS", "VC")


def _kiwipiepy() -> Callable[[str], list[str]]:
    from kiwipiepy import Kiwi

    kiwi = Kiwi(num_workers=1)

    def split(run: str) -> list[str]:
        return [token.form for token in kiwi.tokenize(run) if not token.tag.startswith(_KOREAN_ENDINGS)]

    return split
