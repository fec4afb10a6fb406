"""The hand-written part of docs/virtual-cell.md; `page.py` puts figures from a report where `$names` stand."""
# ruff: noqa: E501  (Markdown, as the other pages are wrapped)

__all__ = ["TEMPLATE"]

TEMPLATE = """\
# The virtual cell

`drivers/sim/` renders a weld seam from its physics: `render_seam(plan, preset)` gives everything the cell's sensors would see, and the
truth beside it. The same plan gives the same bytes on any machine and process count. This page says what that physics is held
against, whether shortcuts solve it, and how hard its faults are for a supervised oracle that is no part of edged. It is generated;
its figures come from one report.

Version $sim_version, digest `$digest`. Made by `edged bench cell$quick --json F` ($made).

$verdict

## Order of causes

```
programs.py ─► variation.py ─► faults.py ─► arc.py ──► welder 10 kHz, sound.py 48 kHz, arc_camera.py 30 fps
 set-points     latent state,   act here     100 kHz
 sessions.py    1 kHz              └──────► bead.py, surface.py ─► damage.py ─► photograph.py, profile.py
```

Commanded is not actual: gas is lost after the flow meter, wire slips after the encoder, the work lead drops voltage outside the
source. Every cause draws from a generator of its own (`randomness.py`), so a *good twin* (same plan, no fault) shares every
nuisance draw: up to the fault's onset its streams are bit-identical. *Result* faults leave the process streams bit-identical to
the twin's, *process* faults leave photographs and height map bit-identical, *drift* faults leave the weld alone and change what
sensors show; tests hold all three.

## Constants

$constants

The acoustic efficiency of a transfer mode is set so that the published loudness of the modes is met; the single arc column of this
model has no gas dynamics of its own. Where a figure is marked (m) it was chosen in this model within what the checks below allow.

$programs

## Physics against sources

Measured on simulated good seams of several sessions (and on beads under each severity), never read from the settings. Ranges come
from the sources named; "practice" says that a text was looked for and not found.

$physics

Sources, by key. Each was read as far as it says: whole page, table or abstract.

$sources

## Families and validity

*process*: the arc leaves its normal range, the bead still looks normal. *result*: damage that the process never saw. *pair*: process
and bead are each normal but not of one seam. *both*: visible in both. *drift*: a sensor errs within the normal range. A probe is a
supervised classifier that may look at one thing only; it must not beat chance by more than 0.05 at the upper end of its 95 %
interval, twins always in one fold.

$probes

The Bayes AUROC of *pair*, computed on the latents: $pair. It is that of a joint Gaussian within each program of the seam's means of wire speed, travel speed,
tip distance and source voltage against the bead's mean width, height and area. It bounds what those means can tell, not what can be seen: the oracle of
*pair* below stands higher, presumably because the arc camera and the photograph both show where across the joint the wire ran and how it wandered.

A row without a rule says how visible the family is where it may be seen. Metadata are duration, counts of samples and frames, and file sizes. Images are
filled up to whole buffers (frames 16 KiB, photographs 64 KiB), as cameras hand them out, since the sizes of plain JPEGs gave hidden faults and swapped
beads away. File size means the bytes that the devices send; a recording on disk is compressed, so its size still follows its content, and was not probed.

How much of the bead the observed streams explain, held out by session, within each program, from good seams of a seed of their own (95 %
intervals resample sessions); 0.4–0.8 is wanted: below it pairs cannot be told at all, above it pairs would be arithmetic. How much of the joint's gap the
bead fills, and how far burr and bevel hide that gap from the arc camera, were set so that this holds, before the cell was frozen.

$r2

## Faults, and how hard they are

Severities come from welding practice. Before the cell was frozen the milder steps of ten types were lowered once, because the oracle
below stood at 1 for all five of eight of them; no detector of edged had scored any. The oracle is a supervised classifier (boosted trees) on
statistics of noisy sensors and bead against good seams: AUROC with its 95 % interval, and the median delay of detection after onset, at a
threshold that 1 % of good seams cross, where at least half of the seams were found. $span

$faults

![oracle AUROC against severity](img/cell-oracle.png)

$easy

## What it looks and sounds like

Preset `small`, as detectors see it; the good twin stands at the left of each row, the physical value over each picture.

One good seam for each transfer mode:

![arc-camera frames by transfer mode](img/cell-frames-modes.jpg)

![current and voltage by transfer mode, 0.2 s](img/cell-waves-modes.png)

![spectrograms by transfer mode](img/cell-sound-modes.jpg)

By fault type and severity:

![arc-camera frames by fault and severity](img/cell-frames.jpg)

![beads by fault and severity](img/cell-beads.jpg)

![height maps](img/cell-heights.jpg)

![current and voltage, 0.2 s, the good twin in grey](img/cell-waves.png)

![spectrograms of the sound](img/cell-sound.jpg)

![all views of one seam](img/cell-views.jpg)

## Photographs

The whole-seam views show 90 × 30 mm around the seam's middle: 10.7 px/mm at `small`, 22 px/mm at `full`. Coded markers
(DICT_4X4_50, ids 0–3) lie beside the part; `marker_centres_mm(length, view)` gives their places in part coordinates, so that a
reader can undo the pose.

## Laser profiler (`--profiler`)

A row of 120 heights over ±12 mm every 10 ms, numbered, bead or bare plate; at 25 mm/s a row each 0.25 mm. It runs freely, because
then its counter times each row, and only the PLC's trigger says which rows are a seam's. The PLC triggers `scan` after the image; the
robot begins 0.1 s before the bead and runs on beyond it until `scan_s` = 2.2 s are over. Flanks steeper than 2 mm/mm and 0.3 % of the
points give no return. Lines of text on a pty live, the same rows as chunks in bulk. Off by default: recordings without it are the
same to the byte.

## Not modelled, and known flaws

- Every seam lies flat: a fillet or lap differs from a butt in its set-points and in how much metal its joint takes, not in the shape
  of its surface.
- Under Ar + 20 % CO2 a transition to spray at 330–350 A was published, and a handbook sees no sharp one above about 15 % CO2
  (methong, esab-mig); here it lies lower, as it does under leaner mixtures. Spray programs thus stand for a leaner gas.
- The set-points of the spray fillets come from a table that stands under CO2 and flux-cored wire (otc).
- Burn-through costs a fifth of the current at severities 4 and 5 of the short-circuit programs, where sources say "slightly"; lack of fusion and tip wear change nothing at the surface by definition
  of their family, although a steeper toe would show in a shop.
- Gas loss, lack of fusion and sub-surface pores cannot be told from a single arc-camera frame; a shop's camera would show the
  first as spatter and a restless arc. The nozzle hangs lower in the frames than its distance from the plate would have it.
- Overlap hangs in regular waves, where a real cold lap is smoother; good beads are symmetric but for their ripples, so that the mildest undercut, overlap
  and crater crack stand out to the oracle at once (0.97 to 1 at severity 1).
- A bead's start is a broad head, where a real one is rather high and narrow.
- The arc is one column with a constant length gradient: no arc blow, no humping, no keyhole, no slag.
- Melting constants α and β could not be found in a source that gives them for 1.2 mm steel wire; the feed they lead to was
  compared with a manufacturer's rule instead.

## How it may change

[ADR 0008](adr/0008-the-virtual-cell-is-frozen.md): a reason in physics written down before anything is trained, a new version and
digest, this report in full, and the demo model retrained. Severities and figures of one version do not carry over to the next.
"""
