"""Both halves of LayerNorm: bit-exact and exact to the cycle."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.errors import InputError
from rtl.flow.plain_shell import PlainShell
from rtl.units.layernorm import LayerNormNormalize, LayerNormNormalizeConfig, LayerNormStatisticsConfig
from rtl.units.layernorm_sequence import StatisticsSequence
from rtl.units.protocol import delay
from sim_tests.cocotb.runner import run_bench


class ControlledStatistics(wiring.Component):
    """The unit and its control, which wants to know of a value before it comes."""

    def __init__(self, config: LayerNormStatisticsConfig) -> None:
        self.unit, self.sequence = config.build(), config.sequence()
        flags = {name: In(1) for name in ("valid", "first", "last")}
        members = {name: self.unit.signature.members[name] for name in ("i", "token", "minus_mean2", "rsqrt")}
        super().__init__({**flags, **members, "i_token": In(config.token_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit, m.submodules.sequence = unit, sequence = self.unit, self.sequence
        m.d.comb += [getattr(sequence, name).eq(getattr(self, name)) for name in ("valid", "first", "last")]
        m.d.comb += [sequence.token.eq(self.i_token), unit.control.eq(sequence.control), unit.token.eq(self.token)]
        m.d.comb += unit.i.eq(delay(m, self.i, sequence.LEAD, name="value"))
        m.d.comb += [self.minus_mean2.eq(unit.minus_mean2), self.rsqrt.eq(unit.rsqrt)]
        return m


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_normalize(bits: int) -> None:
    parameters = {"bits": bits, "offsets": LayerNormNormalize.OFFSETS, "latency": LayerNormNormalize.latency, "choices": 3}
    unit = PlainShell(LayerNormNormalizeConfig(bits=bits).build())
    run_bench(unit, module="sim_tests.cocotb.bench_layernorm", parameters=parameters, name="layernorm_normalize")


@pytest.mark.parametrize("embed_dim, tokens", [(64, 1), (64, 6), (192, 8), (768, 6), (1024, 2)])
def test_statistics(embed_dim: int, tokens: int) -> None:
    config = LayerNormStatisticsConfig(embed_dim=embed_dim, tokens=tokens)
    parameters = {"embed_dim": embed_dim, "tokens": tokens, "token_bits": config.token_bits}
    parameters["finish_latency"] = config.finish_latency + StatisticsSequence.LEAD
    unit = ControlledStatistics(config)
    run_bench(unit, module="sim_tests.cocotb.bench_layernorm_statistics", parameters=parameters, name="layernorm_statistics")


def test_published_timing() -> None:
    assert LayerNormNormalize.latency == 13
    assert [LayerNormNormalize.OFFSETS[port] for port in ("minus_mean2", "rsqrt", "gamma", "beta")] == [0, 1, 7, 7]
    assert [LayerNormStatisticsConfig(embed_dim=width).finish_latency for width in (64, 192, 384, 768, 1024)] == [90, 92, 95, 95, 96]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"embed_dim": 66}, "embed_dim must be a multiple of 4: 66 does not; round it up"),
        ({"embed_dim": 2048}, r"embed_dim must be 4\.\.1024: 2048 does not"),
        ({"tokens": 0}, r"tokens must be 1\.\.32: 0 does not; use more rows"),
    ],
)
def test_wrong_parameters(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LayerNormStatisticsConfig(**wrong)


def test_wrong_bits() -> None:
    with pytest.raises(InputError, match=r"bits must be 1\.\.8: 0 does not"):
        LayerNormNormalizeConfig(bits=0)
