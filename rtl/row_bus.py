"""The buses that enter row 0 and hop one register per row per cycle, and the cycle offsets of their fields.

A row holds no control pipelines: each field carries what one pipeline stage needs *in this cycle*. `RowTiming` says how late each field is
behind the first one; the feeder (`rtl.row_feeder`) makes those delays once, in front of row 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from amaranth import signed, unsigned
from amaranth.lib import data
from amaranth.lib import enum as amaranth_enum
from amaranth.utils import ceil_log2

from model.integer import BIAS_BITS, MULTIPLIER_BITS
from rtl.config import AcceleratorConfig
from rtl.statistics_bus import statistics_control

PASS_BITS = 4
CHANNEL_BITS = 12


class WriteKind(amaranth_enum.Enum, shape=unsigned(3)):
    """What a row does with a finished result."""

    NONE = 0
    ACTIVATION = 1
    RESIDUAL = 2
    KEY = 3
    VALUE = 4
    LOGIT = 5


class LoadKind(amaranth_enum.Enum, shape=unsigned(2)):
    """What a beat of the load bus writes. TABLE goes to every row: all its data bytes are the same."""

    POSITION = 0
    PIXEL = 1
    TABLE = 2


#: Bytes of the load bus. Lane l belongs to rows r with r % LANES == l.
LANES = 16

#: A channel of a token: one of the row's passes, of one of the two images in flight.
TokenAddress = data.StructLayout({"image": 1, "pass_index": PASS_BITS, "address": CHANNEL_BITS})

#: The load bus. From row to row ``data`` rotates down by one byte, ``lanes`` and ``upper`` by one bit, so that every row finds its own lane
#: in place 0. Row r is addressed when lanes[0] and r // LANES == (upper[0] ? group_1 : group_0). It takes data[0:8] (PIXEL) or
#: data[0:16] (POSITION).
LoadBus = data.StructLayout(
    {
        "valid": 1,
        "kind": LoadKind,
        "group_0": 4,
        "group_1": 4,
        "lanes": LANES,
        "upper": LANES,
        "token": TokenAddress,  # for TABLE, address = set * 256 + index
        "data": 8 * LANES,
    }
)


class ActivationSource(amaranth_enum.Enum, shape=unsigned(2)):
    """Which value a row's activation memory takes."""

    PLAIN = 0
    TABLE = 1
    ATTENTION = 2
    PIXEL = 3


def residual_address_bits(config: AcceleratorConfig) -> int:
    """Address in the residual memory of a pass: {channel, image}, channel in the low bits."""
    return ceil_log2(config.shape.embed_dim) + (config.images - 1)


def activation_channels(config: AcceleratorConfig) -> int:
    """Channels of a token in activation memory: the row's inputs, or a whole patch."""
    return max(config.inputs, config.shape.patch_dim)


def activation_address_bits(config: AcceleratorConfig) -> int:
    """Address in the activation memory of an image: {channel, pass}, channel in the low bits."""
    return ceil_log2(activation_channels(config)) + ceil_log2(config.passes)


def partial_address_bits(config: AcceleratorConfig) -> int:
    """Place of a K-tile's sum: {channel, pass}, channel in the low bits."""
    return ceil_log2(config.shape.embed_dim) + ceil_log2(config.passes)


def statistics_token_bits(config: AcceleratorConfig) -> int:
    """Place of a token's LayerNorm statistics: {pass, image}, pass in the low bits."""
    return max(1, ceil_log2(config.passes) + config.images - 1)


@cache
def row_bus(config: AcceleratorConfig) -> data.StructLayout:
    """Layout of the row bus.

    Offsets are those of `RowTiming`: fill fields behind the fill command, compute fields behind the compute command, attention fields with
    the attention bus and load fields with the load bus. Who accesses a memory in a cycle is the same in every row, up to the hop, so one
    field per memory port is enough: `rtl.token_ports` merges the clients once, in front of row 0.

    Fields that differ from row to row do so by shifting: a row passes ``(a, b, c)`` on as ``(b, c, c)``.
    """
    residual_bits, activation_bits = residual_address_bits(config), activation_address_bits(config)
    return data.StructLayout(
        {
            # memories: residuals of each pass, activations of each image
            "residual_read": data.ArrayLayout(residual_bits, config.passes),
            "residual_write": data.StructLayout(  # which pass, one-hot: from the linear path, from the load bus
                {"linear": config.passes, "position": config.passes, "address": residual_bits}
            ),
            "activation_read": data.ArrayLayout(activation_bits, config.images),
            "activation_source": data.ArrayLayout(ActivationSource, config.images),  # one cycle before activation_write
            "activation_write": data.ArrayLayout(
                data.StructLayout({"valid": 1, "pixel": 1, "address": activation_bits}), config.images
            ),  # valid: linear or attention; pixel: if the load bus addressed this row
            # fill
            "fill_pass": PASS_BITS,  # of the residual that was read in the cycle before
            "statistics_token": statistics_token_bits(config),
            "gamma": signed(16),
            "beta": signed(16),
            "fill_write": data.StructLayout({"valid": 1, "normalized": 1, "zero": 1, "image": 1, "bank": 1, "first": 1}),
            # compute
            "weights": data.StructLayout({"valid": 1, "bank": 1, "weights": config.inputs}),
            "plane_first": 1,
            "partial_read": partial_address_bits(config),
            "partial_add": 1,
            "partial_write": data.StructLayout({"valid": 1, "address": partial_address_bits(config)}),
            "bias": signed(BIAS_BITS),
            "multiplier": unsigned(MULTIPLIER_BITS),
            "shift": 2,
            "limits": 2,
            "residual_pass": PASS_BITS,  # of the residual that was read in the cycle before
            "mask": 3,  # no residual update in (this row, the next row, the rows behind it)
            "position": 1,  # the residual comes from the load bus
            "table_set": 1,
            "write": data.StructLayout(
                {
                    "valid": 3,  # in (this row, the next row, the rows behind it)
                    "kind": WriteKind,
                    "table_enable": 1,
                }
            ),
            "statistics": statistics_control(statistics_token_bits(config)),
            # attention
            "query_image": 1,  # of the activation that attention read in the cycle before
        }
    )


FillCommand = data.StructLayout(
    {
        "valid": 1,
        "normalized": 1,
        "zero": 1,
        "bank": 1,
        "first": 1,
        **TokenAddress.members,
        "norm_address": 16,
    }
)

ComputeCommand = data.StructLayout(
    {
        "valid": 1,
        "bank": 1,
        "weight_address": 16,
        "parameter_address": 16,
        "plane_first": 1,
        "plane_last": 1,
        "add": 1,
        "store": 1,
        "limits": 2,
        "mask": 2,
        "table_set": 1,
        "table_enable": 1,
        "kind": WriteKind,
        **TokenAddress.members,
        "accumulator_address": CHANNEL_BITS,
        "head": 8,  # place in the key/value memory
        "dim": 8,
        "logit_row": 1,
        "statistics_first": 1,
        "statistics_last": 1,
    }
)


@dataclass(frozen=True, kw_only=True)
class RowTiming:
    """Cycle offsets of the row's pipeline stages, from the latencies that its units publish.

    Fill stages count from the fill command at row 0, compute stages from the weight word at row 0.

    fill_statistics, fill_gamma : when the token's statistics, and gamma and beta, are sampled
    fill_activation : activation memory read, so that both sources meet at ``fill_write``
    fill_write : the activation enters the table
    compute_delay : the whole compute command behind the fill command, so that table writes and reads line up
    plane : the first plane's flag, and the K-tile's address, are sampled        bias : enters the requantizer
    multiplier, shift : sampled
    residual : which residual, of those that were read in the cycle before
    result : the requantized value        write : all memories are written
    finish : from the write of a token's last channel until its LayerNorm statistics may be used
    """

    fill_statistics: int
    fill_gamma: int
    fill_activation: int
    fill_write: int
    compute_delay: int
    plane: int
    bias: int
    multiplier: int
    shift: int
    limits: int
    residual: int
    result: int
    write: int
    finish: int

    @property
    def hazard(self) -> int:
        """Cycles after a step's last word before its results may be read."""
        return self.compute_delay + self.write + 2
