"""Networks whose forward pass keeps state outside of normalisation statistics, one for each way to keep it."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Change = Callable[["Stateful", Tensor], Tensor]


class Stateful(nn.Module):
    """A linear layer whose pass changes what `change` says; it returns what is added to the outputs."""

    def __init__(self, change: Change, **attributes: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3, dtype=torch.float64)
        self.change = change
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        with torch.no_grad():
            extra = self.change(self, out.detach())
        return out + extra


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def counter(net: Any, out: Tensor) -> Tensor:
    net.calls += 1
    net.beta = 1.0 - 0.5**net.calls
    net.phase = f"call {net.calls}"
    return out * 0.1 * net.beta


def cache(net: Any, out: Tensor) -> Tensor:
    """Preallocated, with a length and a flag."""
    net.memory[net.length] = out.mean(0)
    net.length += 1
    net.valid = True
    return net.memory[: net.length].mean(0)


def growing_cache(net: Any, out: Tensor) -> Tensor:
    net.memory = out.mean(0)[None] if net.memory is None else torch.cat([net.memory, out.mean(0)[None]])
    net.length += 1
    assert len(net.memory) == net.length
    return net.memory.mean(0)


def table(net: Any, out: Tensor) -> Tensor:
    """As rotary embeddings do: a buffer that is made anew, with the length that it is good for."""
    net.longest += 2
    net.register_buffer("cosines", torch.arange(net.longest, dtype=torch.float64).cos(), persistent=False)
    return net.cosines[-3:]


def hidden(net: Any, out: Tensor) -> Tensor:
    net.state = net.state * 0.5 + out.mean(0)
    return net.state


def hidden_in_place(net: Any, out: Tensor) -> Tensor:
    return net.state.mul_(0.5).add_(out.mean(0))


def hidden_pair(net: Any, out: Tensor) -> Tensor:
    net.state = Pair(net.state.first * 0.5 + out.mean(0), net.state.second + 1)
    return net.state.first + net.state.second


def layers_of_states(net: Any, out: Tensor) -> Tensor:
    for layer in net.states:
        layer["h"].mul_(0.5).add_(out.mean(0))
        layer["steps"] += 1
    net.states[0]["c"] = out.mean(0)
    return net.states[0]["h"] + net.states[1]["steps"]


def histories(net: Any, out: Tensor) -> Tensor:
    net.outputs.append(out.mean(0))
    net.recent.append(float(len(net.outputs)))
    net.seen.add(len(net.outputs))
    net.by_name[f"out {len(net.outputs)}"] = len(net.outputs)
    return torch.stack(list(net.outputs)).mean(0) + sum(net.recent) + max(net.seen) + len(net.by_name)


def made_in_a_pass(net: Any, out: Tensor) -> Tensor:
    net.made = getattr(net, "made", 0) + 1
    if net.made % 2:
        net.odd = out.mean(0)
    else:
        del net.odd
    return out * net.made


def observer(net: Any, out: Tensor) -> Tensor:
    """As those for quantization: a buffer that is resized to what it observes."""
    if net.lowest.numel() == 0:
        net.lowest.resize_(3).copy_(out.amin(0))
    else:
        net.lowest.mul_(0.9).add_(out.amin(0), alpha=0.1)
    return net.lowest


def resized(net: Any, out: Tensor) -> Tensor:
    net.buffer.resize_(len(net.buffer) + 1).fill_(len(net.buffer))
    return net.buffer.mean()


def registered(net: Any, out: Tensor) -> Tensor:
    if not hasattr(net, "later"):
        net.register_buffer("later", zeros(3))
    net.later += out.mean(0)
    net.empty = net.later * 2 if net.empty is None else None
    return net.later


def teacher(net: Any, out: Tensor) -> Tensor:
    for old, new in zip(net.teacher.parameters(), net.layer.parameters(), strict=True):
        old.mul_(0.9).add_(new, alpha=0.1)
    return net.teacher(out.new_ones(4))


def teacher_by_data(net: Any, out: Tensor) -> Tensor:
    for old, new in zip(net.teacher.parameters(), net.layer.parameters(), strict=True):
        old.data.mul_(0.9).add_(new.data, alpha=0.1)
    return net.teacher(out.new_ones(4))


def teacher_by_new_data(net: Any, out: Tensor) -> Tensor:
    for old, new in zip(net.teacher.parameters(), net.layer.parameters(), strict=True):
        old.data = old.data * 0.9 + new.data * 0.1
    return net.teacher(out.new_ones(4))


def a_teacher(requires_grad: bool = False) -> nn.Module:
    return nn.Linear(4, 3, dtype=torch.float64).requires_grad_(requires_grad)


def queue(net: Any, out: Tensor) -> Tensor:
    """The queue of MoCo: a buffer and a pointer that is a number."""
    net.keys[net.pointer] = out.mean(0)
    net.pointer = (net.pointer + 1) % len(net.keys)
    return net.keys.mean(0)


def with_buffers(net: nn.Module, **buffers: Tensor | None) -> nn.Module:
    for name, value in buffers.items():
        net.register_buffer(name, value)
    return net


KINDS: dict[str, Callable[[], Any]] = {
    "counter": lambda: Stateful(counter, calls=0, beta=0.0, phase=""),
    "cache": lambda: Stateful(cache, memory=zeros(40, 3), length=0, valid=False),
    "growing cache": lambda: Stateful(growing_cache, memory=None, length=0),
    "table": lambda: with_buffers(Stateful(table, longest=3), cosines=zeros(3)),
    "hidden": lambda: Stateful(hidden, state=zeros(3)),
    "hidden in place": lambda: Stateful(hidden_in_place, state=zeros(3)),
    "hidden pair": lambda: Stateful(hidden_pair, state=Pair(zeros(3), zeros(3))),
    "layers of states": lambda: Stateful(layers_of_states, states=[{"h": zeros(3), "steps": i} for i in range(2)]),
    "histories": lambda: Stateful(histories, outputs=[], recent=deque(maxlen=2), seen=set(), by_name=OrderedDict()),
    "made in a pass": lambda: Stateful(made_in_a_pass),
    "observer": lambda: with_buffers(Stateful(observer), lowest=zeros(0)),
    "resized": lambda: with_buffers(Stateful(resized), buffer=zeros(2)),
    "registered": lambda: with_buffers(Stateful(registered), empty=None),
    "teacher": lambda: Stateful(teacher, teacher=a_teacher()),
    "teacher that requires gradients": lambda: Stateful(teacher, teacher=a_teacher(True)),
    "teacher by data": lambda: Stateful(teacher_by_data, teacher=a_teacher()),
    "teacher by new data": lambda: Stateful(teacher_by_new_data, teacher=a_teacher()),
    "queue": lambda: with_buffers(Stateful(queue, pointer=0), keys=zeros(5, 3)),
}


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that the modules hold except the trained layer, copied."""
    found: dict[str, Any] = {}
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in vars(nn.Module()) and not callable(value):
                found[f"{prefix}.{name}"] = copy.deepcopy(value)
        if not prefix.endswith("layer"):
            found |= {
                f"{prefix}.{name}": value.detach().clone()
                for name, value in module._parameters.items()
                if value is not None
            }
        found |= {f"{prefix}.{name}": None if b is None else b.clone() for name, b in module._buffers.items()}
        found[f"{prefix}.training"] = module.training
    return dict(sorted(found.items()))


def after_one_pass(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """The state that one plain pass at the model's weights leaves: the reference, without letsam."""
    twin = copy.deepcopy(model)
    twin(x)
    return state_of(twin)
