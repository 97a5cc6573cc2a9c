"""`KeyValueMemory`: collects k and v from all rows, turns the corner, and gives the words of the attention bus."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.attention_bus import KeyValueKind, collect_layout, read_layout, word_layout
from rtl.attention_config import READ_LATENCY

__all__ = ["KeyValueBank", "KeyValueMemory", "select"]


def bank_members(config):
    """Members of `KeyValueBank`."""
    return {
        "i": In(collect_layout(config)),
        "values": In(data.ArrayLayout(signed(8), config.lanes)),
        "address": In(read_layout(config)["address"].shape),
        "key": Out(word_layout(config)),
        "value": Out(word_layout(config)),
        "conflict": Out(1),
    }


class KeyValueBank(wiring.Component):
    """Keys and values of one group of D adjacent rows: one memory each, one write port each.

    Keys: a shift register per row holds its last D dims. Row 2i + 1 ends a chunk 2i + 1 cycles after row 0 does; in that cycle the pair's
    word is complete (the last byte is still at the input). Pairs so follow each other by 2 cycles and need D - 1 cycles in all; the next
    chunk ends D - 1 cycles later or more (`AttentionConfig`), so a pair has the port to itself.
    Values: row r is delayed by D - 1 - r, so all rows meet; even dims wait for odd ones.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    i : In(collect_layout(config)), what this group's first row emits in this cycle; row r emits the same r cycles later
    values : In(ArrayLayout(signed(8), D)), the rows' bytes
    address : In, read address of both memories
    key, value : Out(word_layout(config)), 2 cycles after `address`
    conflict : Out(1), sticky: two chunks were in the corner at once (the law above was broken)
    """

    def __init__(self, config):
        self.config = config
        super().__init__(bank_members(config))

    def elaborate(self, platform):
        m = Module()
        base = Signal(range(max(2, self.config.heads * self.config.passes)))
        m.d.comb += base.eq(self.i.head * self.config.passes + self.i.pass_index)
        self._keys(m, base)
        self._values(m, base)
        return m

    def _memory(self, m, name, depth, word):
        """A memory whose read word is registered once more. Returns its write port."""
        m.submodules[name] = memory = Memory(shape=word.shape(), depth=depth, init=[], attrs={"ram_style": "block"})
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [read.en.eq(1), read.addr.eq(self.address)]  # the other kind's address may be out of range: never selected
        m.d.sync += word.eq(read.data)
        return write

    def _keys(self, m, base):
        config = self.config
        write = self._memory(m, "keys", config.key_depth, self.key)
        ends = [sum(config.chunks[: index + 1]) - 1 for index in range(len(config.chunks))]
        chunk = Signal(range(len(ends)))
        ending = Signal()
        for index, end in enumerate(ends):
            with m.If(self.i.dim == end):
                m.d.comb += [ending.eq(self.i.valid & (self.i.kind == KeyValueKind.KEY)), chunk.eq(index)]
        # Bit k: a chunk ended (a value came) at the first row k cycles ago. Odd places from 1 on write a pair.
        ended = Cat(ending, _history(m, ending, config.lanes - 1))
        valid = Cat(self.i.valid, _history(m, self.i.valid, config.lanes - 1))
        row_words = self._row_words(m, valid)

        first_address = Signal(range(config.key_depth), reset_less=True)
        pair = Signal(range(max(2, config.lanes // 2)), reset_less=True)
        pairs = [Cat(row_words[2 * k][0], row_words[2 * k + 1][1]) for k in range(config.lanes // 2)]
        finishing = ended[1::2].any()
        m.d.sync += [first_address.eq(base * config.group_words + chunk), write.en.eq(finishing)]
        with m.If(ended[0]):
            m.d.sync += pair.eq(0)
        with m.If(finishing):
            m.d.sync += [
                write.data.eq(select(pairs, pair)),
                write.addr.eq(Mux(ended[1], first_address, write.addr + len(ends))),
            ]
            with m.If(~ended[0]):
                m.d.sync += pair.eq(pair + 1)
        with m.If(ended[1] & ended[2:].any()):
            m.d.sync += self.conflict.eq(1)

    def _row_words(self, m, valid):
        """Per row: (its last D bytes, the same with the byte that is coming)."""
        words = []
        for row in range(self.config.lanes):
            held = Signal(8 * self.config.lanes, name=f"held{row}", reset_less=True)
            coming = Cat(held[8:], self.values[row].as_unsigned())
            with m.If(valid[row]):
                m.d.sync += held.eq(coming)
            words.append((held, coming))
        return words

    def _values(self, m, base):
        config = self.config
        write = self._memory(m, "values", config.value_depth, self.value)
        wait = config.lanes - 1
        dim = _delay(m, self.i.dim, wait)
        valid = _history(m, self.i.valid & (self.i.kind == KeyValueKind.VALUE), wait)[-1]
        address = Signal(range(config.value_depth), reset_less=True)
        m.d.sync += address.eq(base * (config.head_dim // 2) + (self.i.dim >> 1))
        aligned = Cat(_delay(m, self.values[row], wait - row) for row in range(config.lanes))
        even = Signal(8 * config.lanes, reset_less=True)
        with m.If(valid & ~dim[0]):
            m.d.sync += even.eq(aligned)
        m.d.comb += [
            write.en.eq(valid & dim[0]),
            write.addr.eq(_delay(m, address, wait - 1)),
            write.data.eq(Cat(even, aligned)),
        ]


class KeyValueMemory(wiring.Component):
    """The collector and the memories of keys and values of one layer: a `KeyValueBank` per group of D rows.

    Parameters
    ----------
    config : AttentionConfig
    bank : builds a `KeyValueBank`, or a module that stands for one

    Members
    -------
    i : In(collect_layout(config)), what row 0 emits in this cycle: one value per cycle at most, gaps anywhere. Per pass and head all dims
        in order; a pair of dims (2m, 2m + 1) of v and a chunk of dims of k must not be interrupted by another head, pass or kind
    values : In(ArrayLayout(signed(8), rows)): row r's byte for what row 0 emitted r cycles ago; in [-127, 127]
    read : In(read_layout(config)), a request per cycle
    word : Out(word_layout(config)), READ_LATENCY = 3 cycles after `read`
    conflict : Out(1), sticky, must stay 0; see `KeyValueBank`

    Timing
    ------
    A value may be read `settle` = rows + 1 cycles after row 0 emitted the last one.
    """

    def __init__(self, config, bank=KeyValueBank):
        self.config, self.bank = config, bank
        self.settle = config.rows + 1
        super().__init__(
            {
                "i": In(collect_layout(config)),
                "values": In(data.ArrayLayout(signed(8), config.rows)),
                "read": In(read_layout(config)),
                "word": Out(word_layout(config)),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, lanes = self.config, self.config.lanes
        control, conflicts, keys, values = self.i, [], [], []
        for group in range(config.groups):
            m.submodules[f"bank{group}"] = bank = self.bank(config)
            m.d.comb += [
                bank.i.eq(control),
                bank.address.eq(self.read.address),
                bank.values.eq(Cat(self.values[group * lanes + k] for k in range(lanes))),
            ]
            conflicts.append(bank.conflict)
            keys.append(Value.cast(bank.key))
            values.append(Value.cast(bank.value))
            if group + 1 < config.groups:
                control = self._later(m, control, lanes)
        kind, group = _delay(m, self.read.kind, READ_LATENCY - 1), _delay(m, self.read.group, READ_LATENCY - 1)
        m.d.sync += self.word.eq(Mux(kind == KeyValueKind.VALUE, select(values, group), select(keys, group)))
        m.d.comb += self.conflict.eq(Cat(conflicts).any())
        return m

    def _later(self, m, control, cycles):
        """``control``, delayed; ``valid`` with reset, the rest without (shift-register LUTs)."""
        later = Signal.like(control)
        m.d.comb += [
            later.eq(_delay(m, control.as_value(), cycles)),
            later.valid.eq(_history(m, control.valid, cycles)[-1]),
        ]
        return later


def select(values, index):
    """``values[index]``; the last value answers every index above (an incomplete choice is a warning in Verilog tools)."""
    padding = (1 << len(index)) - len(values)
    return Array([*values, *[values[-1]] * padding])[index]


def _history(m, bit, cycles):
    """``bit`` as it was 1, 2, ... ``cycles`` cycles ago, in that order; 0 before reset."""
    past = Signal(cycles)
    m.d.sync += past.eq(Cat(bit, past))
    return past


def _delay(m, value, cycles):
    for _ in range(cycles):
        later = Signal.like(value, reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value
