"""Layouts of the attention: the bus that hops through the rows, the ATTEND command, and the key/value memory's ports."""

from __future__ import annotations

from functools import cache

from amaranth import signed, unsigned
from amaranth.lib import data
from amaranth.lib import enum as amaranth_enum
from amaranth.utils import bits_for

from model.integer import ATTENTION_DIVIDEND_BITS, MULTIPLIER_BITS
from rtl.attention_config import AttentionConfig

#: Payload of ATTEND, as ``rtl.program.isa`` lays it out. ``shift`` is an index into REQUANTIZE_SHIFTS.
AttendCommand = data.StructLayout(
    {
        "image": 1,
        "first_head": 8,
        "heads": 8,
        "key_value_head": 8,
        "first_pass": 4,
        "passes": 4,
        "keys": 16,
        "score_multiplier": MULTIPLIER_BITS,
        "score_shift": 2,
        "dividend": ATTENTION_DIVIDEND_BITS,
        "output_image": 1,
    }
)


class KeyValueKind(amaranth_enum.Enum, shape=unsigned(1)):
    KEY = 0
    VALUE = 1


def word_layout(config: AttentionConfig) -> data.ArrayLayout:
    """``word[x][lane]``. Score word: x is the key of the pair, lane the dim. Output word: x is the dim of the pair, lane the key."""
    return data.ArrayLayout(data.ArrayLayout(signed(8), config.lanes), 2)


def activation_address(config: AttentionConfig, flag: str) -> data.StructLayout:
    """A place in the rows' activation memories of ``image``. ``address`` = head * head_dim + dim."""
    return data.StructLayout({flag: 1, "image": 1, "pass_index": config.pass_bits, "address": config.channel_bits})


def activation_write(config: AttentionConfig) -> data.StructLayout:
    return data.StructLayout({**activation_address(config, "valid").members, "value": config.bits})


@cache
def attention_bus(config: AttentionConfig) -> data.StructLayout:
    """What hops through the rows. Each field is what one pipeline stage needs *in this cycle*.

    Offsets, behind the word's lane 0 (c; c' is the last word of its sum) or behind the scan's address of a slot (e); L = product_latency:

    word[x][k], operand[s]         : c + stagger(k), c + s; operand is the address of q or of the numerators
    first, rounded                 : c + L, the accumulators restart; rounded: from half of the output's shift
    odd                            : c' + L + 2, the second sum enters the multipliers
    score, output                  : c' + L + 7 and + 8, where the score or the output is written; ``score.first`` restarts the maximum
    scan                           : e; ``start`` (first e of a job) samples the maximum, ``slot`` is read
    numerator_valid                : e + 1; 0 masks the numerator
    total_first                    : e + 3, the sum restarts
    pack_query                     : 1 behind act_read; the packer takes the activation, else the numerator (0 when there is none)
    pack                           : behind the last shift of a word: write it to operand memory
    divide                         : ``first`` at e + 3 of a job's last e, then 32 bits of the dividend in a row
    reciprocal_load                : first c of an AV phase + L + 1
    act_read                       : the activation memory's request, passed through
    multiplier, shift              : constant during an ATTEND
    """
    return data.StructLayout(
        {
            "word": word_layout(config),
            "operand": data.ArrayLayout(config.operand_bits, max(config.stagger) + 1),
            "first": 1,
            "rounded": 1,
            "odd": 1,
            "multiplier": MULTIPLIER_BITS,
            "shift": 2,
            "score": data.StructLayout({"valid": 1, "first": 1, "slot": config.slot_bits}),
            "scan": data.StructLayout({"start": 1, "slot": config.slot_bits}),
            "numerator_valid": 1,
            "total_first": 1,
            "pack_query": 1,
            "pack": data.StructLayout({"valid": 1, "address": config.operand_bits}),
            "divide": data.StructLayout({"valid": 1, "first": 1, "bit": 1}),
            "reciprocal_load": 1,
            "act_read": activation_address(config, "enable"),
            "output": activation_address(config, "valid"),
        }
    )


def collect_layout(config: AttentionConfig) -> data.StructLayout:
    """What row 0 emits towards the key/value memory in this cycle; row r emits the same r cycles later. ``head`` is a place."""
    return data.StructLayout(
        {
            "valid": 1,
            "kind": KeyValueKind,
            "pass_index": config.pass_bits,
            "head": bits_for(config.key_value_heads - 1),
            "dim": bits_for(config.head_dim - 1),
        }
    )


def read_layout(config: AttentionConfig) -> data.StructLayout:
    """A request to the key/value memory."""
    depth = max(config.key_depth, config.value_depth)
    return data.StructLayout({"kind": KeyValueKind, "group": bits_for(config.groups - 1), "address": bits_for(depth - 1)})
