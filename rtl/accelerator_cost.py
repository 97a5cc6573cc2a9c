"""What the modules of a DeiT's accelerator cost, as they are emitted: `rtl.accelerator.separate_modules` and the rest."""

from __future__ import annotations

from amaranth.utils import ceil_log2

from rtl.accelerator import FEEDER_MODULE, ROW_MODULE, bank_module
from rtl.attention_bus import attention_bus
from rtl.attention_config import AttentionConfig
from rtl.bus.axi import DATA_BITS
from rtl.config import AcceleratorConfig
from rtl.cost import Cost
from rtl.logit_memory import BANKS
from rtl.pixel_turn import is_turned, turn_cost
from rtl.program.isa import weight_item_bits
from rtl.row import row_cost
from rtl.row_feeder import feeder_cost
from rtl.tech.memory_cost import memory
from rtl.units.key_value_cost import bank_cost, selection_cost

#: Readers of program, data and pixels, each with two block memories, as those of the weight ports have.
_READERS, _READER_MEMORIES = 3, 2
#: Memory LUTs of the queues, and of each weight port's reader: their LUTs are in the price of what has them.
_QUEUES_LUTRAM, _READER_LUTRAM = 584, 8


def module_costs(config: AcceleratorConfig) -> dict[str, tuple[Cost, int]]:
    """Modules that are instantiated by name: what one costs, and how often it is used."""
    attention = AttentionConfig.of(config)
    sizes = sorted(set(attention.group_rows), reverse=True)
    banks = {bank_module(attention, rows): (bank_cost(attention, rows), attention.group_rows.count(rows)) for rows in sizes}
    return {ROW_MODULE: (row_cost(config), config.rows), **banks, FEEDER_MODULE: (feeder_cost(config), 1)}


def rest_cost(config: AcceleratorConfig) -> Cost:
    """Of the accelerator around them: bus ports, queues, sequencers, the attention's engine, the choice between banks, pixels, logits.

    Every weight port has a reader of its own, and what cuts beats into slices, or joins them. Most of the rest is the same everywhere.
    """
    attention, ports, shape = AttentionConfig.of(config), config.weight_ports, config.shape
    logits = BANKS * memory(16, 2 << max(1, ceil_log2(-(-shape.classes // BANKS))))
    turned, item = int(is_turned(config)), weight_item_bits(config.slice_inputs)
    own = Cost(
        bram36=_READER_MEMORIES * (_READERS + ports),
        lutram=_QUEUES_LUTRAM + _READER_LUTRAM * ports,
        ff=16 * sum(attention.stagger) + 2 * ports * max(item, DATA_BITS),
        priced_lut={"constant": 1, "weight ports": ports, "cut ports": ports * (item < DATA_BITS), "turned pixels": turned},
        priced_ff={"constant": 1, "weight ports": ports, "turned pixels": turned, "attention bus": attention_bus(attention).size},
    )
    return own + selection_cost(attention) + logits + turned * turn_cost(shape)
