"""Critical points of unconstrained features models, classified: global minima and strict saddles.

Run:  python -m benchmarks.critical_points [--count 100] [--output FILE.csv]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections import Counter
from pathlib import Path

import torch

from ddn_etf.ufm import (
    CrossEntropy,
    FreeBias,
    MeanSquaredError,
    NoBias,
    RegularizedBias,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    mean_squared_error_minimum,
)
from ddn_etf.ufm.landscape import (
    CriticalPoint,
    Kind,
    StrictSaddleReport,
    negative_curvature,
    strict_saddle_report,
)

SIZES = {"num_classes": 5, "samples_per_class": 3, "dim": 7}
DECAYS = {"weight_decay_W": 5e-3, "weight_decay_H": 2e-3}
FIELDS = ("model", "source", "kind", "value", "gradient_norm", "spectral_excess", "eigenvalue")
FIELDS += ("index", "rank", "curvature", "expected_curvature")


def models():
    """The models of Zhu et al. (2021) and of Tirer and Bruna (2022), each with its minimum."""
    K, n = SIZES["num_classes"], SIZES["samples_per_class"]
    for bias in (FreeBias(), RegularizedBias(1e-2)):
        yield f"cross entropy, {bias}", CrossEntropy(), bias, cross_entropy_minimum(K, n, **DECAYS)
    for bias in (NoBias(), FreeBias(), RegularizedBias(5e-2)):
        minimum = mean_squared_error_minimum(K, n, *DECAYS.values(), bias)
        yield f"squared error, {bias}", MeanSquaredError(), bias, minimum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="critical points per model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write every row to this CSV file")
    options = parser.parse_args()
    rows = []
    print(f"torch {torch.__version__}, {SIZES}, {DECAYS}")
    for name, loss, bias, minimum in models():
        start = time.perf_counter()
        model = UnconstrainedFeatures(loss=loss, bias=bias, **SIZES, **DECAYS)
        report = strict_saddle_report(model, options.count, seed=options.seed)
        seconds = time.perf_counter() - start
        new = [record(name, model, point) for point in report.points]
        show(name, report, new, minimum.value, seconds)
        rows += new
    if options.output:
        with options.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)


def record(name: str, model: UnconstrainedFeatures, point: CriticalPoint) -> dict[str, object]:
    saddle = point.kind is Kind.STRICT_SADDLE
    found = negative_curvature(model, point.vector) if saddle else None
    return dict(
        zip(
            FIELDS,
            (
                name,
                point.source,
                point.kind.value,
                point.value,
                point.gradient_norm,
                -point.certificate.margin / point.certificate.threshold,
                point.smallest_eigenvalue,
                point.index,
                point.rank,
                found.curvature if found else None,
                found.expected if found else None,
            ),
            strict=True,
        )
    )


def show(
    name: str,
    report: StrictSaddleReport,
    rows: list[dict[str, object]],
    minimum: float,
    seconds: float,
) -> None:
    counts = Counter(point.kind for point in report.points)
    saddles = [row for row in rows if row["kind"] == Kind.STRICT_SADDLE.value]
    minima = report.of_kind(Kind.GLOBAL_MINIMUM)
    print(f"\n## {name}: {report.attempts} searches, {len(rows)} critical points, {seconds:.0f} s")
    print(", ".join(f"{counts[kind]} {kind.value}" for kind in Kind), end="; ")
    print(f"{report.distinct_values()} different values")
    gap = max((abs(point.value - minimum) for point in minima), default=0.0)
    error = max(
        (abs(row["curvature"] / row["expected_curvature"] - 1) for row in saddles), default=0.0
    )
    print(f"minima within {gap:.0e} of the closed form; largest gradient norm ", end="")
    print(f"{max(row['gradient_norm'] for row in rows):.0e}")
    excess = min((row["spectral_excess"] for row in saddles), default=0.0)
    eigenvalue = max((row["eigenvalue"] for row in saddles), default=0.0)
    print(f"saddles: spectral norm at least {1 + excess:.3f} times the threshold, eigenvalue at ")
    print(f"most {eigenvalue:.1e}, curvature as derived to {error:.0e}")
    print("\n| f | rank of W | index | smallest eigenvalue | kind | times | found by |")
    print("|---:|---:|---:|---:|---|---:|---|")
    rows = sorted(rows, key=key)
    for (value, rank, index), group in itertools.groupby(rows, key):
        same = list(group)
        sources = ", ".join(sorted({str(row["source"]).split(", scale")[0] for row in same}))
        print(
            f"| {value:.6f} | {rank} | {index} | {same[0]['eigenvalue']:.2e} | {same[0]['kind']} "
            f"| {len(same)} | {sources} |"
        )


def key(row: dict[str, object]) -> tuple[float, object, object]:
    return round(row["value"], 6), row["rank"], row["index"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
