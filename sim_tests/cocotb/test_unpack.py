import pytest

from rtl.bus.unpack import UnpackConfig
from sim_tests.cocotb.runner import run_bench


@pytest.mark.parametrize("widths", [(8, 16, 32, 64, 128, 768), (8, 16, 32, 64), (16,), (128,), (32, 256)])
def test_unpack(widths: tuple[int, ...]) -> None:
    unit = UnpackConfig(widths=widths).build()
    run_bench(unit, module="sim_tests.cocotb.bench_unpack", parameters={"widths": widths}, name="unpack")
