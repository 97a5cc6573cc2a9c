"""`TapCascade` and `DepthwiseChannel`: generic twin == explicit slices and LUTs, cycle by cycle; the sums of a cascade are exact."""

import gc
import random

import pytest
from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.flow.verilog import export
from rtl.tech.dsp48e2 import generic, ultrascale
from rtl.tech.tap_cascade import LANE_BITS, TAP_LIMIT, TapCascade
from rtl.units.depthwise_channel import DepthwiseChannelConfig
from rtl.units.depthwise_parameters import CHANNEL_PARAMETERS
from sim_tests.netlist import verilate
from sim_tests.netlist.test_adders import lut_model
from sim_tests.netlist.test_dsp48e2 import MODEL, PRIMITIVES, draw, pack, signed_of

CYCLES, SETTLED = 2000, 60
TAPS = (1, 4, 5, TAP_LIMIT)
TECHNOLOGIES = (generic, ultrascale)


def units(technology) -> dict[str, wiring.Component]:
    cascades = {f"cascade{taps}": TapCascade(taps, technology) for taps in TAPS}
    return cascades | {"channel": DepthwiseChannelConfig(technology=technology).build()}


class Both(wiring.Component):
    """Every unit in both technologies, on the same inputs."""

    def __init__(self):
        self.units, ports = {technology.name: units(technology) for technology in TECHNOLOGIES}, {}
        for technology, made in self.units.items():
            for name, unit in made.items():
                for port, member in unit.signature.members.items():
                    ports[self._port(name, port, member, technology)] = member
        super().__init__(ports)

    @staticmethod
    def _port(name, port, member, technology):
        return f"{name}_{port}" + (f"_{technology}" if member.flow == Out else "")

    def elaborate(self, platform):
        m = Module()
        for technology, made in self.units.items():
            for name, unit in made.items():
                m.submodules[f"{name}_{technology}"] = unit
                for port, member in unit.signature.members.items():
                    inner, outer = getattr(unit, port), getattr(self, self._port(name, port, member, technology))
                    m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m

    def widths(self, flow):
        members = self.signature.members.items()
        return {name: len(Value.cast(getattr(self, name))) for name, member in members if member.flow == flow}


def draw_word(rng: random.Random, name: str, width: int) -> int:
    """Bytes of pixels and weights at their ends often; a bias of half the range, for it meets an accumulator."""
    if name.endswith(("_w", "weights")):
        limit = rng.choice((None, 127, -127))
        return pack([draw(rng, -127, 127) if limit is None else limit for _ in range(width // 8)], 8)
    if name.endswith(("x0", "x1")):
        limit = rng.choice((None, 127, -128))
        return pack([draw(rng, -128, 127) if limit is None else limit for _ in range(width // 8)], 8)
    word = rng.getrandbits(width)
    if name.endswith("parameters"):
        bias = CHANNEL_PARAMETERS["bias"]
        word &= ~((1 << bias.width) - 1)
        word |= rng.randint(-(1 << bias.width - 2), (1 << bias.width - 2) - 1) & (1 << bias.width) - 1
    return word


@pytest.fixture(scope="module")
def run_both(tmp_path_factory):
    top = Both()
    inputs, outputs = {"rst": 1, **top.widths(In)}, top.widths(Out)
    verilog = export(top, "top") + MODEL.read_text(encoding="utf-8") + PRIMITIVES + "".join(map(lut_model, range(1, 7)))
    run = verilate.build(tmp_path_factory.mktemp("both"), verilog, "top", inputs, outputs)

    def results(seed):
        rng = random.Random(seed)
        vectors = [{name: draw_word(rng, name, width) for name, width in inputs.items()} for _ in range(CYCLES)]
        for cycle, vector in enumerate(vectors):
            vector["rst"] = 0
            if cycle % 3 == 0:
                vector["channel_more"] = 0  # three steps at most: what the sums have room for
        return outputs, vectors, run(vectors)

    return results


def test_technologies_agree(run_both, seed):
    outputs, _, results = run_both(seed)
    names = [name.removesuffix("_generic") for name in outputs if name.endswith("_generic")]
    assert len(names) == 2 * len(TAPS) + 2
    for cycle, got in enumerate(results[SETTLED:], SETTLED):
        wrong = [name for name in names if got[f"{name}_generic"] != got[f"{name}_ultrascale"]]
        assert not wrong, f"cycle {cycle}: {wrong}"


@pytest.mark.parametrize("taps", TAPS)
def test_sums_are_exact(run_both, seed, taps):
    _, vectors, results = run_both(seed)
    for cycle in range(CYCLES - taps - 3):
        w = [signed_of(vectors[cycle + k][f"cascade{taps}_w"] >> 8 * k & 255, 8) for k in range(taps)]
        for line, flip in ((0, 1 << LANE_BITS - 1), (1, 0)):
            x = [signed_of(vectors[cycle][f"cascade{taps}_x{line}"] >> 8 * k & 255, 8) for k in range(taps)]
            want = sum(map(int.__mul__, x, w))
            for technology in TECHNOLOGIES:
                got = results[cycle + taps + 3][f"cascade{taps}_sum{line}_{technology.name}"]
                assert signed_of(got ^ flip, LANE_BITS) == want, f"sum{line} {technology.name}, pixels of cycle {cycle}"


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("taps", [0, 9])
def test_wrong_taps(taps: int) -> None:
    with pytest.raises(ValueError, match=f"a cascade adds 1 to 8 taps: got {taps}; add several in fabric") as error:
        TapCascade(taps)
    del error  # the refused block dies here, under the filter, and not in another test
    gc.collect()
