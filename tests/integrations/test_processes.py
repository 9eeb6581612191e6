"""Two processes under Accelerate train as one does with the larger batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys, torch, letsam
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
from letsam.integrations import EndlessBatches
from letsam.integrations.accelerate import step

accelerator = Accelerator(cpu=True)
generator = torch.Generator().manual_seed(1)
data = TensorDataset(torch.randn(48, 4, generator=generator).double(), torch.randint(3, (48,), generator=generator))
size = 8 // accelerator.num_processes
train, held_out = (DataLoader(torch.utils.data.Subset(data, r), size) for r in (range(32), range(32, 48)))
torch.manual_seed(0)
model = torch.nn.Linear(4, 3).double()
opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.05))
model, opt, train, held_out = accelerator.prepare(model, opt, train, held_out)
validation = EndlessBatches(held_out)

def loss_on(batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

for _ in range(3):
    for inputs, targets in train:
        step(accelerator, opt, loss_on, zip(inputs.chunk(2), targets.chunk(2)), validation, model=model)
found = {"rho": opt.optimizer.rho, "weight": accelerator.unwrap_model(model).weight.detach()}
torch.save(found, f"{sys.argv[1]}/{accelerator.num_processes}.{accelerator.process_index}")
accelerator.end_training()
"""


@pytest.mark.slow
def test_two_processes_are_one_with_the_larger_batch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    for launcher in ([], two):
        subprocess.run(
            [sys.executable, *launcher, str(script), str(tmp_path)], check=True, env=environment, timeout=120
        )
    one = torch.load(tmp_path / "1.0")
    assert one["rho"] != 0.05
    for rank in (0, 1):
        found = torch.load(tmp_path / f"2.{rank}")
        torch.testing.assert_close(found["rho"], one["rho"], rtol=1e-10, atol=0.0)
        torch.testing.assert_close(found["weight"], one["weight"], rtol=1e-10, atol=1e-12)
