"""DSPy: a retriever over Octavo collections, as a module of a program or as ``dspy.configure(rm=...)``.

Examples
--------
>>> import octavo
>>> from octavo.integrations.dspy import OctavoRetriever
>>> kb = octavo.open(encoder=lambda texts: [[text.count("e"), text.count("r")] for text in texts])
>>> _ = kb.add(["red rivers", "green trees"])
>>> OctavoRetriever(kb, k=1)("three").passages
['green trees']
>>> kb.close()
"""

try:
    import dspy
except ModuleNotFoundError as err:
    if err.name != "dspy":
        raise  # it is there, but broken: its own error says more
    from octavo.errors import MissingExtraError

    raise MissingExtraError("octavo.integrations.dspy needs dspy. Install it: pip install 'octavo[dspy]'") from err

from octavo.integrations.dspy._retriever import OctavoRetriever, Passages

__all__ = ["OctavoRetriever", "Passages"]

del dspy
