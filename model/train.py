"""Trains a network by VAQF's recipe: real-valued, then a growing random share of the weights binary, then activations of ``--bits`` bits.

    python -m model.train --bits 8 --epochs 4 10 10 --out w1a8.pt        the three stages
    python -m model.train --bits 8 --epochs 0 0 24 --out w1a8.pt         from scratch: the last one alone
    python -m model.train --model efficientvit_micro --epochs 10 0 0 --out efficientvit_micro.safetensors

A run that was killed goes on where it stood when its command is given again, and ends with the same bits. The last epoch is the result; the
test accuracy in the log chooses nothing. Under torchrun, each process takes its part of every batch. A quantized network's integer graph is
written beside it (.npz): give that to ``python -m rtl.top --checkpoint``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from model import data
from model.checkpoint import save_graph
from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS
from model.errors import InputError
from model.lower import CALIBRATION_IMAGES, lower
from model.quant.deit import QuantDeiT
from model.quant.packed import save_quantized
from model.training.device import DEVICES, device_of
from model.training.images import BROKEN
from model.training.loop import Trainer
from model.training.networks import net_state
from model.training.parallel import Group, process_group
from model.training.plan import STAGES, Plan
from model.training.state import write_aside

FLOAT_SUFFIX = ".safetensors"


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the options ask for. Raises InputError for values out of range."""
    return Plan(
        model=arguments.model, bits=arguments.bits, seed=arguments.seed, source=arguments.source, epochs=tuple(arguments.epochs),
        learning_rates=tuple(arguments.learning_rate), batch=arguments.batch, mirror=arguments.mirror, shift=arguments.shift,
        start=arguments.start, teacher=arguments.teacher, teacher_model=arguments.teacher_model, distill=arguments.distill,
        temperature=arguments.temperature, broken=arguments.broken,
    )  # fmt: skip


def store_result(trainer: Trainer, module: nn.Module, out: Path) -> None:
    """Beside the checkpoint: of a quantized network the integer graph and the network packed; of a float one, if asked for, its tensors."""
    if out.suffix == FLOAT_SUFFIX:
        write_aside(out, save(net_state(module.state_dict())))
    elif isinstance(module, QuantDeiT):
        images = trainer.train_set.sample(CALIBRATION_IMAGES).numpy()
        epochs = len(trainer.run.rows)
        save_graph(out.with_suffix(".npz"), lower(module, images), {"seed": trainer.plan.seed, "epoch": epochs})
        save_quantized(out.with_suffix(".quant.npz"), module)


def train(arguments: argparse.Namespace, group: Group) -> str:
    """Runs the plan; returns the last test accuracy in percent as the log has it."""
    plan, out = plan_of(arguments), Path(arguments.out)
    if arguments.test_every < 1:
        raise InputError(f"--test-every must be at least 1: {arguments.test_every} is not; use 1 to test after every epoch")
    if out.suffix not in (".pt", FLOAT_SUFFIX):
        raise InputError(f"--out must end in .pt or {FLOAT_SUFFIX}: {out} does not; name it so")
    if plan.result_bits() != "float" and out.suffix == FLOAT_SUFFIX:
        raise InputError(f"a quantized run must not be stored as {FLOAT_SUFFIX}: {out} would lose its scales; give a .pt file")
    if group.size > 1 and plan.model in EFFICIENTVIT_CONFIGS:
        raise InputError(
            f"an EfficientViT trains in one process: its batch statistics would differ in {group.size}; start it without torchrun"
        )
    device = device_of(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    trainer = Trainer(
        plan=plan, group=group, device=device, out=out.with_suffix(".pt"), log=arguments.log or out.with_suffix(".csv"),
        save_seconds=arguments.save_seconds, test_every=arguments.test_every, readers=arguments.threads,
    )  # fmt: skip
    module = trainer.train().cpu()
    if group.writes:
        store_result(trainer, module, out)
        return trainer.run.rows[-1]["test_accuracy"]
    return ""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m model.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", default="deit_micro", help=f"one of {', '.join((*CONFIGS, *EFFICIENTVIT_CONFIGS))}")
    made.add_argument("--bits", type=int, default=8, help="activation bits of the last stage, 1..8")
    made.add_argument(
        "--epochs", type=int, nargs=3, metavar=tuple(map(str.upper, STAGES)), default=(4, 10, 10), help="of each stage; 0 leaves it out"
    )
    made.add_argument(
        "--learning-rate", type=float, nargs=3, metavar=tuple(map(str.upper, STAGES)), default=(2e-3, 2e-3, 2e-3),
        help="largest of each stage: a warm-up, then a cosine to zero",
    )  # fmt: skip
    made.add_argument("--start", help="checkpoint of a finished run (any stages) to take the weights from")
    made.add_argument(
        "--source",
        default="fashion-mnist",
        help=f"{', '.join(data.LABELLED_SOURCES)}, or a folder with train/CLASS/*.jpg and val/CLASS/*.jpg",
    )
    made.add_argument("--broken", choices=BROKEN, default="refuse", help="what to do with pictures of a folder that cannot be read")
    made.add_argument("--batch", type=int, default=128)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--mirror", action="store_true", help="every other image, drawn anew in every epoch")
    made.add_argument("--shift", type=int, default=0, help="images by up to so many pixels, drawn anew in every epoch")
    made.add_argument("--teacher", help="float network (.safetensors, .pth) whose answers are learned beside the labels")
    made.add_argument("--teacher-model", help="its name; default: --model")
    made.add_argument("--distill", type=float, default=0.9, help="the teacher's part of the loss")
    made.add_argument("--temperature", type=float, default=2.0, help="what logits are divided by before they are compared")
    made.add_argument("--device", choices=DEVICES, default="auto", help="default: the GPU, where there is one")
    made.add_argument("--threads", type=int, default=1, help="of arithmetic, and readers of a folder")
    made.add_argument("--save-seconds", type=float, default=60.0, help="the checkpoint is written at least so often, and after every epoch")
    made.add_argument(
        "--test-every", type=int, default=1, help="epochs from one look at the test images to the next; a stage's last one has one"
    )
    made.add_argument(
        "--out", default="checkpoint.pt",
        help="checkpoint (.pt), written while training too; or, where it ends in .safetensors, a float network's tensors when all is done",
    )  # fmt: skip
    made.add_argument("--log", type=Path, help="CSV log, with a plot (.svg) beside it; default: beside --out")
    return made


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        with process_group(arguments.batch) as group:
            if accuracy := train(arguments, group):
                print(f"test accuracy {accuracy} %")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
