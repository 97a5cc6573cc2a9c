"""Laws and formulas of the attention."""

import re

import pytest

from rtl.attention_bus import AttendCommand, attention_bus
from rtl.attention_config import AttentionConfig
from rtl.errors import InputError
from rtl.program.isa import PAYLOAD, Opcode

BASE = dict(bits=8, rows=66, lanes=22, head_dim=64, heads=12, tokens=197, passes=3, key_value_heads=12)
MICRO = dict(bits=8, rows=6, lanes=6, head_dim=16, heads=4, tokens=17, passes=3, key_value_heads=4)


def test_deit_base() -> None:
    config = AttentionConfig(**BASE)
    assert config.chunks == (22, 21, 21) and config.blocks == 9 and config.groups == 3
    assert (config.key_depth, config.value_depth, config.operand_depth) == (1188, 1152, 24)
    assert (config.score_words, config.score_cycles) == (297, 297)
    assert (config.output_words, config.output_cycles) == (288, 288)
    assert config.cycles(12, 3) == 66 + 36 * (297 + 288) + 66 + 12 + 14


def test_fifty_rows() -> None:
    config = AttentionConfig(**dict(BASE, rows=50, passes=4))
    assert config.group_rows == (22, 22, 6) and config.blocks == 12 and config.operand_depth == 30
    assert (config.key_depth, config.value_depth) == (12 * 4 * 33, 12 * 4 * 32)
    assert (config.score_words, config.score_cycles) == (297, 297)
    assert (config.output_words, config.output_cycles) == (384, 384)


@pytest.mark.parametrize("rows,passes,goal", [(66, 3, 590), (50, 4, 700)])
def test_job_cycles(rows: int, passes: int, goal: int) -> None:
    """The average of a job, all heads in one ATTEND."""
    config = AttentionConfig(**dict(BASE, rows=rows, passes=passes))
    assert config.cycles(12, passes) / (12 * passes) <= goal


def test_micro() -> None:
    config = AttentionConfig(**MICRO)
    assert config.chunks == (6, 5, 5)
    assert (config.score_words, config.output_words) == (27, 24)
    assert (config.score_cycles, config.output_cycles) == (60, 60)
    assert config.cycles(1, 1) == 18 + 60 + 60 + 60 + config.drain_cycles


def test_bus_width() -> None:
    assert attention_bus(AttentionConfig(**BASE)).size == 473


def test_command_is_the_isa() -> None:
    assert [(name, field.width) for name, field in AttendCommand] == list(PAYLOAD[Opcode.ATTEND])


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(bits=9), "bits must be 1..8: 9 does not; choose a width in that range"),
        (dict(lanes=11), "lanes must be even: 11 does not; choose an even number"),
        (dict(lanes=68), "lanes must be at most rows: 68 does not; use fewer lanes"),
        (dict(rows=67), "rows must be even, or a pair of keys would cross a pass: 67 does not; choose an even number"),
        (dict(key_value_heads=0), "key_value_heads must be 1..255: 0 does not; choose fewer copies"),
        (dict(tokens=199), "tokens must fit rows * passes: 199 does not; use at most 198"),
        (dict(passes=4), "rows * passes must be at most 256, the score memory: 264 does not; use fewer passes"),
        (dict(head_dim=63), "head_dim must be even: 63 does not; pad the heads"),
        (dict(head_dim=22), "head_dim must be more than lanes: 22 does not; use fewer lanes"),
        (
            dict(head_dim=48),
            "head_dim must split into chunks of lanes or lanes - 1 dims (else two key pairs finish in one cycle): "
            "48 does not; choose other lanes",
        ),
        (
            dict(rows=22, passes=1, tokens=20),
            "passes or groups of lanes rows must be 2 or more: 1 does not; use fewer lanes",
        ),
    ],
)
def test_laws(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        AttentionConfig(**dict(BASE, **change))


def test_phases_hide_the_softmax() -> None:
    """The laws behind the two minima, cycle by cycle (c = first word of a QK), for many sizes."""
    for lanes in (2, 4, 6, 8, 12, 16, 22):
        for groups in (1, 2, 3):
            for passes in (1, 2, 3, 4):
                slots, head_dim = lanes * groups * passes, 3 * lanes
                if slots < 2 * lanes or slots > 256:
                    continue
                config = AttentionConfig(
                    bits=8,
                    rows=lanes * groups,
                    lanes=lanes,
                    head_dim=head_dim,
                    heads=2,
                    tokens=slots - 1,
                    passes=passes,
                    key_value_heads=2,
                )
                score, output, latency = config.score_cycles, config.output_cycles, config.product_latency
                scan = score + latency + 8  # one cycle after the last possible score
                numerators_written = scan + slots - 1 + 4
                divided = scan + slots - 1 + 4 + 32
                for follow in (score, output):  # the phase between QK and AV of one job
                    assert numerators_written < score + follow
                    assert divided <= score + follow + latency + 1  # reciprocal_load
                first_query_shift = 2 * score - config.load_cycles - 1
                assert first_query_shift >= numerators_written
                assert score - config.load_cycles - 2 > latency + 7  # reads of a QK after the writes of the AV before
