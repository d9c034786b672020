import numpy as np
import pytest

from octavo.compression import (
    Codec,
    Float32,
    Quantizer,
    Reducer,
    Step,
    _registry,
    register_step,
)
from octavo.compression._registry import step_class, step_names
from octavo.errors import CodecError


class Negate(Reducer):
    """Turn all signs over: a reducer as another package might bring it."""

    step_id = "negate"
    learns = False

    @property
    def out_dim(self):
        return self.in_dim

    def _fit(self, X, seed):
        pass

    def _encode(self, X):
        return -X

    def _decode(self, X):
        return -X


class Loaded:
    """An entry point whose package is installed."""

    name = "negate"
    value = "elsewhere:Negate"

    def __init__(self, target):
        self.target = target

    def load(self):
        if isinstance(self.target, Exception):
            raise self.target
        return self.target


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(_registry, "_STEPS", dict(_registry._STEPS))


def offer(monkeypatch, target):
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [Loaded(target)] if group == "octavo.steps" else []
    )


@pytest.mark.usefixtures("steps")
class TestOtherPackages:
    def test_a_step_is_found_by_its_entry_point(self, monkeypatch):
        offer(monkeypatch, Negate)
        assert "negate" in step_names()
        codec = Codec.parse("negate|int8").fit(np.eye(3))
        np.testing.assert_allclose(codec.tiers[0].decode(codec.encode(np.eye(3))[0]), np.eye(3), atol=0.01)
        assert Codec.from_bytes(codec.to_bytes()) == codec
        assert step_class("negate") is Negate

    def test_a_message_lists_it_without_importing_it(self, monkeypatch):
        offer(monkeypatch, ImportError("broken"))
        with pytest.raises(CodecError, match="negate \\(from installed packages\\)"):
            Codec.parse("nothing")

    def test_its_own_error_is_raised_unchanged(self, monkeypatch):
        offer(monkeypatch, ImportError("broken"))
        with pytest.raises(ImportError, match="broken"):
            Codec.parse("negate|int8")

    @pytest.mark.parametrize("target", [3, Float32, Step, "Negate"])
    def test_something_else_is_refused(self, monkeypatch, target):
        offer(monkeypatch, target)
        with pytest.raises(CodecError, match="should be a step called 'negate'"):
            Codec.parse("negate|int8")

    def test_a_codec_stored_with_it_names_it_when_it_is_missing(self, monkeypatch):
        offer(monkeypatch, Negate)
        stored = Codec.parse("negate|int8").fit(np.eye(3)).to_bytes()
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
        monkeypatch.delitem(_registry._STEPS, "negate")
        with pytest.raises(CodecError, match="unknown step 'negate'"):
            Codec.from_bytes(stored)

    def test_a_pipeline_takes_steps_that_are_not_registered(self):
        from octavo.compression import Int8, Pipeline

        X = np.eye(3)
        codec = Codec([Pipeline([Negate(), Int8()])]).fit(X)
        np.testing.assert_allclose(codec.tiers[0].decode(codec.encode(X)[0]), X, atol=0.01)


@pytest.mark.usefixtures("steps")
class TestRegistering:
    def test_by_hand(self):
        assert register_step(Negate) is Negate
        assert register_step(Negate) is Negate  # importing a module twice does no harm
        assert str(Codec.parse("negate|int8")) == "negate|int8"

    def test_a_name_is_not_taken_over(self):
        class Other(Negate):
            step_id = "int8"

        with pytest.raises(CodecError, match="'int8' is already taken"):
            register_step(Other)
        assert step_class("int8").__name__ == "Int8"

    @pytest.mark.parametrize("name", ["", "a|b", "a:b", "a b", "a>b"])
    def test_names_must_fit_into_codec_strings(self, name):
        class Other(Negate):
            step_id = name

        with pytest.raises(CodecError, match="a step name must not"):
            register_step(Other)

    def test_only_reducers_and_quantizers(self):
        with pytest.raises(CodecError, match="expected a subclass of Reducer or Quantizer"):
            register_step(Step)


def test_all_steps_are_exported():
    import octavo.compression as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    steps = {step_class(name).__name__ for name in step_names()}
    assert steps <= set(package.__all__)
    assert issubclass(step_class("float8"), Quantizer)
    assert step_class("float8") is step_class("float8-e4m3")
