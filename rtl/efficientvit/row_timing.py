"""When a row uses each field of its bus."""

from __future__ import annotations

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
        #: Of each weight, beyond that.
        self.stagger = matmul.stagger
        self.first, self.last = (self.product + matmul.offsets[name] for name in ("first", "last"))
        self.sum = self.product + matmul.latency
        self.parameter = {name: self.sum + requantize.offsets.get(name, 0) for name in Parameter.members}
        self.constants = {
            name: self.sum + requantize.offsets.get(name, 0)
            for name in ("hardswish", "fraction", "shortcut_enable", "quotient", "zero", "low")
        }
        shortcut = self.sum + requantize.offsets["shortcut"]
        self.constants["shortcut_zero"] = shortcut - 1
        # A word's first pair is read here while the next one begins, and with it the word of shortcuts; with one word of input the next
        # word of shortcuts follows right behind the last pair.
        self.shortcut_low = self.operand_load + 2
        self.shortcut_high = self.shortcut_low + 1
        self.shortcut_wait = self.constants["shortcut_zero"] - self.shortcut_high - 1
        self.exponent_low = self.sum + Log2Exponent.OFFSETS["low"]
        # The next step's divisors follow this one's last dividend: they may not replace exponents that are still read.
        self.exponent_write = self.exponent_read = self.sum + requantize.offsets["exponent"] - 1
        self.exponent_wait = self.exponent_write - self.sum - Log2Exponent.latency
        self.result = self.sum + requantize.latency
        self.word = self.result + 1

    @property
    def settle(self) -> int:
        """From a word's last product until whoever comes later on the same row reads it: it is in the memory two cycles after it is
        complete, a lane's word up to three later."""
        return self.word + 6
