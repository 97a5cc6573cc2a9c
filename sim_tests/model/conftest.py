"""One thread: the suite may share the machine. And timm, where it is installed."""

import importlib.util
import os

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def timm():
    """timm imports torchvision, whose CUDA build lacks two operators beside a CPU torch: empty declarations let it load."""
    reason = "needs timm 1.0.31 and torchvision 0.28.0, both installed with --no-deps"
    if importlib.util.find_spec("timm") is None or importlib.util.find_spec("torchvision") is None:
        pytest.skip(reason)
    import torch  # not before the number of threads is set

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("timm", reason=reason, exc_type=ImportError)
    del library


@pytest.fixture(scope="module")
def folded():
    """The small EfficientViT, BatchNorm folded."""
    from model.quant.folded import fold
    from sim_tests.model.efficientvit_networks import network_of

    return fold(network_of())


@pytest.fixture(scope="module")
def calibration(folded):
    from model.quant.calibration import calibrate
    from sim_tests.model.quantized import BATCHES

    return calibrate(folded, BATCHES, 16)
