"""Who uses the ports of the rows' token memories in this cycle: decided once, in front of row 0, and hopped with the row bus."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.attention_bus import activation_address
from rtl.attention_config import AttentionConfig
from rtl.config import AcceleratorConfig
from rtl.row_bus import (
    ActivationSource,
    ComputeCommand,
    FillCommand,
    LoadBus,
    LoadKind,
    WriteKind,
    activation_address_bits,
    activation_channels,
    residual_address_bits,
    row_bus,
)

FIELDS = ("residual_read", "residual_write", "activation_read", "activation_source", "activation_write", "position", "query_image")


def client_members(config: AcceleratorConfig) -> dict:
    """Clients that come with the attention bus and the load bus."""
    attention = AttentionConfig.of(config)
    return {
        "attention_read": In(activation_address(attention, "enable")),
        "attention_output": In(activation_address(attention, "valid")),
        "load": In(LoadBus),
        "position_busy": Out(1),
    }


class TokenPorts(wiring.Component):
    """Merges all accesses into one address per memory port.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    fill, fill_activation : the fill command at offsets 0 and ``fill_activation``
    read, before, result, write : the compute command at offsets ``residual`` - 1, ``result`` - 1, ``result`` and ``write``
    attention_read, attention_output : ``act_read`` and ``output`` of the attention bus that enters row 0 in this cycle
    load : what enters row 0 in this cycle
    position_busy : a POSITION beat on ``load`` in the next cycle would be lost to the linear path: the loader must not send it
    residual_read, ... : the fields of the row bus

    Timing
    ------
    Combinational, but for ``activation_write`` and ``residual_write``, which follow their source by one cycle.

    Who may meet whom, by the order of the program (`rtl.program`): the two residual reads never want the same pass, one image's
    activations have at most one reader and one writer in a cycle. A linear residual write is preferred to POSITION.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        layout = row_bus(config)
        commands = {"fill": In(FillCommand), "fill_activation": In(FillCommand)}
        commands |= {name: In(ComputeCommand) for name in ("read", "before", "result", "write")}
        super().__init__({**commands, **client_members(config), **{name: Out(layout[name].shape) for name in FIELDS}})

    def elaborate(self, platform):
        m = Module()
        self._residuals(m)
        for image in range(self.config.images):
            self._activations(m, image)
        m.d.sync += self.query_image.eq(self.attention_read.image)
        return m

    def _residual_address(self, token):
        channel_bits = ceil_log2(self.config.shape.embed_dim)
        return Cat(token.address[:channel_bits], token.image)[: residual_address_bits(self.config)]

    def _activation_address(self, m, token, name):
        channel = Signal(ceil_log2(activation_channels(self.config)), name=f"{name}_channel")
        m.d.comb += channel.eq(token.address)
        return Cat(channel, token.pass_index)[: activation_address_bits(self.config)]

    def _residuals(self, m):
        fill, read, load = self.fill, self.read, self.load.token
        busy, position, write = Signal(), Signal(), self.residual_write
        m.d.comb += [
            self.position_busy.eq(self.before.kind == WriteKind.RESIDUAL),
            busy.eq(self.result.kind == WriteKind.RESIDUAL),
            position.eq(self.load.valid & (self.load.kind == LoadKind.POSITION) & ~busy),
            self.position.eq(position),
        ]
        for index in range(self.config.passes):
            mine = fill.valid & fill.normalized & (fill.pass_index == index)
            m.d.comb += self.residual_read[index].eq(Mux(mine, self._residual_address(fill), self._residual_address(read)))
            m.d.sync += [
                write.linear[index].eq(busy & (self.result.pass_index == index)),
                write.position[index].eq(position & (load.pass_index == index)),
            ]
        m.d.sync += write.address.eq(Mux(busy, self._residual_address(self.result), self._residual_address(load)))

    def _activations(self, m, image):
        """Ports of one image's memory."""
        fill, load, read, output = self.fill_activation, self.load.token, self.attention_read, self.attention_output
        tokens = {"fill": fill, "read": read, "output": output, "load": load, "write": self.write}
        place = {name: self._activation_address(m, token, f"{name}_{image}") for name, token in tokens.items()}
        filled = fill.valid & ~fill.normalized & (fill.image == image)
        linear, attended, pixel = Signal(name=f"linear_{image}"), Signal(name=f"attended_{image}"), Signal(name=f"pixel_{image}")
        write, source = self.activation_write[image], self.activation_source[image]
        m.d.comb += [
            self.activation_read[image].eq(Mux(filled, place["fill"], place["read"])),
            linear.eq((self.write.kind == WriteKind.ACTIVATION) & (self.write.image == image)),
            attended.eq(output.valid & (output.image == image)),
            pixel.eq(self.load.valid & (self.load.kind == LoadKind.PIXEL) & (self.load.token.image == image)),
        ]
        with m.If(attended):
            m.d.comb += source.eq(ActivationSource.ATTENTION)
            m.d.sync += write.address.eq(place["output"])
        with m.Elif(pixel):
            m.d.comb += source.eq(ActivationSource.PIXEL)
            m.d.sync += write.address.eq(place["load"])
        with m.Else():
            m.d.comb += source.eq(Mux(self.write.table_enable, ActivationSource.TABLE, ActivationSource.PLAIN))
            m.d.sync += write.address.eq(place["write"])
        m.d.sync += [write.valid.eq(linear | attended), write.pixel.eq(pixel)]
