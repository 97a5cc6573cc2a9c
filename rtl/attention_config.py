"""Parameters, laws and cycle formulas of the attention: one row's unit, the shared engine and the key/value memory."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.utils import bits_for

from model.integer import ATTENTION_DIVIDEND_BITS, EXP_TABLE, SIGNED8, attention_accumulator_shift
from rtl.config import AcceleratorConfig
from rtl.errors import InputError
from rtl.tech.dsp48e2 import product_latency, product_stagger

#: Cycles from a request at the key/value memory to its word.
READ_LATENCY = 3


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """One attention machine. A *job* is one (pass, head): ``rows`` tokens attend to all keys in one head.

    Parameters
    ----------
    bits : width of the output o
    rows : tokens in parallel (R), even; the token of row r in pass p has slot p * R + r
    lanes : products pairs per row and cycle (D); even, at most rows. Groups of D rows share a bank; the last group has the remaining rows
    head_dim : even, more than lanes; its chunks must have lanes - 1 dims or more (see ``chunks``)
    heads, tokens, passes : sizes of the memories; an ATTEND may use fewer heads, passes and keys
    key_value_heads : places of the key/value memory, each for one head
    technology : of the key/value memory's tables, "generic" or "ultrascale"

    Words
    -----
    A score word (phase QK) is 2 adjacent keys x 1 chunk of dims: chunk c holds dims ``chunks[c]``, in the *last* lanes.
    An output word (phase AV) is 2 adjacent dims x 1 block: the keys of one group and pass, in the *last* lanes; other lanes hold 0.

    Timing of a job, in cycles. L = ``product_latency``, S = ``slots``, W = chunks
    ------------------------------------------------------------------------------
    score_words = ceil(tokens / 2) * W                    output_words = head_dim / 2 * blocks
    score_cycles  = max(score_words, S + 42, S + W * D + L + 12)
    output_cycles = max(output_words, S + 42, S + L + 12)
    cycles(ATTEND) = load_cycles + jobs * (score_cycles + output_cycles) + drain_cycles, + output_cycles if there is one job;
    load_cycles = W * D, drain_cycles = rows + L + 14.

    S + 42: exponentials, sum and reciprocal fit the one phase between a job's QK and its AV. S + W * D + L + 12: the packer
    finishes the numerators of job 0 before it loads q of job 2. Phases: QK0 QK1 AV0 QK2 AV1 ... QK(J-1) AV(J-2) AV(J-1);
    with one job, QK0, a pause of output_cycles, AV0.
    The activation port is never read and written in one cycle: reads end a QK phase, writes end L + 7 cycles after an AV phase.

    Raises
    ------
    InputError : a law does not hold; the text names rule, value and remedy.
    """

    bits: int
    rows: int
    lanes: int
    head_dim: int
    heads: int
    tokens: int
    passes: int
    key_value_heads: int
    technology: str = "generic"

    def __post_init__(self) -> None:
        _require(1 <= self.bits <= 8, "bits must be 1..8", self.bits, "choose a width in that range")
        _require(self.tokens <= 256, "tokens must be at most 256, the score memory", self.tokens, "use larger patches or a smaller image")
        _require(self.lanes >= 2 and self.lanes % 2 == 0, "lanes must be even", self.lanes, "choose an even number")
        _require(self.lanes <= self.rows, "lanes must be at most rows", self.lanes, "use fewer lanes")
        _require(self.rows % 2 == 0, "rows must be even, or a pair of keys would cross a pass", self.rows, "choose an even number")
        _require(1 <= self.heads <= 255, "heads must be 1..255", self.heads, "choose fewer heads")
        _require(1 <= self.key_value_heads <= 255, "key_value_heads must be 1..255", self.key_value_heads, "choose fewer copies")
        _require(1 <= self.passes <= 15, "passes must be 1..15", self.passes, "use more rows")
        _require(1 <= self.tokens <= self.slots, "tokens must fit rows * passes", self.tokens, f"use at most {self.slots}")
        _require(self.slots <= 256, "rows * passes must be at most 256, the score memory", self.slots, "use fewer passes")
        _require(self.head_dim % 2 == 0, "head_dim must be even", self.head_dim, "pad the heads")
        _require(self.head_dim > self.lanes, "head_dim must be more than lanes", self.head_dim, "use fewer lanes")
        _require(self.blocks >= 2, "passes or groups of lanes rows must be 2 or more", self.blocks, "use fewer lanes")
        _require(
            self.head_dim // -(-self.head_dim // self.lanes) >= self.lanes - 1,
            "head_dim must split into chunks of lanes or lanes - 1 dims (else two key pairs finish in one cycle)",
            self.head_dim,
            "choose other lanes",
        )

    @classmethod
    def of(cls, config: AcceleratorConfig) -> AttentionConfig:
        shape = config.shape
        return cls(
            bits=config.bits,
            rows=config.rows,
            lanes=config.lanes,
            head_dim=shape.head_dim,
            heads=shape.heads,
            tokens=shape.tokens,
            passes=config.passes,
            key_value_heads=config.key_value_heads,
            technology=config.technology,
        )

    @property
    def slots(self) -> int:
        return self.rows * self.passes

    @property
    def groups(self) -> int:
        """Key/value banks."""
        return len(self.group_rows)

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each group: D, and what remains for the last one. 50 by 22 lanes is 22, 22, 6."""
        whole, rest = divmod(self.rows, self.lanes)
        return (self.lanes,) * whole + (rest,) * bool(rest)

    @property
    def blocks(self) -> int:
        """Words of D numerators per job."""
        return self.passes * self.groups

    @property
    def chunks(self) -> tuple[int, ...]:
        """Dims of each chunk, the largest first: 64 by 22 lanes is 22, 21, 21."""
        count = -(-self.head_dim // self.lanes)
        short, longer = divmod(self.head_dim, count)
        return (short + 1,) * longer + (short,) * (count - longer)

    @property
    def group_words(self) -> int:
        """Score words of one group of D rows, pass and head; the stride of all banks."""
        return self.lanes // 2 * len(self.chunks)

    @property
    def key_depth(self) -> int:
        """Words of one key bank. Address: ((place * passes + pass) * D / 2 + pair) * W + chunk."""
        return self.key_value_heads * self.passes * self.group_words

    @property
    def value_depth(self) -> int:
        """Words of one value bank. Address: (place * passes + pass) * head_dim / 2 + dim pair."""
        return self.key_value_heads * self.passes * self.head_dim // 2

    def key_address(self, place: int, pass_index: int = 0) -> int:
        """Where the keys of a place and pass begin in their bank."""
        return (place * self.passes + pass_index) * self.group_words

    def value_address(self, place: int, pass_index: int = 0) -> int:
        return (place * self.passes + pass_index) * self.head_dim // 2

    @property
    def operand_depth(self) -> int:
        """Words of the row's operand memory: q of two jobs, then the numerators of two jobs."""
        return 2 * (len(self.chunks) + self.blocks)

    @property
    def stagger(self) -> tuple[int, ...]:
        """Cycles by which each lane's operands come late: its place in its DSP cascade."""
        return tuple(product_stagger(self.lanes))

    @property
    def product_latency(self) -> int:
        return product_latency(self.lanes)

    @property
    def accumulator_shift(self) -> int:
        return attention_accumulator_shift(self.tokens)

    @property
    def score_sum_bits(self) -> int:
        """Signed width of q . k."""
        return (self.head_dim * SIGNED8.high**2).bit_length() + 1

    @property
    def sum_bits(self) -> int:
        """Signed width of the accumulators: q . k, or the sum of numerators times v with half of its shift."""
        half = (1 << self.accumulator_shift) >> 1
        return max(self.score_sum_bits, (self.tokens * int(EXP_TABLE[0]) * SIGNED8.high + half).bit_length() + 1)

    @property
    def pass_bits(self) -> int:
        return bits_for(self.passes - 1)

    @property
    def channel_bits(self) -> int:
        return bits_for(self.heads * self.head_dim - 1)

    @property
    def slot_bits(self) -> int:
        return bits_for(self.slots - 1)

    @property
    def operand_bits(self) -> int:
        return bits_for(self.operand_depth - 1)

    @property
    def score_words(self) -> int:
        return -(-self.tokens // 2) * len(self.chunks)

    @property
    def output_words(self) -> int:
        return self.head_dim // 2 * self.blocks

    @property
    def load_cycles(self) -> int:
        """Cycles that loading q of one job takes: every chunk is padded to D."""
        return self.lanes * len(self.chunks)

    @property
    def _softmax_cycles(self) -> int:
        return self.slots + ATTENTION_DIVIDEND_BITS + 10

    @property
    def score_cycles(self) -> int:
        packer = self.slots + self.load_cycles + self.product_latency + 12
        return max(self.score_words, self._softmax_cycles, packer)

    @property
    def output_cycles(self) -> int:
        return max(self.output_words, self._softmax_cycles, self.slots + self.product_latency + 12)

    @property
    def drain_cycles(self) -> int:
        """From the end of the last AV phase until every row has written."""
        return self.rows + self.product_latency + 14

    @property
    def settle_cycles(self) -> int:
        """From row 0's last key or value until it may be read."""
        return self.rows + 2

    def cycles(self, heads: int, passes: int) -> int:
        """Cycles of an ATTEND, from the one in which it is taken to the one of ``done``; keys do not matter."""
        jobs = heads * passes
        pause = self.output_cycles if jobs == 1 else 0
        return self.load_cycles + jobs * (self.score_cycles + self.output_cycles) + pause + self.drain_cycles


def _require(condition: bool, rule: str, value: object, remedy: str) -> None:
    if not condition:
        raise InputError(f"{rule}: {value} does not; {remedy}")
