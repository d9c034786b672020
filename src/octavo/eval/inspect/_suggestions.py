"""What the shape of an embedding set suggests for its codec: rules, each with its reason and the way to check it."""

from __future__ import annotations

from octavo.eval.inspect._inspection import CodecExpectation, Inspection, Suggestion

#: Agreement with exact float32 search that a suggested codec has on the sample, at least.
ENOUGH = 0.95
#: Below this a codec that many reach for first is warned of.
POOR = 0.9


def _run(*codecs: str) -> str:
    return "octavo eval run --codec float32 " + " ".join(f"--codec '{codec}'" for codec in codecs)


def suggest(found: Inspection) -> list[Suggestion]:
    """Return what the measures suggest; figures are those of the sample itself."""
    return [
        *_metric(found),
        *_codecs(found),
        *_common_direction(found),
        *_outliers(found),
        *_coordinates(found),
        *_rest(found),
    ]


def _metric(found: Inspection) -> list[Suggestion]:
    if not found.varying_lengths:
        return []
    return [
        Suggestion(
            None,
            "suggests asking the model's documentation whether length counts: if so, open the collection with metric='dot'",
            f"lengths vary from {found.norm_min:.3g} to {found.norm_max:.3g} (standard deviation "
            f"{found.norm_std / found.norm_mean:.0%} of the mean), and the default metric, cosine, drops them",
            "run the evaluation once with each metric",
        )
    ]


def _of(found: Inspection, codec: str) -> CodecExpectation | None:
    return next((one for one in found.codecs if one.codec == codec), None)


def _shown(one: CodecExpectation) -> str:
    return f"{one.codec}: {one.ram_bytes:,} bytes in RAM, {one.vector_bytes:,} in all, agreement {one.agreement:.2f}"


def _codecs(found: Inspection) -> list[Suggestion]:
    """Suggest the smallest in RAM and the smallest in all that lose little."""
    good = [one for one in found.codecs if one.agreement >= ENOUGH]
    if not good:
        best = max(found.codecs, key=lambda one: one.agreement, default=None)
        reason = (
            f"the best of those tried is {_shown(best)}" if best is not None else "too few vectors to try codecs on"
        )
        return [Suggestion("int8", "suggests int8 to begin with (a quarter of float32)", reason, _run("int8"))]
    # The list begins with the fewest bytes in RAM.
    chosen = list(dict.fromkeys([good[0].codec, min(good, key=lambda one: (one.vector_bytes, -one.agreement)).codec]))
    with_ = (
        "real queries" if found.asked == "queries" else "vectors of this sample as queries, which flatters svd and pca"
    )
    out = []
    for codec, where in zip(chosen, ("where RAM is what counts", "where the bytes in all are"), strict=False):
        one = _of(found, codec)
        assert one is not None  # it was taken from the list
        text = f"suggests {codec}" + (f" {where}" if len(chosen) > 1 else "")
        out.append(
            Suggestion(codec, text, f"{_shown(one)}, on {found.sampled:,} vectors with {with_}", _run("int8", codec))
        )
    return out


def _common_direction(found: Inspection) -> list[Suggestion]:
    if not found.anisotropic:
        return []
    poor = [one for one in found.codecs if one.agreement < POOR]
    listed = "; ".join(f"{one.codec} {one.agreement:.2f}" for one in poor[:4])
    warned = f"agreement on this sample: {listed}" if listed else "coarse codes lose nothing on this sample, though"
    return [
        Suggestion(
            None,
            "suggests care with coarse codes that do not subtract the mean: the vectors lie in a narrow cone (anisotropy)",
            f"mean cosine {found.mean_cosine:.2f}: a direction common to all vectors uses up the codes; {warned}",
            _run("int8", *(one.codec for one in poor[:2])),
        ),
        Suggestion(
            None,
            "suggests no centring of your own",
            "subtracting the mean from documents and queries and taking the cosine changes the ranking (4.9 % of nDCG@10 on "
            "Cranfield); a codec that learns the mean takes it from the documents alone and adds it back to the scores",
            _run("svd:50%|int8", "pca:50%|int8"),
        ),
    ]


def _outliers(found: Inspection) -> list[Suggestion]:
    if not found.outliers:
        return []
    which = ", ".join(str(o.dimension) for o in found.outliers[:5]) + ("…" if len(found.outliers) > 5 else "")
    noun = "dimension" if len(found.outliers) == 1 else "dimensions"
    plain, turned = _of(found, "int8"), _of(found, "rotate|int8")
    pair = f"; int8 agrees to {plain.agreement:.2f}, rotate|int8 to {turned.agreement:.2f}" if plain and turned else ""
    return [
        Suggestion(
            "rotate|int8",
            "suggests a rotation before the integers: rotate|int8",
            f"{noun} {which}: up to {found.outliers[0].times_median:.1f} times the median dimension, for which one scale for "
            f"all must make room{pair}",
            _run("int8", "rotate|int8"),
        )
    ]


def _coordinates(found: Inspection) -> list[Suggestion]:
    """Say what the order of the coordinates is good for."""
    first, last = found.agreement_first_quarter, found.agreement_last_quarter
    if not found.ordered or first is None or last is None:
        return []
    cut, turned = _of(found, "truncate:50%|int8"), _of(found, "svd:50%|int8")
    quarters = (
        f"the first quarter of the coordinates keeps {first:.0%} of the ten nearest neighbours, the last {last:.0%}"
    )
    pair = ""
    better = "truncate:50%|int8"
    if cut is not None and turned is not None:
        pair = f"; at half of them truncate agrees to {cut.agreement:.2f}, svd to {turned.agreement:.2f}"
        better = "truncate:50%|int8" if cut.agreement >= turned.agreement - 0.01 else "svd:50%|int8"
    what = (
        "the model looks as if it was trained for short prefixes (Matryoshka)"
        if found.matryoshka
        else "the coordinates are ordered by their variance, as a PCA orders them"
    )
    use = (
        "so truncate:50%|int8 is cheap to try"
        if better.startswith("truncate")
        else "but svd keeps more of it than truncate"
    )
    text = f"suggests {better} for half the dimensions: {what}, {use}"
    return [Suggestion(better, text, quarters + pair, _run("truncate:50%|int8", "svd:50%|int8"))]


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
