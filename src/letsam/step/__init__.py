"""The parts of a step. `letsam.optimizer` combines them; only tools around a step import them directly.

- `wrapper`: torch's optimizer contract
- `parts`: perturbation, radius, tangent and base optimizer, with the counters that are kept between steps
- `activity`: which steps may perturb the weights
- `record`: what one step measures, and what it needs to restore the weights
- `passes`: runs the closures
- `replay`, `snapshot`, `randomness`: buffers and random numbers of the passes
- `leftovers`: gradients between two steps
- `ascent`, `descent`, `clipping`: the two halves of a step
- `undo`: undoes a step that is not finite
- `ranks`, `precision`: several processes; gradient scalers
"""
