"""One call from a model and data to a model that was made to be compressed."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import io
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo._files import as_path, fresh_directory, is_occupied, sync_file, write_atomically
from octavo._progress import progress_bar
from octavo._validation import check_choice, check_integer, check_number
from octavo._version import __version__
from octavo.encoders.dense import as_encoder
from octavo.encoders.layers import RECORD_NAME
from octavo.encoders.models import is_attribute, load_attribute, load_sentence_transformer
from octavo.encoders.tokens import is_late_checkpoint
from octavo.errors import CollectionLockedError, InputTypeError, MissingExtraError, ParameterError
from octavo.eval.datasets import Dataset
from octavo.eval.vectors import ReadyVectors
from octavo.training.card import model_card
from octavo.training.data import GivenVectors, Pairs, hold_out, read_pairs
from octavo.training.recipes import RECIPES, Late, Recipe

#: Ends the name of the folder beside `out` in which a training that has not ended keeps its checkpoints.
WORK_SUFFIX = ".training"
_CHECKPOINTS, _SETTINGS, _LOCK = "checkpoints", "settings.json", "lock"
#: Questions held out where nobody says how many, at most.
_HELD_OUT = 200
_NEEDED = ("sentence_transformers", "accelerate", "datasets", "ir_measures")


@dataclass(frozen=True)
class Trained:
    """What a training made and measured; `to_dict` gives JSON.

    Parameters
    ----------
    folder : str
        The model: plain sentence-transformers loads it.
    recipe : str
        What it was trained for.
    pairs : int
        How many pairs there were to train on.
    steps : int
        How many batches it has seen.
    best_step : int
        After how many of them it was best; that is what was saved.
    stopped_early : bool
        Whether it stopped because it had not got better.
    seconds : float
        How long training took, evaluation included; of all calls, if it was interrupted.
    before, after : dict of str to float
        nDCG@10 on held-out questions, by size, of the model as it came and as it was saved.

    Examples
    --------
    >>> made = Trained(
    ...     folder="small", recipe="matryoshka", pairs=900, steps=100, best_step=100, stopped_early=False, seconds=60.0,
    ...     before={"384": 0.7, "48": 0.5}, after={"384": 0.7, "48": 0.6},
    ... )
    >>> made.after["48"]
    0.6
    """

    folder: str
    recipe: str
    pairs: int
    steps: int
    best_step: int
    stopped_early: bool
    seconds: float
    before: dict[str, float]
    after: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def train(
    recipe: Recipe | str,
    model: Any,
    data: Any,
    out: str | os.PathLike[str],
    *,
    steps: int | None = None,
    epochs: float = 1.0,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    max_length: int = 128,
    held_out: int | None = None,
    eval_every: int = 100,
    patience: int | None = 5,
    teacher: Any = None,
    teacher_weight: float = 1.0,
    precision: str = "float32",
    device: str | None = None,
    workers: int | None = None,
    seed: int = 0,
    progress: bool = False,
    note: Callable[[str], None] | None = None,
) -> Trained:
    """Train a model so that what compression takes away is what it needs least, and save it.

    While it runs, checkpoints lie in a folder beside `out` whose name ends in ``.training``. The same call again goes on where
    an interrupted one stopped. `out` appears at the end, complete.

    Parameters
    ----------
    recipe : Recipe or str
        What it is trained for; a name stands for the recipe with its defaults: ``matryoshka``, ``2d``, ``starbucks``, ``late``.
    model : str or sentence-transformers model
        Where training starts. A model that is given is copied.
    data : str, path, Dataset, Pairs, or several of them
        Pairs of questions and texts; see `read_pairs`.
    out : path
        Folder of the trained model, which must not exist yet or be empty.
    steps : int, optional
        How many batches; by default as `epochs` says.
    epochs : float, default=1
        How often each pair is seen.
    batch_size : int, default=32
        Pairs a batch; each document of it is what the other questions are not about.
    learning_rate : float, default=2e-5
        Of AdamW, rising over the first tenth and falling linearly to zero.
    max_length : int, default=128
        Tokens read of a text while training; the saved model reads as many as the one that was given.
    held_out : int, optional
        Questions held out, with their documents, to measure by: 200, or a tenth of the pairs where there are few.
    eval_every : int, default=100
        Steps between two evaluations, each of which is a checkpoint.
    patience : int or None, default=5
        Stop after so many evaluations that were not the best; None never stops early. What is saved is the best.
    teacher : str, callable, object or ReadyVectors, optional
        A stronger model, whatever `octavo.open` takes as an encoder: its scores within each batch are learned, too. Or its
        vectors, where `data` are the judgements of one data set.
    teacher_weight : float, default=1
        How much they count beside the pairs.
    precision : {"float32", "bfloat16"}, default="float32"
        What the forward pass is computed in, the teacher's as well; bfloat16 is faster where the processor or the GPU has it.
    device : {"cpu", "cuda", "mps"}, optional
        Where to compute; by default where `model` is, and of a name on the GPU if there is one. Of several GPUs the first is
        used, which ``CUDA_VISIBLE_DEVICES`` chooses.
    workers : int, optional
        Processes that prepare batches meanwhile, which changes nothing of what is learned. By default four, or as many as
        there are other processors, where an NVIDIA GPU would wait for them; elsewhere none.
    seed : int, default=0
        Of everything random.
    progress : bool, default=False
        Draw a bar on stderr.
    note : callable, optional
        Told in a sentence what happens.

    Returns
    -------
    Trained
        Where the model is, and how good it was before and after.

    Raises
    ------
    ParameterError
        For an option that cannot be used, and for an interrupted training with other settings, before anything is trained.
    MissingExtraError
        When a package is missing.
    """
    options = _Options(
        steps=None if steps is None else check_integer(steps, "steps", least=1),
        epochs=check_number(epochs, "epochs", above=0),
        batch_size=check_integer(batch_size, "batch_size", least=2),
        learning_rate=check_number(learning_rate, "learning_rate", above=0),
        max_length=check_integer(max_length, "max_length", least=4),
        held_out=None if held_out is None else check_integer(held_out, "held_out", least=1),
        eval_every=check_integer(eval_every, "eval_every", least=1),
        patience=None if patience is None else check_integer(patience, "patience", least=1),
        teacher_weight=check_number(teacher_weight, "teacher_weight", above=0),
        precision=check_choice(precision, "precision", ("float32", "bfloat16")),
        seed=check_integer(seed, "seed", least=0, most=2**32 - 1),
    )
    chosen = _recipe(recipe)
    destination = as_path(out, "out")
    if is_occupied(destination):
        raise ParameterError(
            f"expected a folder that does not exist yet or is empty, but there is something at {str(destination)!r}"
        )
    workers = None if workers is None else check_integer(workers, "workers", least=0)
    _require()
    place = _device(device)
    if isinstance(teacher, ReadyVectors):
        teacher = GivenVectors(teacher, data)
    tell = note if note is not None else lambda message: None
    pairs = read_pairs(data)
    asked = options.held_out if options.held_out is not None else max(1, min(_HELD_OUT, len(pairs) // 10))
    kept, measured = hold_out(pairs, asked, options.seed)
    if min(_different(kept)) < 2:
        raise ParameterError(
            "expected at least two different questions with two different documents to train on, so that each has something to "
            f"be told from; {pairs.name} has {_different(kept)[0]:,} and {_different(kept)[1]:,} beside what is held out"
        )
    name, loaded = _model(model, chosen)
    if place is not None:
        loaded.to(place)
    _check_precision(options.precision, loaded.device.type)
    sizes = chosen.sizes(loaded)  # wrong sizes are told before anything is written
    settings = {
        **asdict(options), **chosen.to_dict(), "model": name, "data": pairs.name, "data_digest": _digest(pairs),
        "teacher": None if teacher is None else _teacher_name(teacher), "device": loaded.device.type,
    }  # fmt: skip
    work = destination.with_name(destination.name + WORK_SUFFIX)
    with _held(work):
        _check_settings(work, settings)
        tell(f"{len(kept):,} pairs to train on, {len(measured.queries):,} questions held out ({pairs.name})")
        run = _Run(chosen, loaded, kept, measured, options, work, tell, progress, _workers(workers, loaded.device.type))
        found = run(teacher)
        record = {
            "version": 1, "octavo": __version__, "settings": settings, "result": found,
            "sizes": [list(size) for size in sizes], "aligned_layers": chosen.aligned_layers(loaded),
        }  # fmt: skip
        result = Trained(folder=str(destination), recipe=chosen.name, **found)
        with _quiet(), fresh_directory(destination, "a model") as draft:
            run.finished().save_pretrained(str(draft), create_model_card=False)
            write_atomically(draft / RECORD_NAME, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
            write_atomically(draft / "README.md", model_card(record, destination.name))
            for path in draft.rglob("*"):
                if path.is_file():
                    sync_file(path)
    shutil.rmtree(work, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Options:
    steps: int | None
    epochs: float
    batch_size: int
    learning_rate: float
    max_length: int
    held_out: int | None
    eval_every: int
    patience: int | None
    teacher_weight: float
    precision: str
    seed: int


def _recipe(recipe: Any) -> Recipe:
    if isinstance(recipe, str):
        return RECIPES[check_choice(recipe, "recipe", tuple(RECIPES))]()
    if not isinstance(recipe, Recipe):
        raise InputTypeError(f"expected a recipe out of {', '.join(RECIPES)}, got {type(recipe).__name__}")
    return recipe


def _require() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"training needs {', '.join(missing)}. Install what is missing: pip install 'octavo[train]'"
        )


def _device(device: Any) -> str | None:
    """Return the device to compute on, or None for wherever the model is, once it is known that torch can use it."""
    import torch

    chosen = None if device is None else check_choice(device, "device", ("cpu", "cuda", "mps"))
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if chosen is not None and not there[chosen]:
        raise ParameterError(
            f"expected a device that torch {torch.__version__} can use on this machine, got {chosen!r}; leave it out to take "
            "what there is"
        )
    return chosen


def _check_precision(precision: str, device: str) -> None:
    known: Any = importlib.import_module("transformers.utils")
    if precision == "bfloat16" and device != "cpu" and not known.is_torch_bf16_gpu_available():
        raise ParameterError(
            f"expected precision='float32' on this {device} device, which has no bfloat16, got {precision!r}; or device='cpu'"
        )


def _workers(workers: int | None, device: str) -> int:
    """Return how many processes prepare batches. Only where they are forked is one made in no time, without a copy."""
    if workers is not None:
        return workers
    return min(4, (os.cpu_count() or 1) - 1) if device == "cuda" and sys.platform == "linux" else 0


def _model(model: Any, recipe: Recipe) -> tuple[str, Any]:
    """Return what is trained, a copy of what was given, and its name."""
    if isinstance(model, str):
        if is_late_checkpoint(model):
            raise ParameterError(
                f"expected a dense model, which pools its tokens; {model!r} gives many vectors a text already"
            )
        loaded, name = load_sentence_transformer(model), model
    elif hasattr(model, "named_modules") and hasattr(model, "save_pretrained"):
        loaded = copy.deepcopy(model)
        name = str(getattr(getattr(model, "model_card_data", None), "base_model", None) or type(model).__qualname__)
    else:
        raise InputTypeError(
            f"expected the name of a sentence-transformers model, or such a model, got {type(model).__name__}"
        )
    if not any(type(module).__name__ == "Transformer" for module in loaded):
        raise ParameterError(f"expected a model with a transformer to train, but {name!r} has none")
    if not callable(getattr(loaded, "get_embedding_dimension", None)):
        raise MissingExtraError(
            "training needs sentence-transformers 6 or later. Install it: pip install 'octavo[train]'"
        )
    if type(loaded).__name__ not in ("SentenceTransformer", "MultiVectorEncoder"):
        raise InputTypeError(f"expected a dense model, got a {type(loaded).__name__}")
    if type(loaded).__name__ == "MultiVectorEncoder" or not any(
        type(module).__name__ == "Pooling" for module in loaded
    ):
        raise ParameterError(
            f"expected a dense model, which pools its tokens; {name!r} gives many vectors a text already"
        )
    return name, loaded


def _teacher_name(teacher: Any) -> str:
    return teacher if isinstance(teacher, str) else str(getattr(teacher, "name", None) or type(teacher).__qualname__)


def _digest(pairs: Pairs) -> str:
    state = hashlib.sha256()
    for text in [*pairs.queries, *pairs.documents]:
        data = text.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:16]


@contextlib.contextmanager
def _held(work: Path) -> Iterator[None]:
    """Keep another process from training into the same folder."""
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise ParameterError(f"expected {str(work)!r} as a folder for checkpoints, but there is something else")
    work.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        try:
            import fcntl
        except ImportError:  # Windows: nobody else is told
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CollectionLockedError(
                f"another process is training in {str(work)!r}; wait for it, or give another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _check_settings(work: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a new training, or compare with those of the one that was interrupted."""
    path = work / _SETTINGS
    as_json = json.loads(json.dumps(settings))
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if isinstance(before, dict):
            other = sorted(key for key in {*before, *as_json} if before.get(key) != as_json.get(key))
            if other:
                key = other[0]
                raise ParameterError(
                    f"an interrupted training lies in {str(work)!r}, with {key}={before.get(key)!r} where this one has "
                    f"{as_json.get(key)!r}; call it as before to go on, or delete the folder to begin anew"
                )
            return
    if any(entry.name not in (_LOCK, _SETTINGS) for entry in work.iterdir()):
        raise ParameterError(f"expected {str(work)!r} for checkpoints, but there is something else in it; move it away")
    write_atomically(path, json.dumps(settings, ensure_ascii=False, indent=1) + "\n")


class _Run:
    """The training itself, with sentence-transformers' trainer."""

    def __init__(
        self,
        recipe: Recipe,
        model: Any,
        pairs: Pairs,
        measured: Dataset,
        options: _Options,
        work: Path,
        note: Callable[[str], None],
        progress: bool,
        workers: int,
    ) -> None:
        self._recipe, self._base, self._pairs, self._data = recipe, model, pairs, measured
        self._options, self._work, self._note, self._progress = options, work, note, progress
        self._workers = workers
        self._model: Any = None
        self._length: int | None = None

    def __call__(self, teacher: Any) -> dict[str, Any]:
        """Train, and return what was found."""
        import datasets
        import transformers

        from octavo.training.held_out import HeldOut
        from octavo.training.losses import Teacher

        options = self._options
        transformers.set_seed(options.seed)
        held_out = HeldOut(self._data, self._recipe, options.batch_size)
        teaching = None
        with _quiet():
            if teacher is not None:
                teaching = Teacher(*self._taught(teacher), weight=options.teacher_weight)
            self._model = model = self._prepared()
            before = self._before(held_out, model)
            columns = {
                "query": list(self._pairs.queries),
                "document": list(self._pairs.documents),
                "label": list(range(len(self._pairs))),
            }
            trainer = self._trainer(model, datasets.Dataset.from_dict(columns), held_out, teaching)
            started = time.monotonic()
            clock = self._work / "seconds.json"
            spent = _read_seconds(clock)
            trainer.clock = lambda: write_atomically(clock, json.dumps(spent + time.monotonic() - started))
            with _tokenizers_in_processes(self._workers):
                trainer.train(resume_from_checkpoint=self._checkpoint())
            state = trainer.state
        seconds = spent + time.monotonic() - started
        best = state.best_global_step or state.global_step
        after = next(
            ({key.removeprefix("eval_ndcg_"): value for key, value in entry.items() if key.startswith("eval_ndcg_")}
             for entry in reversed(state.log_history) if entry.get("step") == best and "eval_ndcg" in entry),
            {},
        )  # fmt: skip
        mean = float(np.mean(list(after.values()))) if after else float("nan")
        if mean <= float(np.mean(list(before.values()))):
            self._note(
                "held-out questions are answered no better than before: more or other data, or another learning rate?"
            )
        return {
            "pairs": len(self._pairs), "steps": int(state.global_step), "best_step": int(best),
            "stopped_early": state.global_step < state.max_steps, "seconds": round(seconds, 1),
            "before": before, "after": after,
        }  # fmt: skip

    def finished(self) -> Any:
        """Return the model as it is to be saved: without what only training needs."""
        model = self._model
        last = list(model._modules)[-1]
        if type(model[-1]).__name__ == "Clusters":
            del model._modules[last]
        model.max_seq_length = self._length
        return model

    def _prepared(self) -> Any:
        model = self._base if not isinstance(self._recipe, Late) else self._late_model(self._recipe)
        self._length = model.max_seq_length
        model.max_seq_length = min(self._options.max_length, self._length or self._options.max_length)
        return model

    def _late_model(self, recipe: Late) -> Any:
        """Return a late-interaction model on the transformer, its head the directions in which token vectors differ most."""
        import torch
        from sentence_transformers import MultiVectorEncoder
        from sentence_transformers.base.modules import Dense, Normalize
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

        from octavo.training.losses import Clusters

        base = self._base
        width = base[0].get_embedding_dimension()
        rng = np.random.default_rng(self._options.seed)
        sample = rng.permutation(len(self._pairs))[:64]
        tokens = base.encode(
            [self._pairs.documents[int(at)] for at in sample], output_value="token_embeddings", show_progress_bar=False
        )
        rows = np.concatenate([one.float().cpu().numpy() for one in tokens])
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        _, _, directions = np.linalg.svd(rows, full_matrices=False)
        head = Dense(
            width, recipe.dim, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"
        )
        with torch.no_grad():
            known = min(recipe.dim, len(directions))
            head.linear.weight[:known] = torch.from_numpy(np.ascontiguousarray(directions[:known], np.float32))
        modules = [base[0], head, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
        if recipe.pool_factor > 1:
            modules.append(Clusters(recipe.pool_factor))
        prompts = {key: value for key, value in (base.prompts or {}).items() if value}
        return MultiVectorEncoder(modules=modules, prompts=prompts or None, device=str(base.device))

    def _before(self, held_out: Any, model: Any) -> dict[str, float]:
        """Return what the model as it came answers, measured once."""
        path = self._work / "before.json"
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
            return found
        found = {key.removeprefix("ndcg_"): value for key, value in held_out(model).items() if key != "ndcg"}
        write_atomically(path, json.dumps(found))
        self._note(f"before: nDCG@10 {np.mean(list(found.values())):.4f} ({_listed(found)})")
        return found

    def _taught(self, teacher: Any) -> list[Any]:
        """Return the teacher's vectors of all pairs, of queries and of documents, made once."""
        import torch

        files = [self._work / f"teacher-{what}.npy" for what in ("queries", "documents")]
        with contextlib.suppress(OSError, ValueError):
            known = [np.load(file, allow_pickle=False) for file in files]
            if all(len(one) == len(self._pairs) for one in known):
                return known
        source = load_attribute(teacher) if isinstance(teacher, str) and is_attribute(teacher) else teacher
        if isinstance(source, str):
            source, name = load_sentence_transformer(source), source
            # It reads what the other model reads of a text.
            source.max_seq_length = min(self._options.max_length, source.max_seq_length or self._options.max_length)
            source.model_name = name
            source.to(self._base.device)
        encoder = as_encoder(source)
        self._note(f"encoding {len(self._pairs):,} pairs with the teacher {encoder.name}")
        with torch.autocast(self._base.device.type, torch.bfloat16, enabled=self._options.precision == "bfloat16"):
            vectors = [
                _each_once(self._pairs.queries, encoder.encode_queries, "teacher: queries", self._progress),
                _each_once(self._pairs.documents, encoder.encode_documents, "teacher: documents", self._progress),
            ]
        for file, one in zip(files, vectors, strict=True):
            buffer = io.BytesIO()
            np.save(buffer, one, allow_pickle=False)
            write_atomically(file, buffer.getvalue())
        return vectors

    def _checkpoint(self) -> str | None:
        """Return the last complete checkpoint; those that a kill left half written are removed."""
        folder = self._work / _CHECKPOINTS
        found: list[tuple[int, Path]] = []
        for place in folder.glob("checkpoint-*"):
            try:
                state = json.loads((place / "trainer_state.json").read_text(encoding="utf-8"))
                found.append((int(state["global_step"]), place))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(place, ignore_errors=True)
        if not found:
            return None
        step, place = max(found)
        self._note(f"going on after step {step:,}")
        return str(place)

    def _batch_size(self) -> int:
        """Return how many pairs a batch has: no text occurs twice in it, so never more than there are different ones."""
        return min(self._options.batch_size, *_different(self._pairs))

    def _trainer(self, model: Any, data: Any, held_out: Any, teacher: Any) -> Any:
        import sentence_transformers
        from transformers import EarlyStoppingCallback, PrinterCallback

        from octavo.training.progress import progress_callback

        options, late = self._options, self._recipe.late
        kind = "MultiVectorEncoder" if late else "SentenceTransformer"
        arguments = getattr(sentence_transformers, f"{kind}TrainingArguments")
        loss = self._recipe.loss(model, teacher)

        class Trainer(getattr(sentence_transformers, f"{kind}Trainer")):  # type: ignore[misc]
            """Writes no card of its own: it would ask the hub about the model and the data."""

            def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
                """Add none."""

        prompts = {
            column: model.prompts[column] for column in ("query", "document") if (model.prompts or {}).get(column)
        }
        batch = self._batch_size()
        per_epoch = max(1, len(self._pairs) // batch)
        total = options.steps if options.steps is not None else max(1, round(per_epoch * options.epochs))
        every = min(options.eval_every, total)
        given = arguments(
            output_dir=str(self._work / _CHECKPOINTS),
            max_steps=total,
            per_device_train_batch_size=batch,
            learning_rate=options.learning_rate,
            warmup_steps=max(1, total // 10),
            batch_sampler="no_duplicates",
            dataloader_drop_last=True,
            dataloader_pin_memory=False,
            dataloader_num_workers=self._workers,
            dataloader_persistent_workers=self._workers > 0,
            prompts=prompts or None,
            bf16=options.precision == "bfloat16",
            use_cpu=model.device.type == "cpu",
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_ndcg",
            greater_is_better=True,
            seed=options.seed,
            data_seed=options.seed,
            report_to="none",
            logging_steps=every,
            disable_tqdm=True,
        )
        if given.n_gpu > 1:
            # Otherwise each gets a copy of the model and a batch of its own, and our losses could not look into the model.
            given._n_gpu = 1
        trainer = Trainer(
            model=model,
            args=given,
            train_dataset=data,
            loss=loss,
            evaluator=held_out,
        )
        trainer.remove_callback(PrinterCallback)
        if options.patience is not None:
            trainer.add_callback(EarlyStoppingCallback(options.patience))
        trainer.add_callback(
            progress_callback(self._recipe.name, total, self._progress, self._note, lambda: trainer.clock())
        )
        return trainer


def _different(pairs: Pairs) -> tuple[int, int]:
    """Return how many different queries and documents there are."""
    return len(set(pairs.queries)), len(set(pairs.documents))


def _read_seconds(path: Path) -> float:
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return 0.0


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{size}: {value:.3f}" for size, value in values.items())


def _each_once(texts: Sequence[str], encode: Callable[[Sequence[str]], Any], what: str, shown: bool) -> Any:
    """Return vectors of texts, of which many are the same."""
    rows = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    distinct = list(rows)
    parts = []
    with progress_bar(what, len(distinct), shown=shown) as advance:
        for start in range(0, len(distinct), 256):
            parts.append(np.asarray(encode(distinct[start : start + 256]), np.float32))
            advance(len(parts[-1]))
    return np.concatenate(parts)[[rows[text] for text in texts]]


@contextlib.contextmanager
def _tokenizers_in_processes(workers: int) -> Iterator[None]:
    """Keep tokenizers from starting threads where processes are forked, which warns, and might hang."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    if workers:
        os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what transformers and sentence-transformers log about themselves off the screen."""
    names = ("transformers", "sentence_transformers", "accelerate", "datasets")
    levels = {name: logging.getLogger(name).level for name in names}
    import datasets

    transformers_logging: Any = importlib.import_module("transformers.utils.logging")

    bars = not datasets.are_progress_bars_disabled(), transformers_logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        if bars[0]:
            datasets.enable_progress_bars()
        if bars[1]:
            transformers_logging.enable_progress_bar()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
