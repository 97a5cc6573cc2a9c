"""What a run computes with when it is not on the CPU. No GPU is at hand: torch's meta device, which has shapes and no values, refuses every
tensor that was left on the CPU just as a GPU does."""

import pytest
import torch
from torch import nn

from model import train
from model.quant.arithmetic import DIFFERENTIABLE
from model.quant.deit import QuantDeiT
from model.training.device import device_of
from model.training.networks import float_net, network_of
from model.training.plan import STAGES, Plan

META = torch.device("meta")
PLAN = Plan(model="deit_micro", epochs=(1, 1, 1), learning_rates=(1e-3, 1e-3, 1e-3))


def module_of(stage: str, model: str = "deit_micro") -> nn.Module:
    return network_of(stage, PLAN, float_net(model).to(META))


def pass_through(module: nn.Module) -> None:
    images = torch.zeros(4, 28, 28, 1, dtype=torch.uint8, device=META)
    module(images).sum().backward()


@pytest.mark.parametrize("stage", STAGES)
def test_both_passes_of_each_stage_stay_on_the_device(stage):
    module = module_of(stage)
    pass_through(module.train())
    assert all(parameter.grad is not None and parameter.grad.device == META for parameter in module.parameters())
    assert module.eval()(torch.zeros(2, 28, 28, 1, dtype=torch.uint8, device=META)).device == META


def test_calibration_stays_on_the_device():
    module = module_of("quantized")
    with torch.no_grad():
        module(torch.zeros(4, 28, 28, 1, dtype=torch.uint8, device=META), calibrating=True)


def test_a_teacher_answers_on_the_device():
    assert module_of("real", "efficientvit_micro").eval()(torch.zeros(2, 28, 28, 1, dtype=torch.uint8, device=META)).device == META


def test_what_is_left_on_the_cpu_is_found(monkeypatch):
    def left_behind(self, images):
        return (images.float() / 255 - torch.tensor(self.config.mean).repeat(28)).permute(0, 3, 1, 2)

    module = module_of("real")
    monkeypatch.setattr(type(module.net), "normalized", left_behind)
    with pytest.raises(RuntimeError, match="device"):
        pass_through(module)


def test_kernels_are_for_the_cpu_alone():
    module = module_of("quantized")
    assert isinstance(module, QuantDeiT) and module.training_arithmetic is DIFFERENTIABLE
    on_the_cpu = network_of("quantized", PLAN, float_net("deit_micro"))
    assert isinstance(on_the_cpu, QuantDeiT) and on_the_cpu.training_arithmetic is not DIFFERENTIABLE


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(capsys):
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    assert train.main(["--device", "cuda", "--epochs", "1", "0", "0"]) == 2
    said = capsys.readouterr().err
    assert said == "error: --device cuda needs a GPU and a torch that knows it: there is none; use --device cpu\n"
