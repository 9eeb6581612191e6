"""The code of the pages on adapters, GANs and quantization-aware training runs; what they say in words holds."""

import copy
from typing import Any

import pytest
import torch

from page_code import blocks_of, run_code


def names_of(page: str) -> dict[str, Any]:
    torch.manual_seed(0)
    return run_code("\n".join(blocks_of(f"docs/how-to/{page}.md")), page, {"__name__": page})


@pytest.mark.filterwarnings("ignore")
def test_quantization_aware_training() -> None:
    names = names_of("quantization-aware-training")
    model, batches = names["model"], names["batches"]
    twin = copy.deepcopy(model)
    twin(batches[0][0])
    names["opt"].step(names["closure_on"](*batches[0]), names["closure_on"](*batches[-1]))
    seen = dict(model.named_buffers())
    assert len(seen) >= 10
    for name, expected in twin.named_buffers():  # the observers have seen one pass
        torch.testing.assert_close(seen[name], expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore")
def test_adapters() -> None:
    names = names_of("lora")
    parts = dict(names["model"].named_parameters())
    lora_b = next(value for name, value in parts.items() if "lora_B" in name)
    assert lora_b.abs().max() > 0
    assert len(names["opt"].param_groups[0]["params"]) == len(names["trained"]) == 4


def test_gans() -> None:
    names = names_of("gans")
    generator, opt_d, opt_g = (names[name] for name in ("generator", "opt_d", "opt_g"))
    sample = generator(torch.randn(64, 4))
    (-names["discriminator"](sample)).mean().backward()  # without `inputs`
    real = torch.randn(32, 2)
    with pytest.raises(ValueError, match="`step` must begin without gradients other than those of the last step"):
        opt_d.step(names["discriminator_closure"](real, torch.randn(32, 4)))
    opt_d.zero_grad()
    opt_d.step(names["discriminator_closure"](real, torch.randn(32, 4)))
    weight = names["discriminator"][0].weight.detach().clone()
    opt_d.step(lambda: penalized(names["discriminator"], real))
    assert not torch.equal(names["discriminator"][0].weight, weight)
    opt_g.zero_grad()
    opt_g.step(names["generator_closure"](torch.randn(32, 4)))


def penalized(discriminator: torch.nn.Module, real: torch.Tensor) -> torch.Tensor:
    """A gradient penalty, which differentiates twice."""
    real = real.clone().requires_grad_()
    score = discriminator(real).sum()
    (gradient,) = torch.autograd.grad(score, real, create_graph=True)
    loss = -score / len(real) + gradient.square().sum(1).mean()
    loss.backward()
    return loss
