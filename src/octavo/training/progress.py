"""Our bar, and a sentence for each evaluation, in the place of what the trainer prints. Imports transformers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from octavo._progress import progress_bar


def progress_callback(
    name: str, total: int, shown: bool, note: Callable[[str], None], clock: Callable[[], object]
) -> Any:
    """Return what the trainer tells how far it is.

    Parameters
    ----------
    name : str
        What runs.
    total : int
        How many steps there are.
    shown : bool
        Whether to draw a bar.
    note : callable
        Told what an evaluation found.
    clock : callable
        Called after each evaluation, to write down how long it took so far.
    """
    return _Progress(name, total, shown, note, clock)


class _Progress(TrainerCallback):
    def __init__(
        self, name: str, total: int, shown: bool, note: Callable[[str], None], clock: Callable[[], object]
    ) -> None:
        self._name, self._total, self._shown, self._note, self._clock = name, total, shown, note, clock
        self._stack = contextlib.ExitStack()
        self._advance: Callable[[int], object] = lambda done: None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance = self._stack.enter_context(progress_bar(f"train {self._name}", self._total, shown=self._shown))
        self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics: dict[str, float] = kwargs["metrics"]
        sizes = {
            key.removeprefix("eval_ndcg_"): value for key, value in metrics.items() if key.startswith("eval_ndcg_")
        }
        listed = ", ".join(f"{size}: {value:.3f}" for size, value in sizes.items())
        self._note(f"step {state.global_step:,}: nDCG@10 {metrics.get('eval_ndcg', 0):.4f} ({listed})")
        self._clock()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stack.close()
