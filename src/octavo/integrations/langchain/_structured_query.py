"""LangChain's structured queries as Octavo's filter tree, for self-querying retrievers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery, Visitor

from octavo.errors import InvalidFilterError
from octavo.filters import And, Filter, Not, Or, parse_filter

#: The dict form's operator for each comparator, so that both ways of writing a filter mean the same.
_COMPARATORS = {
    Comparator.EQ: "$eq",
    Comparator.NE: "$ne",
    Comparator.GT: "$gt",
    Comparator.GTE: "$gte",
    Comparator.LT: "$lt",
    Comparator.LTE: "$lte",
    Comparator.CONTAIN: "$contains",
    Comparator.LIKE: "$like",
    Comparator.IN: "$in",
    Comparator.NIN: "$nin",
}


class OctavoTranslator(Visitor):
    """Translate structured queries for `OctavoVectorStore`.

    Give it to ``SelfQueryRetriever`` as ``structured_query_translator``. All comparators and operators are supported
    and mean what they mean in the dict form of filters; ``not`` with several arguments means none of them. Dates and
    times, which LangChain's query parser gives as ``{"type": "date", "date": "2024-05-01"}``, are compared with times in
    the metadata as times, and with strings as ISO strings.

    Examples
    --------
    >>> from langchain_core.structured_query import Comparator, Comparison, StructuredQuery
    >>> query = StructuredQuery(query="bees", filter=Comparison(Comparator.GT, "year", 2020))
    >>> OctavoTranslator().visit_structured_query(query)
    ('bees', {'filter': Compare(Field('year', elements=True, typed=True), '>', 2020)})
    """

    allowed_comparators = tuple(_COMPARATORS)
    allowed_operators = (Operator.AND, Operator.OR, Operator.NOT)

    def visit_operation(self, operation: Operation) -> Filter:
        """Translate a combination of conditions.

        Parameters
        ----------
        operation : Operation
            ``and``, ``or`` or ``not`` over one or more directives.

        Returns
        -------
        tree : Filter
            The combination.

        Raises
        ------
        InvalidFilterError
            There are no arguments.
        """
        self._validate_func(operation.operator)
        if not operation.arguments:
            raise InvalidFilterError(f"{operation.operator.value!r} expects at least one argument, got none")
        parts: list[Filter] = [argument.accept(self) for argument in operation.arguments]
        if operation.operator == Operator.AND:
            return And(*parts)
        if operation.operator == Operator.OR:
            return Or(*parts)
        return Not(parts[0] if len(parts) == 1 else Or(*parts))

    def visit_comparison(self, comparison: Comparison) -> Filter:
        """Translate one condition.

        Parameters
        ----------
        comparison : Comparison
            An attribute, a comparator and a value.

        Returns
        -------
        tree : Filter
            The condition.

        Raises
        ------
        InvalidFilterError
            The value does not suit the comparator.
        """
        self._validate_func(comparison.comparator)
        value = comparison.value
        if isinstance(value, (list, tuple)):
            value = [_plain(item) for item in value]
        else:
            value = _plain(value)
            if comparison.comparator in (
                Comparator.IN,
                Comparator.NIN,
            ):  # models leave out the brackets around one value
                value = [value]
        tree = parse_filter({comparison.attribute: {_COMPARATORS[comparison.comparator]: value}})
        assert tree is not None
        return tree

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Translate a whole query.

        Parameters
        ----------
        structured_query : StructuredQuery
            What the language model made of the user's question.

        Returns
        -------
        query : str
            The words to search for.
        search_kwargs : dict
            ``{"filter": tree}``, or empty without a filter.
        """
        if structured_query.filter is None:
            return structured_query.query, {}
        return structured_query.query, {"filter": structured_query.filter.accept(self)}


def _plain(value: object) -> object:
    """Give the ISO string of a date or time as LangChain's parser marks it up; leave anything else."""
    if isinstance(value, Mapping) and value.get("type") in ("date", "datetime"):
        return value.get(value["type"])
    return value
