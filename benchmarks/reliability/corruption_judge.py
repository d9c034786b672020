"""Was what came of a damaged collection right?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corruption_damage import Case

#: Outcomes that fail.
FAILURES = (
    "signal", "hang", "memory", "internal error", "wrong answer",
    "error, verify finds nothing", "wrong after repair",
)  # fmt: skip

#: What cannot be told without reading everything again, as `docs/reliability.md` says: known, but counted. Pages of the
#: database that have changed places, and rows that were written over after they had been compared with their checksum.
LIMIT = "wrong answer, verify reports it"

#: Approximate answers: this share of them, and of the best of each, must be those of the undamaged collection.
_ALIKE = 0.8


def judge(case: Case, report: dict[str, Any], states: dict[str, list[dict[str, Any]]]) -> tuple[str, str]:
    """Return the outcome of a case and a sentence about it."""
    for name in ("signal", "hang"):
        if name in report:
            return name, str(report[name])
    if "internal" in report or report["stray"]:
        return "internal error", report.get("internal") or str(report["stray"])
    if "first" not in report:
        return "named error", _said(report["stopped"])
    final = states[case.recipe][-1]
    allowed = [final, *_other_states(case, states)]
    first, known = report["first"], _known(report["verify"])
    state = _matching(first, allowed)
    if state is None:
        wrong = min((_wrong(first, state) for state in allowed), key=len)
        detail = (
            f"{wrong}; verify: {report['verify']}; repair: {report['repair']}; then {_wrong(report['second'], final)}"
        )
        return (LIMIT if known and (case.file.startswith("octavo.db") or case.opened) else "wrong answer"), detail
    errors = {name: found for name, found in first.items() if _is_error(found)}
    if errors and not known:
        return "error, verify finds nothing", f"{sorted(errors)}: {_said(next(iter(errors.values())))}"
    said = _said(report["repair"])
    if known and not _is_error(report["repair"]) and not report["repair"]["problems"]:
        looser = "another tier" in said or "made again" in said
        for name in ("second", "third"):
            if name in report and (wrong := _wrong(report[name], state, looser=looser, errors=True)):
                return "wrong after repair", f"{name}: {wrong}; {said}"
        if "third" not in report and report["repair"]["repaired"]:  # else the index was made again by itself meanwhile
            return "wrong after repair", f"could not be opened again: {_said(report.get('stopped', {}))}; {said}"
        return "repaired", said
    if wrong := _wrong(report["second"], state):
        return (
            LIMIT if case.file.startswith("octavo.db") or case.opened else "wrong after repair"
        ), f"second: {wrong}; {said}"
    if errors:
        return "named error", f"{sorted(errors)}: {_said(next(iter(errors.values())))}; {said}"
    if known:
        return "right, damage reported", said
    return ("right" if state is final else "an earlier commit, or another collection's"), ""


def _other_states(case: Case, states: dict[str, list[dict[str, Any]]]) -> Sequence[dict[str, Any]]:
    """Return what the database may rightly say instead, because a whole other one may have been put in its place."""
    if not case.file.startswith("octavo.db"):
        return ()
    earlier = states[case.recipe][:-1]
    return [*earlier, *states[f"{case.recipe}-twin"]] if case.kind == "another collection's" else earlier


def _matching(found: dict[str, Any], allowed: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return next((state for state in allowed if not _wrong(found, state)), None)


def _wrong(found: dict[str, Any], expected: dict[str, Any], *, looser: bool = False, errors: bool = False) -> list[str]:
    """Return the questions whose answers are not as expected; errors are no answers, unless `errors`."""
    return [
        name
        for name, answer in found.items()
        if (errors if _is_error(answer) else not _same(name, answer, expected[name], looser))
    ]


def _same(name: str, answer: Any, expected: Any, looser: bool) -> bool:
    if looser and name == "vectors":
        return [identifier for identifier, _ in answer] == [identifier for identifier, _ in expected]
    if name in ("default", "index", "index, filtered") or (looser and name in ("exact", "filtered")):
        # Vectors that come from a coarser tier find most of themselves (where the filter lets them) and some of the others.
        pairs = list(zip(answer, expected, strict=True))
        shared = [len({*one} & {*two}) / max(len(two), 1) for one, two in pairs if len(one) == len(two)]
        enough = len(shared) == len(pairs) and sum(shared) >= (0.1 if looser else _ALIKE) * len(
            [two for _, two in pairs if two]
        )
        first = sum(one[:1] == two[:1] for one, two in pairs)
        return enough and first >= len(pairs) * (0 if name == "filtered" else 0.5 if looser else _ALIKE)
    return bool(answer == expected)


def _is_error(answer: Any) -> bool:
    return isinstance(answer, dict) and "error" in answer


def _known(verified: dict[str, Any]) -> bool:
    return _is_error(verified) or bool(verified["problems"])


def _said(found: dict[str, Any]) -> str:
    if _is_error(found):
        return f"{found['error']}: {found['message']}"
    return "; ".join(found.get("repaired", []) + found.get("problems", []))
