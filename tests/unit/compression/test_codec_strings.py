import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.compression import SVD, Codec, Float8, Int8, Pipeline
from octavo.errors import CodecError, InputTypeError


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("svd:50%|float8 > int8", "svd:50%|float8 > int8"),
        ("  svd:50% | float8>int8\n", "svd:50%|float8 > int8"),
        ("float8-e4m3", "float8"),
        ("float8-e5m2", "float8-e5m2"),
        ("svd:50%", "svd:50%|float32"),
        ("svd:050|int8", "svd:50|int8"),
        ("svd:12.50%|int8", "svd:12.5%|int8"),
        ("truncate:64|int8 > truncate:128|int8 > int8", "truncate:64|int8 > truncate:128|int8 > int8"),
        ("rotate|binary > rotate:7|int4", "rotate|binary > rotate:7|int4"),
        ("binary > svd:50%|rotate|int2", "binary > svd:50%|rotate|int2"),
    ],
)
def test_reads_and_prints(written, printed):
    codec = Codec.parse(written)
    assert str(codec) == printed
    assert Codec.parse(printed) == codec
    assert hash(Codec.parse(printed)) == hash(codec)
    assert eval(repr(codec), {"Codec": Codec}) == codec


def test_equals_what_is_built_from_steps():
    codec = Codec.parse("svd:50%|float8 > int8")
    assert codec == Codec([Pipeline([SVD("50%"), Float8()]), Pipeline([Int8()])])
    assert codec != Codec.parse("svd:50%|float8")
    assert codec != Codec.parse("svd:192|float8 > int8")
    assert codec != "svd:50%|float8 > int8"


@pytest.mark.parametrize(
    ("text", "pointed_at", "message"),
    [
        ("svdd:50%|float8 > int8", "svdd", "did you mean 'svd'"),
        ("svd:50%|float8 > INT8", "INT8", "did you mean 'int8'"),
        ("zzz", "zzz", "expected one of: pca, rotate, svd, truncate (reducers); bfloat16, binary"),
        ("int8 > float8|svd:10", "svd:10", "a reducer, 'svd:10', stands behind the quantizer 'float8'"),
        ("int8|int4", "int4", "a second quantizer"),
        ("int2:3", "3", "int2 takes no argument"),
        ("int8|int8", "int8", "a second quantizer"),
        ("truncate:64 | svd:128 | int8", "svd:128", "cannot keep 128 dimensions: only 64 go in"),
        ("int8 > svd|int8", "svd", "svd needs a size"),
        ("svd:|int8", "svd:", "expected a number of dimensions or a percentage such as 50%, got ''"),
        ("svd:0|int8", "0", "at least 1 dimension"),
        ("svd:-3|int8", "-3", "expected a number of dimensions"),
        ("svd:1.5|int8", "1.5", "expected a number of dimensions"),
        ("svd:101%|int8", "101%", "at most 100"),
        ("svd:0%|int8", "0%", "above 0"),
        ("svd:50%:2|int8", "50%:2", "expected a number of dimensions"),
        ("int8:3", "3", "int8 takes no argument"),
        ("rotate:x|int8", "x", "expected a seed"),
        ("rotate:99999999999999999999|int8", "99999999999999999999", "expected a seed"),
        ("rotate:9999999999999999999|int8", "9999999999999999999", "expected seed"),
        (":3", ":", "unknown step ''"),
    ],
)
def test_points_at_what_is_wrong(text, pointed_at, message):
    with pytest.raises(CodecError) as caught:
        Codec.parse(text)
    shown, caret = str(caught.value).splitlines()[1:3]
    assert shown == "    " + text
    start = caret.index("^")
    assert shown[start : start + caret.count("^")] == pointed_at
    assert text.rindex(pointed_at) == start - 4
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "column"), [("", 0), ("int8 > ", 7), ("> int8", 0), ("svd:3||int8", 6), ("|int8", 0)])
def test_points_at_a_missing_step(text, column):
    with pytest.raises(CodecError, match="a step is missing") as caught:
        Codec.parse(text)
    assert str(caught.value).splitlines()[2] == " " * (4 + column) + "^"


def test_other_types_are_refused():
    for other in (None, 8, b"int8", ["int8"]):
        with pytest.raises(InputTypeError, match="codec string"):
            Codec.parse(other)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="svdintfloa84rpcb:|> %0195\t", max_size=24) | st.text(max_size=10))
def test_any_text_parses_or_raises_a_codec_error(text):
    try:
        codec = Codec.parse(text)
    except CodecError as err:
        message = str(err)
    else:
        message = "^"
        assert Codec.parse(str(codec)) == codec
    assert "^" in message
