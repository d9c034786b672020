"""What the shape of an embedding set suggests for its codec: rules, each with its reason and the way to check it."""

from __future__ import annotations

from octavo.eval.inspect._inspection import Inspection, Suggestion

#: Mean cosine from which on a common direction takes enough of each vector to cost the coarse codes their resolution.
ANISOTROPIC = 0.5
#: Agreement of the ten nearest neighbours at half the dimensions that makes halving worth a run.
WORTH_HALVING = 0.94
#: Lengths that vary by more than this share of their mean may carry meaning.
UNEQUAL_LENGTHS = 0.05
#: Largest magnitude over root mean square at which an int8 code spends two bits on values that hardly occur.
WIDE_RANGE = 16.0


def _run(*codecs: str) -> str:
    return "octavo eval run --codec float32 " + " ".join(f"--codec '{codec}'" for codec in codecs)


def suggest(found: Inspection) -> list[Suggestion]:
    """Return what the measures suggest.

    The reasons quote all-MiniLM-L6-v2 on Cranfield, once as it is and once with a direction common to all vectors added;
    the table is in ``docs/evaluation-reports.md``.
    """
    return [*_metric(found), *_eight_bits(found), *_common_direction(found), *_fewer_dimensions(found), *_rest(found)]


def _metric(found: Inspection) -> list[Suggestion]:
    if found.norm_std <= UNEQUAL_LENGTHS * found.norm_mean:
        return []
    return [
        Suggestion(
            None,
            "suggests asking the model's documentation whether length counts: if so, open the collection with metric='dot'",
            f"lengths vary from {found.norm_min:.3g} to {found.norm_max:.3g}, and the default metric, cosine, drops them",
            "run the evaluation once with each metric",
        )
    ]


def _eight_bits(found: Inspection) -> list[Suggestion]:
    if not found.outliers and found.peak_to_rms < WIDE_RANGE:
        return [
            Suggestion(
                "int8",
                "suggests int8 to begin with (a quarter of float32)",
                "no dimension stands out, so one scale fits all values; agreement with the exact ten best was 0.99 where "
                "this held",
                _run("int8"),
            )
        ]
    if found.outliers:
        which = ", ".join(str(o.dimension) for o in found.outliers[:5]) + ("…" if len(found.outliers) > 5 else "")
        noun = "dimension" if len(found.outliers) == 1 else "dimensions"
        seen = f"{noun} {which}: up to {found.outliers[0].times_median:.1f} times the median dimension"
    else:
        seen = f"single values reach {found.peak_to_rms:.0f} times the root mean square"
    return [
        Suggestion(
            "rotate|int8",
            "suggests a rotation before the integers: rotate|int8",
            f"{seen}; one scale for all must make room for them. With two such dimensions, agreement was 0.966 for int8, "
            "0.987 for rotate|int8 and 0.841 for float8",
            _run("int8", "rotate|int8"),
        )
    ]


def _common_direction(found: Inspection) -> list[Suggestion]:
    if found.mean_cosine < ANISOTROPIC:
        return [
            Suggestion(
                "binary > int8",
                "suggests binary > int8 where RAM is what counts",
                f"mean cosine {found.mean_cosine:.2f}: directions are spread well enough for signs to tell vectors apart, and "
                "the second tier rescores; agreement was 0.98 at 0.29",
                _run("int8", "binary > int8"),
            )
        ]
    return [
        Suggestion(
            "int8",
            "suggests eight bits in the last tier, and neither binary nor int4 without a finer tier behind it",
            f"mean cosine {found.mean_cosine:.2f}: a direction common to all vectors uses up the coarse codes. At 0.65, "
            "agreement fell from 0.93 to 0.87 for int4 and from 0.63 to 0.54 for binary, and stayed 0.99 for int8",
            _run("int8", "binary > int8", "int4"),
        ),
        Suggestion(
            None,
            "suggests svd rather than pca, and no centring of your own",
            "subtracting the mean from documents and queries and taking the cosine changes the ranking (4.9 % of nDCG@10 on "
            "Cranfield); subtracting it from the documents alone changes nothing but the rounding: at mean cosine 0.65 "
            "svd:50%|int8 agreed to 0.956 and pca:50%|int8 to 0.917",
            _run("svd:50%|int8", "pca:50%|int8"),
        ),
    ]


def _fewer_dimensions(found: Inspection) -> list[Suggestion]:
    svd, prefix = found.agreement_svd_half, found.agreement_truncate_half
    if svd is None or prefix is None:
        return []
    if prefix >= WORTH_HALVING:
        return [
            Suggestion(
                "truncate:50%|int8",
                "suggests truncate:50%|int8: the model looks as if it was trained for short prefixes (Matryoshka)",
                f"the first half of the coordinates alone keeps {prefix:.0%} of each vector's ten nearest neighbours",
                _run("truncate:50%|int8", "svd:50%|int8"),
            )
        ]
    if svd >= WORTH_HALVING:
        return [
            Suggestion(
                "svd:50%|int8",
                "suggests svd:50%|int8 (an eighth of float32), but not truncate",
                f"half of the directions keep {svd:.0%} of each vector's ten nearest neighbours, the first half of the "
                f"coordinates only {prefix:.0%}",
                _run("svd:50%|int8", "truncate:50%|int8"),
            )
        ]
    return [
        Suggestion(
            "svd:50%|int8 > int8",
            "suggests keeping all dimensions in the last tier; half of them may do for finding candidates",
            f"half of the directions keep {svd:.0%} of each vector's ten nearest neighbours",
            _run("int8", "svd:50%|int8 > int8"),
        )
    ]


def _rest(found: Inspection) -> list[Suggestion]:
    out = []
    if found.sampled < 2 * found.dim:
        out.append(
            Suggestion(
                None,
                "suggests care with svd, pca and the figures above that rest on directions",
                f"{found.sampled:,} vectors do not fill {found.dim:,} dimensions: directions fitted on them suit them too well",
                "repeat this on more documents",
            )
        )
    if found.duplicates > 0.01 * found.sampled:
        out.append(
            Suggestion(
                None,
                "suggests looking for duplicate documents",
                f"{found.duplicates:,} of {found.sampled:,} vectors repeat another one; they take places in every top ten",
                "list the documents whose text occurs twice",
            )
        )
    return out
