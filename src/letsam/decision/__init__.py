"""From the runs of a trial to a verdict: go, no-go, or so many more seeds.

    from letsam.decision import decide, headline
    from letsam.results import Results

    decision = decide(Results.load("out/results.json"), baseline="sgd", minimum_effect=0.5)
    print(headline(decision))

Methods share their seeds, so their differences are paired by seed. The true mean difference lies between two bounds,
each of which is wrong with a probability of at most 5 %, however often seeds are added and the verdict is read again.

- `deciding`: `decide`
- `pairing`: the runs of two methods, paired by seed; which two are compared
- `looks`: what each look at the results may spend of the 5 %
- `sampling_noise`: how much another test set would change the difference
- `inference`: bounds, power, how many seeds are needed
- `decision_record`: `Decision`, and its JSON in ``results.json``
- `sample_gains`, `matched_pairs`: the bounds of the difference of two trained models, over the choice of samples
- `wording`: what a decision says, as sentences
"""

from letsam.decision.deciding import LEVEL, PLANNED_SEEDS, POWER, decide
from letsam.decision.decision_record import Decision, TrialLook, earlier_looks
from letsam.decision.inference import Noise, bounds, detectable_effect, go_probability
from letsam.decision.looks import FEWEST_SEEDS, critical_values
from letsam.decision.matched_pairs import combined_bounds, matched_bounds, mcnemar
from letsam.decision.pairing import Pairs, paired
from letsam.decision.sample_gains import SampleGain, sample_gain
from letsam.decision.wording import explanation, headline, numbers_beneath

__all__ = [
    "FEWEST_SEEDS",
    "LEVEL",
    "PLANNED_SEEDS",
    "POWER",
    "Decision",
    "Noise",
    "Pairs",
    "SampleGain",
    "TrialLook",
    "bounds",
    "combined_bounds",
    "critical_values",
    "decide",
    "detectable_effect",
    "earlier_looks",
    "explanation",
    "go_probability",
    "headline",
    "matched_bounds",
    "mcnemar",
    "numbers_beneath",
    "paired",
    "sample_gain",
]
