"""Train models so that what compression takes away is what they need least.

Thin recipes over sentence-transformers' trainer and losses: fewer dimensions (`Matryoshka`), fewer layers as well
(`Matryoshka2d`, `Starbucks`), and token vectors that survive being clustered (`Late`). What comes out is an ordinary
model, which plain sentence-transformers loads. Needs ``pip install 'octavo[train]'``; see docs/training.md.
"""

from octavo.training.data import Pairs, read_pairs
from octavo.training.recipes import Late, Matryoshka, Matryoshka2d, Starbucks
from octavo.training.train import Trained, train

__all__ = ["Late", "Matryoshka", "Matryoshka2d", "Pairs", "Starbucks", "Trained", "read_pairs", "train"]
