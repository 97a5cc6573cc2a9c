"""docs/quantization.md: the prose, and tables from the results of ``benchmarks.quantization``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PROSE = """\
# Quantization of EfficientViT

Written by `python -m benchmarks.quantization --table` from `benchmarks/results/quantization/*.json`; do not edit.

The engine is `model/quant/ptq.py`, `python -m model.quantize` on the command line. It folds BatchNorm, calibrates by streaming statistics,
and writes an integer graph. Techniques, each of which can be switched off: channel-wise migration (CM) at the inputs of every MBConv's
depthwise convolution, filter-wise shifting (FS) at those of its second pointwise convolution, log2 divisors in the attention. Weights
are symmetric per output channel, activations per tensor. `model/quant/explain.py` diagnoses a network layer by layer.

## Choices, and where they depart from the paper and its code

* **Asymmetric activations are the default**: the better of the two on efficientvit_micro, and by far wherever a technique is off (stress
  network). The paper says symmetric, its code is asymmetric. What feeds attention (q, k, v) is symmetric always.
* **Migration factors and centres** are those of the code: channel maximum over the larger of the 0.99 quantile and the mean channel
  maximum, within 0.1 and 64, real numbers; middle of the channel's range. They come from all calibration images, not from one batch of 64.
* **Weights are integers.** The code evaluates depthwise and second pointwise layers with the soft rounding of AdaRound; here nearest
  rounding, or reconstruction hardened to integers, is what runs.
* **Divisors**: leading one and next bit (threshold 1.5), as in the paper, of the whole integer divisor, over a window of 16 exponents that
  calibration places for each scale, no lower than where the quotient's ratio fits a multiplier: from 1, 2 or 3 on efficientvit_micro,
  W8A8. Smaller divisors, 0.5 % at most in a scale of the stress network, count as the window's first. The paper's 8-bit step before it is
  the kind `log2_8bit`; the code's threshold is sqrt(2), its window fixed. A divisor of 0 counts as 1: what is NaN in the paper's table is
  a low accuracy here.
* **Centres are whole units of Hardswish's result**, from which the integer graph subtracts them before it multiplies: they lie within an
  eighth of a code of the range's middle.
* **Scales inside the attention** are per head for S and for the sum of K; the dividend is not cut to 8 bits before it is divided.
* **Everything is integer**: image, residual sums, pooling, LayerNorm, the head, which the code leaves in float.

## From float to integers

| arrow | what changes | tolerance, and where it is tested |
|---|---|---|
| network to folded operators | BatchNorm folded, float rounding | every tensor to 1e-4: `sim_tests/model/test_folded.py` |
| folded to fake-quantized | every code rounded and saturated; ratios real | none: what the tables below show |
| fake-quantized to integer graph | 16-bit multipliers, results of 6 fraction bits | `sim_tests/model/test_lower_efficientvit.py` |

The last arrow operator by operator, from the same codes: none differs by more than one (s16: by 2), and at most 2.5 % of a tensor's
(W4A4: 4 %). Through whole networks such differences add up:

"""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)) + "\n"


def _arrows(results: Mapping[str, Any]) -> str:
    columns = ("network", "codes that differ", "worst tensor", "largest difference", "logits correlate", "largest logit difference")
    rows = []
    for name, arrows in (("efficientvit_micro", results["accuracy"]["arrows"]), ("efficientvit_b1_r224, random", results["b1"]["arrows"])):
        rows.append(
            [
                name, f"{arrows['codes_that_differ_percent']:.2f} %", f"{arrows['worst_tensor_percent']:.2f} %",
                str(arrows["largest_code_difference"]), f"{arrows['logits_correlation']:.5f}",
                f"{arrows['largest_logit_difference_percent']:.2f} % of the largest",
            ]
        )  # fmt: skip
    return _table(columns, rows)


def _accuracy(result: Mapping[str, Any]) -> str:
    rows = [
        [
            "symmetric" if row["techniques"]["symmetric"] else "asymmetric", f"{result['float_accuracy']:.2f}",
            f"{row['fake_quantized_accuracy']:.2f}", f"{row['integer_accuracy']:.2f}",
            f"{row['integer_accuracy'] - result['float_accuracy']:+.2f}", f"{row['noise']['total']:.1f}",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    columns = ("activations", "float %", "fake-quantized %", "integer %", "integer - float", "logits dB")
    return f"## efficientvit_micro, W8A8, 10,000 test images\n\n{_table(columns, rows)}"


def _widths(result: Mapping[str, Any]) -> str:
    rows = [
        [f"W{row['techniques']['weight_bits']}A{row['techniques']['bits']}", f"{row['fake_quantized_accuracy']:.2f}",
         f"{row['integer_accuracy']:.2f}", f"{row['noise']['total']:.1f}"]
        for row in result["rows"]
    ]  # fmt: skip
    told = f"The first {result['images']:,} test images, float {result['float_accuracy']:.2f} %; nearest rounding of the weights."
    told += " The image has the activations' bits."
    return f"## Fewer bits\n\n{told}\n\n{_table(('precision', 'fake-quantized %', 'integer %', 'logits dB'), rows)}"


_STRESS = """\
## The collapse and its cure

`model/checkpoints/efficientvit_micro_stress.safetensors`: efficientvit_micro with the paper's three pathologies written into its weights,
nothing trained (`python -m model.quant.stress`, whose docstring says how). Float {float:.2f} % of 10,000 images; integer graph of the full
engine {integer:.2f} %, {lost:+.2f} points (fake-quantized {fake:.2f} %). Symmetric codes: the first {images:,} images.

{table}
Rows without a word on divisors have exact ones. Worst layer: median channel, all noise before it included. Asymmetric codes do half of
shifting's work, for Hardswish's outputs lie on one side of 0; with symmetric ones, as in the paper, shifting is worth more. The integer
graph hardly bounds it: a centre may be 3,200 codes, where 255 codes without shifting reach 255. Uniform divisors cost points and not
everything, for a divisor of 0 counts as 1; log2 divisors of 8 bits are no better, for the small ones are lost in the 8-bit step before.
"""


def _stress(result: Mapping[str, Any]) -> str:
    rows = [
        [a["name"], *(f"{x:.1f}" for x in (a["logits_db"], a["worst_layer_db"])), f"{a['accuracy']:.2f}", f"{s['logits_db']:.1f}",
         f"{s['accuracy']:.2f}"]
        for a, s in zip(result["asymmetric"], result["symmetric"], strict=True)
    ]  # fmt: skip
    columns = ("techniques", "asymmetric: logits dB", "worst layer dB", "accuracy %", "symmetric: logits dB", "accuracy %")
    integer = result["integer"]
    return _STRESS.format(
        float=result["float_accuracy"], integer=integer["integer_accuracy"], fake=integer["fake_quantized_accuracy"],
        lost=integer["integer_accuracy"] - result["float_accuracy"], images=result["symmetric_images"], table=_table(columns, rows),
    )  # fmt: skip


_B1 = """\
## B1 with natural photos

`efficientvit_b1_r224` with random weights of realistic ranges (`random:0`): signal-to-noise ratios against its own float run. Calibration
on {images} photos {calibrate:.0f} s, quantization {quantize:.0f} s, one thread of a busy machine; peak memory {peak:.2f} GiB. Random
weights have none of the pathologies of trained ones: what the techniques are worth, the stress network shows.

{table}"""


def _b1(result: Mapping[str, Any]) -> str:
    rows = [
        [row["name"], f"{row['mean_db']:.1f}", f"{row['mean_channel_db']:.1f}", f"{row['worst_layer_db']:.1f} ({row['worst_layer']})",
         f"{row['logits_db']:.1f}"]
        for row in result["ablation"]
    ]  # fmt: skip
    columns = ("techniques", "mean dB", "mean dB of the median channel", "worst layer dB", "logits dB")
    return _B1.format(
        images=result["calibration_images"], calibrate=result["calibrate_seconds"], quantize=result["quantize_seconds"],
        peak=result["peak_gib"], table=_table(columns, rows),
    )  # fmt: skip


def page(results: Mapping[str, Any]) -> str:
    """The same results give the same text."""
    commands = "\n".join(f"    {result['command']}" for result in results.values())
    parts = [
        _PROSE + "\n" + _arrows(results), _accuracy(results["accuracy"]), _stress(results["stress"]), _widths(results["widths"]),
        _b1(results["b1"]), f"## Commands\n\n{commands}\n",
    ]  # fmt: skip
    return "\n".join(parts)
