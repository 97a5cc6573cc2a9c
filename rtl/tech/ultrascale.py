"""UltraScale+ building blocks of the dot products: tables in RAM32M16, adders of one LUT6_2 per bit on CARRY8.

Yosys infers neither the dual-output LUT, nor the ternary adder, nor seven read ports in eight LUTs; hence explicit primitives. They do
not run in Amaranth's simulator: `rtl.tech.generic` is the twin, and `sim_tests/netlist` proves the two equal.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.utils import bits_for

from rtl.shapes import GROUP
from rtl.tech.table_layout import TableLayout
from rtl.tech.technology import table_members


def dual_lut(m: Module, inputs: list, upper, lower) -> tuple[Value, Value]:
    """A LUT6_2: two functions, `upper` (O6) and `lower` (O5), of up to five shared inputs. Both take and return 0 or 1."""
    inputs = inputs + [Const(0, 1)] * (5 - len(inputs))
    init = 0
    for address in range(32):
        bits = [address >> k & 1 for k in range(5)]
        init |= (lower(*bits) & 1) << address | (upper(*bits) & 1) << (32 + address)
    o6, o5 = Signal(), Signal()
    pins = {f"i_I{k}": value for k, value in enumerate(inputs)}
    m.submodules += Instance("LUT6_2", p_INIT=Const(init, 64), i_I5=Const(1, 1), o_O6=o6, o_O5=o5, **pins)
    return o6, o5


def _lut(m: Module, column: list[int], inputs: list) -> Value:
    """``column[inputs]`` in a LUT as small as can be."""
    for k in reversed(range(len(inputs))):
        low, high = ([bit for address, bit in enumerate(column) if address >> k & 1 == side] for side in (0, 1))
        if low == high:
            column, inputs = low, inputs[:k] + inputs[k + 1 :]
    if not inputs:
        return Const(column[0], 1)
    init, o = Const(sum(bit << address for address, bit in enumerate(column)), len(column)), Signal()
    pins = {f"i_I{k}": value for k, value in enumerate(inputs)}
    m.submodules += Instance(f"LUT{len(inputs)}", p_INIT=init, o_O=o, **pins)
    return o


def carry_chain(m: Module, propagate: list, generate: list) -> Value:
    """CARRY8s in a row: bit k of the result is ``propagate[k] ^ carry[k]``; the next carry is ``propagate[k] ? carry[k] : generate[k]``."""
    outputs, carry = [], Const(0, 1)
    for start in range(0, len(propagate), 8):
        used = len(propagate[start : start + 8])
        s, di = (Cat(*bits[start : start + 8], Const(0, 8 - used)) for bits in (propagate, generate))
        o, co = Signal(8), Signal(8)
        m.submodules += Instance("CARRY8", p_CARRY_TYPE="SINGLE_CY8", i_CI=carry, i_CI_TOP=Const(0, 1), i_S=s, i_DI=di, o_O=o, o_CO=co)
        outputs.append(o[:used])
        carry = co[7]
    return Cat(*outputs)


def _bit(value: Value, index: int) -> Value:
    return value[index] if index < len(value) else Const(0, 1)


class LutRamTables(wiring.Component):
    """The tables of a row in RAM32M16s, packed as the layout says, and their output registers.

    Port H of a RAM is its write address, ports A to G read: address ``{bank, weight bits}``, two bits of one table each.
    """

    def __init__(self, layout: TableLayout):
        self.layout = layout
        super().__init__(table_members(layout))

    def elaborate(self, platform):
        m = Module()
        width = self.o.shape().elem_shape.width
        entries = [Signal(2 * self.layout.pairs, name=f"entry_{group}") for group in range(self.layout.groups)]
        for index, ram in enumerate(self.layout.rams):
            enable = self.enable[ram.first] if ram.first == ram.last else self.enable_shared[ram.first]
            pins = dict(i_WE=enable, i_WCLK=ClockSignal(), i_ADDRH=self.bank_entry, i_DIH=Const(0, 2))
            for letter, port in zip("ABCDEFG", [*ram.ports, *[None] * 7], strict=False):
                pins |= self._port(letter, port, entries)
            m.submodules[f"ram_{index}"] = Instance("RAM32M16", **pins)
        for group, entry in enumerate(entries):
            register = Signal(width, name=f"table_{group}", reset_less=True)
            m.d.sync += register.eq(entry[:width])
            m.d.comb += self.o[group].eq(register)
        return m

    def _port(self, letter: str, port: tuple[int, int] | None, entries: list) -> dict:
        """Pins of one read port; unused ports are tied low."""
        if port is None:
            return {f"i_ADDR{letter}": Const(0, 5), f"i_DI{letter}": Const(0, 2)}
        group, pair = port
        written = self.data[self.layout.lane_of(group)]
        address = Cat(self.weights[GROUP * group : GROUP * (group + 1)], self.bank)
        return {
            f"i_ADDR{letter}": address,
            f"i_DI{letter}": Cat(_bit(written, 2 * pair), _bit(written, 2 * pair + 1)),
            f"o_DO{letter}": entries[group][2 * pair : 2 * pair + 2],
        }


class Ultrascale:
    """The technology of Xilinx UltraScale+ devices."""

    name = "ultrascale"

    def layout(self, inputs: int, bits: int) -> TableLayout:
        return TableLayout.smallest(inputs, bits)

    def tables(self, layout: TableLayout) -> wiring.Component:
        return LutRamTables(layout)

    def table(self, m: Module, values: list[int], index: Value) -> Value:
        """``values[index]`` of 2**len(index) <= 64 constants: one LUT per bit, of the inputs that the bit depends on.

        A mapper finds neither a table of many entries, nor does it keep six inputs in one LUT while two smaller ones seem cheaper.
        """
        return Cat(_lut(m, [value >> bit & 1 for value in values], list(index)) for bit in range(bits_for(max(values))))

    def add(self, m: Module, terms: list[Value], shape: Shape) -> Value:
        """Sum of two or three unsigned terms: one LUT per bit.

        Three terms: a LUT makes the carry-save sum of its bit, adds the carry-save carry t of the bit below, and sends up its own:
        O6 = a ^ b ^ c ^ t, O5 = majority(a, b, c); CARRY8 adds the two words.
        """
        propagate, generate, carry = [], [], Const(0, 1)
        for index in range(shape.width):
            bits = [_bit(term, index) for term in terms]
            if len(terms) == 2:
                propagate.append(dual_lut(m, bits, lambda a, b, *_: a ^ b, lambda *_: 0)[0])
                generate.append(bits[0])
                continue
            generate.append(carry)
            o6, carry = dual_lut(m, [*bits, carry], lambda a, b, c, t, _: a ^ b ^ c ^ t, lambda a, b, c, *_: (a & b) | (a & c) | (b & c))
            propagate.append(o6)
        return carry_chain(m, propagate, generate)

    def add_masked(self, m: Module, first: tuple[Value, Value], second: tuple[Value, Value], shape: Shape) -> Value:
        """Sum of two (value, enable) pairs, each counted if enabled: one LUT per bit."""
        (a, enable_a), (b, enable_b) = first, second
        pairs = [
            dual_lut(
                m,
                [_bit(a, index), enable_a, _bit(b, index), enable_b],
                lambda x, use_x, y, use_y, _: (x & use_x) ^ (y & use_y),
                lambda x, use_x, *_: x & use_x,
            )
            for index in range(shape.width)
        ]
        return carry_chain(m, [o6 for o6, _ in pairs], [o5 for _, o5 in pairs])
