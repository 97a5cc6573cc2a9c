"""`AttentionHarness`: engine, key/value memory and some rows' attention units, wired as the accelerator wires them."""

from itertools import product

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.attention_bus import AttendCommand, activation_address, attention_bus, collect_layout
from rtl.attention_engine import AttentionEngine
from rtl.tech.dsp48e2 import generic
from rtl.units.attention import Attention
from rtl.units.key_value import KeyValueMemory, select


class AttentionHarness(wiring.Component):
    """Row 0 sees the engine's bus, row r the same r cycles later.

    Parameters
    ----------
    config : AttentionConfig
    rows : rows that are built, out of all (the bus hops through all)

    Members
    -------
    i : the engine's command; done, busy, conflict: outputs
    collect, values : what row 0 emits and, in the same cycle, all rows' bytes; the harness delays row r by r cycles
    place : {valid, image, pass_index, address}: with valid, ``values`` is written to that place of the rows' activation memories
    held : bytes of the built rows at ``place``, 1 cycle later
    port_clash : sticky, a row read and wrote its activation memory in one cycle
    """

    def __init__(self, config, rows, technology=generic):
        self.config, self.rows, self.technology = config, tuple(rows), technology
        place = activation_address(config, "valid")
        super().__init__(
            {
                "i": In(stream.Signature(AttendCommand)),
                "busy": Out(1),
                "done": Out(1),
                "conflict": Out(1),
                "collect": In(collect_layout(config)),
                "values": In(data.ArrayLayout(signed(8), config.rows)),
                "place": In(place),
                "held": Out(data.ArrayLayout(8, len(self.rows))),
                "port_clash": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.engine = engine = AttentionEngine(config)
        m.submodules.memory = memory = KeyValueMemory(config)
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        m.d.comb += [
            self.busy.eq(engine.busy),
            self.done.eq(engine.done),
            self.conflict.eq(memory.conflict),
            memory.i.eq(self.collect),
            memory.read.eq(engine.read),
            engine.word.eq(memory.word),
        ]
        bus = engine.o_bus
        for row in range(config.rows):
            value = self.values[row]
            for _ in range(row):
                later = Signal(signed(8))
                m.d.sync += later.eq(value)
                value = later
            m.d.comb += memory.values[row].eq(value)
            if row:
                hop = Signal(attention_bus(config), name=f"bus{row}")
                m.d.sync += hop.eq(bus)
                bus = hop
            if row in self.rows:
                self._row(m, row, bus)
        return m

    def _row(self, m, row, bus):
        config = self.config
        m.submodules[f"row{row}"] = unit = Attention(config, self.technology)
        m.d.comb += unit.i_bus.eq(bus)
        read_bytes, held_bytes = [], []
        for image, index in product(range(2), range(config.passes)):
            memory = Memory(shape=8, depth=config.heads * config.head_dim, init=[])
            m.submodules[f"activation{row}_{image}_{index}"] = memory
            write, read, check = memory.write_port(), memory.read_port(), memory.read_port()

            def here(request, image=image, index=index):
                return (request.image == image) & (request.pass_index == index)

            loading = self.place.valid & here(self.place)
            m.d.comb += [
                read.addr.eq(unit.act_read.address),
                read.en.eq(unit.act_read.enable & here(unit.act_read)),
                check.addr.eq(self.place.address),
                write.en.eq(loading | (unit.act_write.valid & here(unit.act_write))),
                write.addr.eq(unit.act_write.address),
                write.data.eq(unit.act_write.value),
            ]
            with m.If(loading):
                m.d.comb += [write.addr.eq(self.place.address), write.data.eq(self.values[row].as_unsigned())]
            read_bytes.append(read.data)
            held_bytes.append(check.data)
        asked, shown = (Signal(range(2 * config.passes), name=f"{name}{row}") for name in ("asked", "shown"))
        m.d.sync += [
            register.eq(request.image * config.passes + request.pass_index)
            for register, request in ((asked, unit.act_read), (shown, self.place))
        ]
        m.d.comb += [
            unit.act_data.eq(select(read_bytes, asked)),
            self.held[self.rows.index(row)].eq(select(held_bytes, shown)),
        ]
        with m.If(Cat(unit.act_read.enable, unit.act_write.valid).all()):
            m.d.sync += self.port_clash.eq(1)
