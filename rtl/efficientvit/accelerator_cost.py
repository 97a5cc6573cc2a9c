"""What the modules of an EfficientViT's accelerator cost, as they are emitted: `EfficientVitAccelerator.separate_modules` and the rest."""

from __future__ import annotations

from rtl.cost import Cost
from rtl.efficientvit.accelerator import CHANNEL_MODULE, ENGINE_MODULE, ROW_MODULE, attend_config, depth_config
from rtl.efficientvit.attend_engine import attend_cost
from rtl.efficientvit.collector import collector_cost
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.depth_memories import depth_cost
from rtl.efficientvit.expansion_ring import ring_cost
from rtl.efficientvit.head_cost import head_cost
from rtl.efficientvit.row import row_cost
from rtl.efficientvit.row_feeder import BANK_MODULE, BEATS_PER_PAIR, PARAMETER_BITS
from rtl.efficientvit.weight_bank import bank_cost
from rtl.efficientvit.window_former import window_cost
from rtl.tech.memory_cost import block_memory
from rtl.units.depthwise_channel import channel_cost

#: Readers of program, data and pixels, each with two block memories, as those of the weight ports have.
_READERS, _READER_MEMORIES = 3, 2
#: Memory LUTs of queues and readers: their LUTs are in the price of what has them.
_QUEUES_LUTRAM = 984


def module_costs(config: EfficientVitMachine) -> dict[str, tuple[Cost, int]]:
    """Modules that are instantiated by name: what one costs, and how often it is used."""
    engines = {
        "attend": attend_cost(attend_config(config)),
        "depth": depth_cost(config.bits),
        "head": head_cost(config.classes, config.bits),
        "ring": ring_cost(config.bits, config.ring_depth),
        "collector": collector_cost(config),
    }
    return {
        ROW_MODULE: (row_cost(config), config.rows),
        BANK_MODULE: (bank_cost(config), config.weight_ports),
        CHANNEL_MODULE: (channel_cost(config.bits), depth_config(config).convolution.channels),
        **{ENGINE_MODULE.format(name): (cost, 1) for name, cost in engines.items()},
    }


def rest_cost(config: EfficientVitMachine) -> Cost:
    """Of the accelerator around them: bus ports, queues, sequencer, the rows' feeder, the window former. Hardly anything varies."""
    readers = _READERS + config.weight_ports
    parameters = block_memory(BEATS_PER_PAIR * PARAMETER_BITS, config.parameter_words, granularity=PARAMETER_BITS)
    own = Cost(
        bram36=_READER_MEMORIES * readers,
        lutram=_QUEUES_LUTRAM,
        priced_lut={"constant": 1},
        priced_ff={"constant": 1},
    )
    return own + parameters + window_cost(config)
