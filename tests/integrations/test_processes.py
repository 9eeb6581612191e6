"""Two processes, started as each library expects them, train as one process does with the larger batch.

Accelerate and Lightning start them; the Trainer gets those of torchrun.

In float64, so that the tolerance is that of rounding: another order of summation, nothing else.
"""

import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

import warm

PARTS = """
import os, sys, torch, letsam
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

folder, processes = sys.argv[1], int(sys.argv[2])
generator = torch.Generator().manual_seed(1)
data = TensorDataset(torch.randn(48, 4, generator=generator).double(), torch.randint(3, (48,), generator=generator))
train, held_out = Subset(data, range(32)), Subset(data, range(32, 48))
size = 8 // processes  # of the batches of a process

def network():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3).double()

def lets(base):
    return letsam.SAM(base, rho=letsam.LearnedRadius(0.05, interval=1))

def loss_on(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

def save(opt, model, rank):
    found = {"rho": opt.rho, "weight": model.weight.detach(), "steps": opt._parts.steps, "metrics": opt.metrics}
    torch.save(found, f"{folder}/{processes}.{rank}")
"""

ACCELERATE = """
from accelerate import Accelerator, debug_launcher
from letsam.integrations import EndlessBatches
from letsam.integrations.accelerate import step

def main():
    accelerator = Accelerator(cpu=True)
    model = network()
    opt = lets(torch.optim.SGD(model.parameters(), lr=0.1))
    model, opt, *loaders = accelerator.prepare(model, opt, DataLoader(train, size), DataLoader(held_out, size))
    validation = EndlessBatches(loaders[1])
    assert accelerator.num_processes == processes
    for _ in range(3):
        for inputs, targets in loaders[0]:
            halves = zip(inputs.chunk(2), targets.chunk(2))
            step(accelerator, opt, lambda batch: loss_on(model, batch), halves, validation, model=model)
    save(opt.optimizer, accelerator.unwrap_model(model), accelerator.process_index)

if processes == 1:
    main()
else:
    debug_launcher(main, num_processes=2)  # several processes without GPUs
"""

LIGHTNING = """
from lightning.pytorch import LightningModule, Trainer
from letsam.integrations.lightning import SharpnessAwareCallback

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.model = network()

    def training_step(self, batch, batch_idx):
        return loss_on(self.model, batch)

    def configure_optimizers(self):
        return lets(torch.optim.SGD(self.parameters(), lr=0.1))

def in_order(subset):  # Lightning's own sampler shuffles
    rank = int(os.environ.get("LOCAL_RANK", 0))
    return DataLoader(subset, size, sampler=DistributedSampler(subset, processes, rank, shuffle=False))

trainer = Trainer(
    max_epochs=3, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto", logger=False,
    callbacks=[SharpnessAwareCallback(in_order(held_out))], use_distributed_sampler=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
module = Module()
trainer.fit(module, in_order(train))
assert trainer.world_size == processes
save(trainer.optimizers[0], module.model, trainer.global_rank)
"""

TRAINER = """
from torch.utils.data import SequentialSampler
from transformers import TrainingArguments
from letsam.integrations.transformers import SharpnessAwareTrainer

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = network()

    def forward(self, inputs, labels):
        return {"loss": loss_on(self.model, (inputs, labels))}

class InOrder(SharpnessAwareTrainer):
    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(dataset or self.train_dataset)

def rows(subset):
    return [{"inputs": inputs, "labels": label} for inputs, label in subset]

args = TrainingArguments(
    folder, num_train_epochs=3, per_device_train_batch_size=size // 2, gradient_accumulation_steps=2, optim="sgd",
    learning_rate=0.1, use_cpu=True, ddp_backend="gloo" if processes > 1 else None, save_strategy="no", report_to=[],
    disable_tqdm=True, ddp_find_unused_parameters=False,
)
model = Model()
trainer = InOrder(model, args, train_dataset=rows(train), radius_dataset=rows(held_out), sharpness_aware=lets)
assert trainer.args.world_size == processes
trainer.train()
save(trainer.optimizer.optimizer, model.model, args.process_index)
"""

LIBRARIES: dict[str, tuple[str, bool]] = {  # and whether it wants the ranks of torchrun
    "Accelerate": (ACCELERATE, False),
    "Lightning": (LIGHTNING, False),  # its Trainer starts the second process
    "Trainer": (TRAINER, True),
}


@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_state")
@pytest.mark.parametrize("library", LIBRARIES)
def test_two_processes_are_one_with_the_larger_batch(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is this process, which has loaded the libraries already."""
    code, ranks = LIBRARIES[library]
    script = tmp_path / "script.py"
    script.write_text(PARTS + code)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), "1"])
    runpy.run_path(str(script), run_name="__main__")
    if ranks:
        status, written = warm.torchrun(str(script), str(tmp_path), "2")
    else:
        env = warm.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
        done = warm.start(str(script), str(tmp_path), "2", env=env).wait(300)
        status, written = done.returncode, done.stdout + done.stderr
    assert status == 0, written
    one = torch.load(tmp_path / "1.0")
    assert one["steps"] == 12
    assert one["rho"] != 0.05
    two = [torch.load(tmp_path / f"2.{rank}") for rank in (0, 1)]
    assert torch.equal(two[0]["rho"], two[1]["rho"])
    assert torch.equal(two[0]["weight"], two[1]["weight"])
    torch.testing.assert_close(two[0], one, rtol=1e-10, atol=1e-12)
