"""How many steps does each head need on unconstrained features of fixed length?

The features F (N, d) are the only variables beside what a head learns itself; it sees h = τ f/‖f‖.
All samples are one batch. Gradient descent with momentum runs until the cross entropy is within a
given gap of its lower bound log(1 + (K-1) e^{-τK/(K-1)}), and the number of its steps is what counts.
Every head gets the learning rate of a common grid that is best for it on seeds of their own.

What that number means. Features of fixed length can take steps of any size: the loss does not see how
long f is, so a huge step turns f into the direction of the first gradient and leaves it there. Towards a
fixed frame this direction is nearly the right one, and with large enough rates the loss is within a
coarse gap after one step, and then stands still short of the bound. So the count depends on how far the
grid goes. ``stable_rates_only`` ends it, for each head, where gradient descent stops being stable at the
start. With ``hold`` the loss must stay within the gap; at K = 100 and 200 momentum carries it out again for
up to some forty steps: with the nearest frame at all fast rates, with the fixed one at smaller ones only.

After the synthetic experiments UFM-10, -100, -200 and -1000 of Markou, Ajanthan and Gould, "Guiding
Neural Collapse: Optimising Towards the Nearest Simplex Equiangular Tight Frame" (2024), section 4.
"""

from __future__ import annotations

from ddn_etf.ufm.experiment.convergence import NoStableRateError, converge, run_experiment
from ddn_etf.ufm.experiment.runs import ExperimentResult, Run, Summary
from ddn_etf.ufm.experiment.settings import EXPERIMENTS, ExperimentSettings
from ddn_etf.ufm.experiment.stability import largest_stable_rate

__all__ = [
    "EXPERIMENTS",
    "ExperimentResult",
    "ExperimentSettings",
    "NoStableRateError",
    "Run",
    "Summary",
    "converge",
    "largest_stable_rate",
    "run_experiment",
]
