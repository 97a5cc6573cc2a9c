"""AXI interfaces as bundles of typed streams, one per channel, and their flat port names.

Only here and in ``ports.py`` does the project know AXI's names. AXI4 masters have 40-bit addresses and 128-bit data, move whole beats
(size 4) in incrementing bursts, and use no identifiers: everything returns in order. The constants are driven where the ports are
flattened, so that streams carry only what varies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 40
DATA_BITS = 128
BEAT_BYTES = DATA_BITS // 8
BURST_BEATS = 16  # bursts are cut at multiples of 16 beats = 256 bytes, so they never cross a 4 KiB boundary
BEATS_BITS = 24  # beats of one request

OKAY = 0
SLAVE_ERROR = 2

REQUEST = data.StructLayout({"address": ADDRESS_BITS, "beats": BEATS_BITS})
"""One transfer of ``beats`` beats from ``address``, which is a multiple of 16 (its low four bits are ignored)."""

BEAT = data.StructLayout({"data": DATA_BITS, "last": 1})
"""A beat that was read; ``last`` marks the last one of a request."""

WRITE_BEAT = data.StructLayout({"data": DATA_BITS, "strobe": BEAT_BYTES})
"""A beat to write; bit i of ``strobe`` enables byte i."""

BURST = data.StructLayout({"addr": ADDRESS_BITS, "len": 8})
READ_DATA = data.StructLayout({"data": DATA_BITS, "resp": 2, "last": 1})
WRITE_DATA = data.StructLayout({"data": DATA_BITS, "strb": BEAT_BYTES, "last": 1})
RESPONSE = data.StructLayout({"resp": 2})


class AxiRead(wiring.Signature):
    """The read half of an AXI4 master.

    Members
    -------
    ar : Out(stream of {addr: 40, len: 8}); ``len`` is the number of beats less one, at most 15
    r : In(stream of {data: 128, resp: 2, last: 1})
    """

    def __init__(self) -> None:
        super().__init__({"ar": Out(stream.Signature(BURST)), "r": In(stream.Signature(READ_DATA))})


class AxiWrite(wiring.Signature):
    """The write half of an AXI4 master.

    Members
    -------
    aw : Out(stream of {addr: 40, len: 8})
    w : Out(stream of {data: 128, strb: 16, last: 1})
    b : In(stream of {resp: 2})
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "aw": Out(stream.Signature(BURST)),
                "w": Out(stream.Signature(WRITE_DATA)),
                "b": In(stream.Signature(RESPONSE)),
            }
        )


class AxiReadWrite(wiring.Signature):
    """A whole AXI4 master: the members of AxiRead and of AxiWrite."""

    def __init__(self) -> None:
        super().__init__({**dict(AxiRead().members.items()), **dict(AxiWrite().members.items())})


class AxiLite(wiring.Signature):
    """AXI-Lite with 32-bit data, seen from the master; a slave has it as ``In``.

    Parameters
    ----------
    address_bits : width of the byte addresses

    Members
    -------
    aw, ar : Out(stream of {addr})
    w : Out(stream of {data: 32, strb: 4})
    b : In(stream of {resp: 2})
    r : In(stream of {data: 32, resp: 2})
    """

    def __init__(self, address_bits: int = 12) -> None:
        self.address_bits = address_bits
        address = data.StructLayout({"addr": address_bits})
        super().__init__(
            {
                "aw": Out(stream.Signature(address)),
                "w": Out(stream.Signature(data.StructLayout({"data": 32, "strb": 4}))),
                "b": In(stream.Signature(RESPONSE)),
                "ar": Out(stream.Signature(address)),
                "r": In(stream.Signature(data.StructLayout({"data": 32, "resp": 2}))),
            }
        )


@dataclass(frozen=True, kw_only=True)
class FlatPort:
    """One wire of a flattened interface.

    Parameters
    ----------
    name : suffix after the prefix, e.g. "araddr"
    width : bits
    from_master : whether the master drives it
    path : (channel, "valid" | "ready" | payload field), or None for a wire without a stream behind it
    constant : what drives a wire without a stream (0 also for the ones that are ignored)
    """

    name: str
    width: int
    from_master: bool
    path: tuple[str, str] | None
    constant: int = 0


_ADDRESS_CONSTANTS = {"id": (1, 0), "size": (3, 4), "burst": (2, 1), "lock": (1, 0), "cache": (4, 0b0011), "prot": (3, 0), "qos": (4, 0)}
_CONSTANTS = {
    "ar": _ADDRESS_CONSTANTS,
    "aw": _ADDRESS_CONSTANTS,
    "w": {},
    "r": {"id": (1, 0)},
    "b": {"id": (1, 0)},
}  # name: (width, value). One-bit identifiers are tied to zero: many slaves and bus models insist on the wires
_LITE_CONSTANTS = {"aw": {"prot": (3, 0)}, "ar": {"prot": (3, 0)}}


def flat_ports(signature: wiring.Signature) -> Iterator[FlatPort]:
    """The standard lower-case wires of an AXI signature in a fixed order: ``araddr``, ``arlen``, ..., ``arvalid``, ``arready``."""
    constants = _LITE_CONSTANTS if isinstance(signature, AxiLite) else _CONSTANTS
    for channel, member in signature.members.items():
        from_master = member.flow is Out
        for field in member.signature.members["payload"].shape:
            width = field[1].width
            yield FlatPort(name=channel + field[0], width=width, from_master=from_master, path=(channel, field[0]))
        for name, (width, value) in constants.get(channel, {}).items():
            yield FlatPort(name=channel + name, width=width, from_master=from_master, path=None, constant=value)
        yield FlatPort(name=channel + "valid", width=1, from_master=from_master, path=(channel, "valid"))
        yield FlatPort(name=channel + "ready", width=1, from_master=not from_master, path=(channel, "ready"))
