"""What the processes of a group share; two real ones train in test_train.py."""

import pytest
import torch

from model.errors import InputError
from model.training.parallel import Group, distributed, process_group


def test_gradients_are_those_of_the_whole_batch(monkeypatch):
    """Two processes with halves of a batch, one after another: what each sends is added up."""
    torch.manual_seed(0)
    batch, module = torch.randn(8, 3), torch.nn.Linear(3, 2)

    def gradient(part: torch.Tensor) -> torch.Tensor:
        module.zero_grad()
        module(part).square().mean().backward()
        return torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])

    whole, halves = gradient(batch), [gradient(Group(rank=rank, size=2).part(batch)) for rank in (0, 1)]
    monkeypatch.setattr(distributed, "all_reduce", lambda flat: flat.add_(halves[0]))
    Group(rank=1, size=2).average_gradients(module)
    averaged = torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])
    torch.testing.assert_close(averaged, whole)
    assert not torch.allclose(halves[0], halves[1])


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group(7) as group:
        assert group == Group(rank=0, size=1) and group.writes and group.part(torch.arange(7)).tolist() == list(range(7))
        group.wait()


def test_a_batch_must_divide(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(InputError, match=r"^batch must be a multiple of the number of processes: 10 is not of 4; use --batch 12$"),
        process_group(10),
    ):
        pass
