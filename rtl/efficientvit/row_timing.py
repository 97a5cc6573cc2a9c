"""When a row uses each field of its bus."""

from __future__ import annotations

from rtl.efficientvit.isa import PAIRS
from rtl.efficientvit.row_bus import Parameter
from rtl.units.code_requantize import CodeRequantizeConfig
from rtl.units.int8_matmul import Int8MatmulConfig
from rtl.units.log2_exponent import Log2Exponent


class RowTiming:
    """Cycles after the read of a product's operand in which a row uses each field, from the latencies that the units publish.

    Fields of a result count from the last product of its sum, those of a word from the last product of its last pair.
    """

    def __init__(self, matmul: Int8MatmulConfig, requantize: CodeRequantizeConfig):
        #: The operand's register follows the memory's own.
        self.operand_load = 1
        self.product = 2
        self.first, self.last = (self.product + matmul.offsets[name] for name in ("first", "last"))
        self.sum = self.product + matmul.latency
        self.parameter = {name: self.sum + requantize.offsets.get(name, 0) for name in Parameter.members}
        self.constants = {
            name: self.sum + requantize.offsets.get(name, 0)
            for name in ("hardswish", "fraction", "shortcut_enable", "quotient", "zero", "low")
        }
        shortcut = self.sum + requantize.offsets["shortcut"]
        self.constants["shortcut_zero"] = self.shortcut_next = shortcut - 1
        self.shortcut_take = shortcut - 2
        self.exponent_low = self.sum + Log2Exponent.OFFSETS["low"]
        # The next step's divisors follow this one's last dividend: they may not replace exponents that are still read.
        self.exponent_write = self.exponent_read = self.sum + requantize.offsets["exponent"]
        self.exponent_wait = self.exponent_write - self.sum - Log2Exponent.latency
        self.result = self.sum + requantize.latency
        self.word = self.result + 1
        # A row keeps two words of shortcuts: one more may be loaded only when the first of them is in use.
        assert self.shortcut_take < 2 * PAIRS + self.operand_load

    @property
    def settle(self) -> int:
        """From a word's last product until whoever comes later on the same row reads it: its register, and up to three others before it."""
        return self.word + 6
