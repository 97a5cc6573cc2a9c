"""What the depthwise engine is told. The fields are those of the instructions, in order. Imports nothing of ours: the instruction set may
import it."""

from amaranth.lib import data

#: Input lines of a line pair: kernel 5 + stride 2. Address within a bank of the expansion ring.
LINES, RING_ADDRESS = 7, 10
#: Of the rows' memories; of the engine's memories of weights and parameters.
ROW_BITS, TARGET = 6, 10
ADDRESS = 9
#: Weight words are 16 beats apart, of which nine are kept: a power of two, so that a beat's address tells its slot.
WORD_BEATS = 16
#: Nine of 25 taps at a time.
KERNEL_5_STEPS = 3
WIDTH_BITS = 9
PAYLOAD_BITS = 176

#: A layer. Registers of the engine, set when all results of the layer before have left.
LAYER = (
    ("kernel_5", 1),  # else 3
    ("stride_2", 1),  # else 1
    ("width", WIDTH_BITS),  # columns of the input: 4 or more
    ("words", 7),  # of 32 channels: 1..64. Also the words of a pixel in the ring
    ("half", 1),  # the one word has 16 channels
    ("pad", 8),  # the source's zero point
    ("zero", 8),  # the target's zero point
    ("low", 1),  # the target's lower limit
    ("hardswish", 1),
    ("fraction", 3),  # Hardswish's fraction bits, less 6
    ("region_end", TARGET),  # of the target: after the pass at this address, or above, comes the first one that is kept,
    ("rewind", TARGET),  # so much further, modulo 1,024
    ("pitch", TARGET),  # words of a pass of the target: from a row's pixel to its next one
    ("weights", ADDRESS),  # first word, see rtl.efficientvit.program.pack_depthwise
    ("parameters", ADDRESS),
)
#: Two output lines, of all channels. ``bank_l``, ``address_l``: of pixel 0, word 0 of input line l, in the ring.
LINES_PAIR = (
    *((f"{field}_{line}", bits) for line in range(LINES) for field, bits in (("bank", 3), ("address", RING_ADDRESS))),
    ("outside", LINES),  # input lines above or below the image, or not needed
    ("second", 1),  # the second output line exists
    *((f"{field}_{lane}", bits) for lane in range(2) for field, bits in (("row", ROW_BITS), ("target", TARGET))),  # of output pixel 0
)

LAYER_LAYOUT = data.StructLayout(dict(LAYER))
LINES_LAYOUT = data.StructLayout(dict(LINES_PAIR))
assert max(LAYER_LAYOUT.size, LINES_LAYOUT.size) <= PAYLOAD_BITS
#: ``layer``: the payload is LAYER_LAYOUT, else LINES_LAYOUT, from bit 0.
COMMAND = data.StructLayout({"layer": 1, "payload": max(LAYER_LAYOUT.size, LINES_LAYOUT.size)})

#: One result line of a sweep: pixel 0 at ``row``, word ``target`` of its memory.
LANE = data.StructLayout({"row": ROW_BITS, "target": TARGET})
#: One output line pair of 16 channels.
SWEEP = data.StructLayout(
    {
        "lines": data.ArrayLayout(data.StructLayout({"bank": 3, "address": RING_ADDRESS}), LINES),
        "outside": LINES,
        "second": 1,
        "lanes": data.ArrayLayout(LANE, 2),
        "half": 1,  # the upper 16 channels
        "weights": ADDRESS,
        "parameters": ADDRESS,
        "last": 1,  # of its command
    }
)


def sweep_cycles(kernel: int, width: int) -> int:
    """Of 16 channels of a line pair, whose input is ``width`` wide, whatever the stride."""
    return width * (KERNEL_5_STEPS if kernel == 5 else 1)


def encode(layout: data.StructLayout, values: dict[str, int]) -> int:
    """The bits of a payload, every field given and in range."""
    assert set(values) == set(layout.members), sorted(set(values) ^ set(layout.members))
    assert all(0 <= value < 1 << layout[name].width for name, value in values.items()), values
    return sum(value << layout[name].offset for name, value in values.items())
