"""`TokenPorts`: who reads and writes what in each cycle, under random legal traffic of two images."""

import random

from amaranth.sim import Simulator

from model.graph import DeitShape
from rtl.config import AcceleratorConfig
from rtl.row_bus import ActivationSource, LoadKind, WriteKind
from rtl.token_ports import TokenPorts

SHAPE = DeitShape(name="t", bits=8, image_size=14, channels=2, patch_size=7, embed_dim=48, depth=1, heads=2, hidden_dim=128, classes=10)
CONFIG = AcceleratorConfig(shape=SHAPE, rows=2, inputs=64, lanes=2, tile_words=96)
PASSES, CHANNELS = CONFIG.passes, SHAPE.embed_dim
COMMANDS = ("read", "before", "result", "write")


def place(rng) -> dict[str, int]:
    return {"image": rng.randrange(2), "pass_index": rng.randrange(PASSES), "address": rng.randrange(CHANNELS)}


def residual(token) -> int:
    return token["address"] | token["image"] << 6


def activation(token) -> int:
    return token["address"] | token["pass_index"] << 7  # 98 patch values take 7 bits


def traffic(rng) -> dict[str, dict]:
    """The clients of one cycle: readers and writers of one image's activations never meet."""
    reader, writer = rng.sample((0, 1), 2), rng.sample((0, 1), 2)
    at = {name: place(rng) for name in ("fill", "fill_activation", "attention_read", "attention_output", "load", *COMMANDS)}
    fill, normalized = rng.random() < 0.5, rng.random() < 0.5
    at["fill"] |= {"valid": fill, "normalized": 1}
    at["fill_activation"] |= {"valid": normalized, "normalized": 0, "image": reader[0]}
    at["attention_read"]["image"] = reader[1]
    for name in COMMANDS:
        at[name] |= {"kind": rng.choice(list(WriteKind)), "table_enable": rng.randrange(2)}
    third = rng.random() < 0.5  # whether the load bus, or attention, shares the writers with the linear path
    at["write"]["image"] = writer[0]
    at["attention_output"] |= {"image": writer[1], "valid": not third and rng.random() < 0.7}
    at["load"] |= {"image": writer[1], "valid": third, "kind": rng.choice((LoadKind.POSITION, LoadKind.PIXEL))}
    while at["fill"]["valid"] and at["read"]["pass_index"] == at["fill"]["pass_index"]:
        at["read"] = at["read"] | place(rng)
    return at


def drive(ctx, ports, at) -> None:
    for name, fields in at.items():
        target = getattr(ports, name)
        if name == "load":
            ctx.set(target.valid, fields["valid"])
            ctx.set(target.kind, fields["kind"])
            target, fields = target.token, {key: fields[key] for key in ("image", "pass_index", "address")}
        for key, value in fields.items():
            ctx.set(getattr(target, key), value)


def check_writes(ctx, ports, earlier, sources) -> None:
    """Of the clients of the cycle before, whose sources were ``sources``."""
    linear, load = earlier["result"]["kind"] == WriteKind.RESIDUAL, earlier["load"]
    position = load["valid"] and load["kind"] == LoadKind.POSITION and not linear
    write = ports.residual_write
    assert ctx.get(write.linear) == linear << earlier["result"]["pass_index"]
    assert ctx.get(write.position) == position << load["pass_index"]
    if linear or position:
        assert ctx.get(write.address) == residual(earlier["result"] if linear else load)
    for image in range(2):
        wanted = []
        if earlier["write"]["kind"] == WriteKind.ACTIVATION and earlier["write"]["image"] == image:
            source = ActivationSource.TABLE if earlier["write"]["table_enable"] else ActivationSource.PLAIN
            wanted.append((source, 1, 0, activation(earlier["write"])))
        if earlier["attention_output"]["valid"] and earlier["attention_output"]["image"] == image:
            wanted.append((ActivationSource.ATTENTION, 1, 0, activation(earlier["attention_output"])))
        if load["valid"] and load["kind"] == LoadKind.PIXEL and load["image"] == image:
            wanted.append((ActivationSource.PIXEL, 0, 1, activation(load)))
        port = ports.activation_write[image]
        assert (ctx.get(port.valid), ctx.get(port.pixel)) == (any(w[1] for w in wanted), any(w[2] for w in wanted))
        if wanted:
            (source, _, _, address), *_ = wanted
            assert (sources[image], ctx.get(port.address)) == (source, address)


def test_every_port_serves_its_client(seed: int) -> None:
    ports, rng = TokenPorts(CONFIG), random.Random(seed)

    async def bench(ctx) -> None:
        earlier, sources = None, None
        for _ in range(1500):
            at = traffic(rng)
            drive(ctx, ports, at)
            if earlier:
                check_writes(ctx, ports, earlier, sources)
                assert ctx.get(ports.query_image) == earlier["attention_read"]["image"]
            for index in range(PASSES):
                mine = at["fill"]["valid"] and at["fill"]["pass_index"] == index
                assert ctx.get(ports.residual_read[index]) == residual(at["fill" if mine else "read"])
            filled, read = at["fill_activation"], at["attention_read"]
            if filled["valid"]:
                assert ctx.get(ports.activation_read[filled["image"]]) == activation(filled)
            assert ctx.get(ports.activation_read[read["image"]]) == activation(read)
            assert ctx.get(ports.position_busy) == (at["before"]["kind"] == WriteKind.RESIDUAL)
            linear = at["result"]["kind"] == WriteKind.RESIDUAL
            assert ctx.get(ports.position) == (at["load"]["valid"] and at["load"]["kind"] == LoadKind.POSITION and not linear)
            earlier, sources = at, [ctx.get(ports.activation_source[image]) for image in range(2)]
            await ctx.tick()

    simulator = Simulator(ports)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
