"""`KeyValueMemory`: collects k and v from all rows, turns the corner, and gives the words of the attention bus."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from rtl.arith.constant_table import constant_table
from rtl.attention_bus import KeyValueKind, collect_layout, read_layout, word_layout
from rtl.attention_config import READ_LATENCY
from rtl.tech import dsp48e2
from rtl.units.protocol import LUT_INPUTS

__all__ = ["KeyValueBank", "KeyValueMemory", "select"]

#: A block RAM: 512 words of 72 bits, or fewer bits of more words.
_BLOCK_BITS, _WIDEST_COLUMN = 512 * 72, 72


def bank_members(config, rows):
    """Members of a `KeyValueBank` of ``rows`` rows."""
    return {
        "i": In(collect_layout(config)),
        "values": In(data.ArrayLayout(signed(8), rows)),
        "address": In(read_layout(config)["address"].shape),
        "key": Out(word_layout(config)),
        "value": Out(word_layout(config)),
        "conflict": Out(1),
    }


class KeyValueBank(wiring.Component):
    """Keys and values of one group of adjacent rows: one memory each, one write port each.

    Keys: a shift register per row holds its last D dims. Row 2i + 1 ends a chunk 2i + 1 cycles after row 0 does; in that cycle the pair's
    word is complete (the last byte is still at the input) and is captured. All other pairs' captures are 0 then, so that the words are
    chosen by OR, at two LUTs per bit. Pairs follow each other by 2 cycles and need rows - 1 cycles in all; the next chunk ends D - 1
    cycles later or more (`AttentionConfig`), so a pair has the port to itself.
    Values: row r is delayed by rows - 1 - r, so all rows meet; even dims wait for odd ones.

    Parameters
    ----------
    config : AttentionConfig
    rows : int, of this group: an element of ``config.group_rows``

    Members
    -------
    i : In(collect_layout(config)), what this group's first row emits in this cycle; row r emits the same r cycles later
    values : In(ArrayLayout(signed(8), rows)), the rows' bytes
    address : In, read address of both memories
    key, value : Out(word_layout(config)), 2 cycles after `address`. The value lanes of rows that the group lacks, the first, are 0
    conflict : Out(1), sticky: two chunks were in the corner at once (the law above was broken)

    Timing
    ------
    A pair's key word is written 2 cycles after its last byte, values in the cycle of the last row's byte.
    """

    def __init__(self, config, rows):
        self.config, self.rows = config, rows
        super().__init__(bank_members(config, rows))

    def elaborate(self, platform):
        m = Module()
        self._keys(m)
        self._values(m)
        return m

    def _base(self, m, address_of, name):
        """Where the place and pass at `i` begin in a memory, ``address_of(place, pass_index)``: looked up, not multiplied."""
        config = self.config
        columns, places = 1 << len(self.i.pass_index), range(config.key_value_heads)
        table = [address_of(place, min(index, config.passes - 1)) for place in places for index in range(columns)]
        return constant_table(m, table, Cat(self.i.pass_index, self.i.head), name, getattr(dsp48e2, config.technology))

    def _memory(self, m, name, depth, shape):
        """A memory whose read word is registered once more. Returns its write port's signals and that word.

        It is cut into columns that fill one block RAM each, so that no multiplexer follows them; and where that takes fewer of them,
        into a part of a power of two of words and a rest, and one multiplexer.
        """
        size = shape.size
        write = Signal(data.StructLayout({"en": 1, "addr": bits_for(depth - 1), "data": size}), name=f"{name}_write", reset_less=True)
        word = Signal(shape, name=f"{name}_word", reset_less=True)
        if len(parts := memory_parts(depth, size)) == 1:
            m.d.sync += word.eq(self._columns(m, name, depth, size, write, write.en))
            return write, word
        place, top = len(write.addr) - 1, parts[0]
        rest = Signal()
        m.d.sync += rest.eq(self.address[place])
        upper = write.addr[place]
        low = self._columns(m, name, top, size, write, write.en & ~upper)
        high = self._columns(m, f"{name}_rest", depth - top, size, write, write.en & upper)
        m.d.sync += word.eq(Mux(rest, high, low))
        return write, word

    def _columns(self, m, name, depth, size, write, enable):
        """Block RAMs side by side, ``depth`` words; the word of the cycle before's address."""
        words, width = [], column_width(depth)
        for first in range(0, size, width):
            used = min(width, size - first)
            column = Memory(shape=used, depth=depth, init=[], attrs={"ram_style": "block"})
            m.submodules[f"{name}_memory{first}"] = column
            write_port, read = column.write_port(), column.read_port()
            m.d.comb += [
                read.en.eq(1),
                read.addr.eq(self.address[: len(read.addr)]),  # the other kind's address may be out of range: never selected
                write_port.en.eq(enable),
                write_port.addr.eq(write.addr[: len(write_port.addr)]),
                write_port.data.eq(write.data[first : first + used]),
            ]
            words.append(read.data)
        return Cat(words)

    def _keys(self, m):
        config, rows = self.config, self.rows
        write, word = self._memory(m, "key", config.key_depth, self.key.shape())
        ends = [sum(config.chunks[: index + 1]) - 1 for index in range(len(config.chunks))]
        chunk, chunk_1 = Signal(range(len(ends))), Signal(range(len(ends)), reset_less=True)
        ending = Signal()
        for index, end in enumerate(ends):
            with m.If(self.i.dim == end):
                m.d.comb += [ending.eq(self.i.valid & (self.i.kind == KeyValueKind.KEY)), chunk.eq(index)]
        # Bit k: a chunk ended (a value came) at the first row k cycles ago. Odd places capture a pair, even ones write it.
        ended = Cat(ending, _history(m, ending, rows))
        valid = Cat(self.i.valid, _history(m, self.i.valid, rows - 1))
        # One chunk is in the corner at a time. others: it ended between 1 and rows - 2 cycles before; finishing: an odd number of cycles.
        others, finishing = Signal(), Signal()
        base, first_address = (Signal(range(config.key_depth), name=name, reset_less=True) for name in ("base", "first_address"))
        m.d.comb += self.key.eq(word)
        m.d.sync += [
            base.eq(self._base(m, config.key_address, "key_base")),
            chunk_1.eq(chunk),
            first_address.eq(base + chunk_1),
            others.eq((ended[1] & (rows > 2)) | (others & ~ended[rows - 1])),
            finishing.eq(ended[1] | (others & ~finishing)),
            write.en.eq(finishing),
            write.data.eq(self._merged(m, self._captures(m, valid, ended))),
        ]
        with m.If(finishing):
            m.d.sync += write.addr.eq(Mux(ended[2], first_address, write.addr + len(ends)))
        with m.If(ended[1] & others):
            m.d.sync += self.conflict.eq(1)

    def _captures(self, m, valid, ended):
        """Per pair of rows: its word, one cycle after it is complete; 0 in all other cycles."""
        lanes, captures = self.config.lanes, []
        for row in range(0, self.rows, 2):
            halves = []
            for key in range(2):
                held = Signal(8 * lanes, name=f"held{row + key}", reset_less=True)
                coming = Cat(held[8:], self.values[row + key].as_unsigned())
                with m.If(valid[row + key]):
                    m.d.sync += held.eq(coming)
                halves.append(coming if key else held)
            capture = Signal(2 * 8 * lanes, name=f"capture{row}", reset_less=True)
            m.d.sync += capture.eq(Mux(ended[row + 1], Cat(halves), 0))
            captures.append(capture)
        return captures

    def _merged(self, m, words):
        """OR of all, two LUTs per bit for up to 11: the inner six are kept together, which a mapper that counts levels would not do."""
        if len(words) > LUT_INPUTS:
            inner = Signal(len(words[0]), name="merged", attrs={"keep": 1})
            m.d.comb += inner.eq(reduce(or_, words[:LUT_INPUTS]))
            words = [inner, *words[LUT_INPUTS:]]
        return reduce(or_, words)

    def _values(self, m):
        config, rows = self.config, self.rows
        held = data.ArrayLayout(data.ArrayLayout(signed(8), rows), 2)
        write, word = self._memory(m, "value", config.value_depth, held)
        wait = rows - 1
        dim = _delay(m, self.i.dim, wait)
        valid = _history(m, self.i.valid & (self.i.kind == KeyValueKind.VALUE), wait)[-1]
        address = Signal(range(config.value_depth), reset_less=True)
        m.d.sync += address.eq(self._base(m, config.value_address, "value_base") + (self.i.dim >> 1))
        aligned = Cat(_delay(m, self.values[row], wait - row) for row in range(rows))
        even = Signal(8 * rows, reset_less=True)
        with m.If(valid & ~dim[0]):
            m.d.sync += even.eq(aligned)
        m.d.comb += [
            write.en.eq(valid & dim[0]),
            write.addr.eq(_delay(m, address, wait - 1)),
            write.data.eq(Cat(even, aligned)),
            *(self.value[half][config.lanes - rows + row].eq(word[half][row]) for half in range(2) for row in range(rows)),
        ]


def memory_parts(depth, size):
    """Words of the parts that a bank's memory is cut into: all, or a power of two and the rest, where that takes fewer block RAMs."""
    top = 1 << (bits_for(depth - 1) - 1)
    rest = depth - top
    return [top, rest] if rest and _columns(top, size) + _columns(rest, size) < _columns(depth, size) else [depth]


def column_width(depth):
    """Bits of a word that one block RAM holds at this depth."""
    return max(_BLOCK_BITS // max(1 << bits_for(depth - 1), _BLOCK_BITS // _WIDEST_COLUMN), 1)


def _columns(depth, size):
    """Block RAMs that words of ``size`` bits take."""
    return -(-size // column_width(depth))


class KeyValueMemory(wiring.Component):
    """The collector and the memories of keys and values of one layer: a `KeyValueBank` per group.

    Parameters
    ----------
    config : AttentionConfig
    bank : called with (config, rows of the group): builds a `KeyValueBank`, or a module that stands for one

    Members
    -------
    i : In(collect_layout(config)), what row 0 emits in this cycle: one value per cycle at most, gaps anywhere. Per pass and head all dims
        in order; a pair of dims (2m, 2m + 1) of v and a chunk of dims of k must not be interrupted by another head, pass or kind
    values : In(ArrayLayout(signed(8), rows)): row r's byte for what row 0 emitted r cycles ago; in [-127, 127]
    read : In(read_layout(config)), a request per cycle
    word : Out(word_layout(config)), READ_LATENCY = 3 cycles after `read`
    conflict : Out(1), sticky, must stay 0: an error of the machine; see `KeyValueBank`

    Timing
    ------
    A value may be read `config.settle_cycles` after row 0 emitted the last one.
    """

    def __init__(self, config, bank=KeyValueBank):
        self.config, self.bank = config, bank
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
        for group, rows in enumerate(config.group_rows):
            m.submodules[f"bank{group}"] = bank = self.bank(config, rows)
            m.d.comb += [
                bank.i.eq(control),
                bank.address.eq(self.read.address),
                bank.values.eq(Cat(self.values[group * lanes + k] for k in range(rows))),
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
