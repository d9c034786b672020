"""What to look for in texts, beyond a bag of words: phrases, prefixes, misspelt words, and, or, not.

A string given to a search is always a bag of words, whatever is in it. Operators are a tree of these classes, which a program
builds, or `parse_words` from what somebody has typed. Nothing is ever put together as text, so nothing can be injected.

Examples
--------
>>> import octavo
>>> from octavo.words import AllOf, Not, Phrase, Words
>>> kb = octavo.open()
>>> _ = kb.add(["red apple pie", "a green apple", "apple, red"], ids=["a", "b", "c"])
>>> kb.search(Phrase("red apple"), mode="text").ids
['a']
>>> kb.search(AllOf(Words("apple"), Not(Words("green"))), mode="text").ids
['c', 'a']
>>> kb.close()
"""

from octavo.words._parse import parse_words
from octavo.words._tree import AllOf, AnyOf, Not, Phrase, Prefix, WordQuery, Words

__all__ = ["AllOf", "AnyOf", "Not", "Phrase", "Prefix", "WordQuery", "Words", "parse_words"]
