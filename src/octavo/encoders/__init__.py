"""Whatever turns texts into vectors, or into matrices of token vectors, behind one interface each."""

from octavo.encoders.dense import Encoder
from octavo.encoders.tokens import TokenEncoder

__all__ = ["Encoder", "TokenEncoder"]
