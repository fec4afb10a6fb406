"""The hand-written part of the detection section of docs/results.md; `page.py` puts figures where `$names` stand."""
# ruff: noqa: E501  (Markdown, as the other pages are wrapped)

__all__ = ["NOT_TESTED", "TEMPLATE"]

NOT_TESTED = (
    "90.7 on Weld-4M, and its margin over other systems",
    "the benefit of V-JEPA, DINOv3 and AST",
    "human-verified hidden defects",
    "MAFR's 0.972 and 0.901",
    "Uni-RCM's state of the art",
    "IB-IUMAD's tables, and its 41× and 44×",
    "transfer to other processes",
    "closed-loop control",
    "any GPU timing",
)

TEMPLATE = """\
## Detection, by the protocol

$failed

$programs of the virtual cell, version $sim_version. Thresholds, early stopping and standardisation see good seams only; sessions are never shared between
training, calibration and test; nothing was chosen on test seams except where a row says so. Intervals are 95 % and resample *sessions* ($bootstraps draws), because
seams of one session are not independent; with few sessions such intervals are somewhat too narrow. $made

The product's score is `causal_hm_full`. `causal_hm` is the residual alone, as published; `causal_hm_mismatch` the residual against what the result alone says.

### Contrasts fixed before training

Holm's correction runs over the primary rows together; a row without figures counts as p = 1. Everything that is not primary is exploratory.

$contrasts

Each corpus and seed by itself:

$points

$contrasts_used

### Bars

A bar on a difference is judged on the figure, with its interval beside; "within the interval" on the interval. "undecided" says why; rows without a bar are stated only.

$bars

$bars_used

### Pipelines and families

AUROC with its interval, of the seams of a family against all goods. The last columns: area up to 10 % false alarms over all families (standardised after
McClish: 0.5 knows nothing), F1 and false alarms at the limit that was set on goods. Means over the corpora and seeds named; intervals are the mean of their ends.

$families

$families_used

### Ablations, exploratory

$ablations

$ablations_used

### Parts of the score

$parts

$parts_used

### Types beside the oracle

`causal_hm_full`, severities pooled. The oracle is supervised and sees labels (docs/virtual-cell.md). τ is Kendall's between score and severity: whether an
operator may read the number as "how bad". a50 and a90 in the type's unit at 1 % false alarms; a90/95 is where the lower 95 % bound of the curve reaches 90 %. "≤" means
there or below, "–" beyond what was tried. Place: pixel AUROC and AUPRO of the score along the seam.

$types

$types_used

### Speed and memory

End to end is all that a seam costs, not what a cell waits for: the median time that a few test goods of the corpus took in the worker's extractor (all of
its `push` and `finish`, most of it while the arc burns), plus the head's median. After the last photograph only the result's features and the head are left;
`edged demo` shows that wait.

$costs

$bank

$costs_used

### Learning program by program

$forgetting

### Pictures

$pictures

### Not tested here

$not_tested

Loaders of checkpoints that could not be fetched here (V-JEPA 2, DINO, DINOv3, AST, Point-MAE) were tested only on small random checkpoints in the real format.
"""
