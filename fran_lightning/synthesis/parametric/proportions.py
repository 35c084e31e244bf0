"""Where eyes, nose, mouth and chin lie: drawn from anthropometry, reached with the head's targets.

The head's own phenotypes put the eyes too close together (58 mm) and spread the faces of men and women far more than
people's are; detectors and alignments expect the proportions of people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass

import numpy as np

from fran_lightning.synthesis.parametric.target_names import sided, signed

#: women's and men's mean and the standard deviation in millimetres. Eyes: Dodgson 2004. The others: about Farkas 1994
#: (n-prn, n-sto, n-gn, ch-ch; heights less the way from the nasion to the eyes), moved by up to 2 mm to where YuNet,
#: which learned from photographs, sees the points of a face
_NORMS = {
    "eye_distance": (62.3, 64.7, 3.3),
    "nose": (34.8, 37.3, 2.4),
    "mouth": (64.0, 68.5, 3.0),
    "chin": (103.0, 115.0, 4.8),
    "mouth_width": (48.8, 53.0, 3.0),
}
_COMMON = 0.4  # correlation of a measure with the size of the whole face
_TOLERANCE_MM = 0.6
_LARGEST = 1.1
_STEPS = 4
#: target pair (decrease, increase) and how readily it is used
LEVERS = {
    ("eyes/{}-eye-trans-in", "eyes/{}-eye-trans-out"): 0.6,
    ("nose/nose-trans-up", "nose/nose-trans-down"): 0.5,
    ("nose/nose-scale-vert-decr", "nose/nose-scale-vert-incr"): 0.5,
    ("mouth/mouth-trans-up", "mouth/mouth-trans-down"): 0.5,
    ("head/head-scale-vert-decr", "head/head-scale-vert-incr"): 0.5,
    ("chin/chin-height-decr", "chin/chin-height-incr"): 0.4,
    ("mouth/mouth-scale-horiz-decr", "mouth/mouth-scale-horiz-incr"): 0.5,
}


@dataclass(frozen=True)
class Proportions:
    """Millimetres, of the face at rest: the distance of the eyes, what lies how far below them, the mouth's width."""

    eye_distance: float
    nose: float
    mouth: float
    chin: float
    mouth_width: float


def sample_proportions(random: np.random.Generator, gender: float) -> Proportions:
    """Proportions of a person between woman (``gender`` 0) and man (1)."""
    size = np.clip(random.normal(), -2.2, 2.2)
    measures = {}
    for name, (woman, man, deviation) in _NORMS.items():
        own = np.clip(random.normal(), -2.2, 2.2)
        spread = _COMMON**0.5 * size + (1 - _COMMON) ** 0.5 * own
        measures[name] = round(float(woman + gender * (man - woman) + deviation * spread), 2)
    return Proportions(**measures)


def lever_weights(amounts: np.ndarray) -> dict[str, float]:
    """Target weights for signed ``amounts`` (len(LEVERS),) of the levers."""
    weights = {}
    for pair, amount in zip(LEVERS, amounts.tolist(), strict=True):
        name, weight = signed(pair, amount)
        weights |= dict.fromkeys(sided(name), round(weight, 4))
    return weights


def reach(wanted: Proportions, measure: Callable[[Mapping[str, float]], Proportions]) -> dict[str, float]:
    """Target weights that give a head the proportions ``wanted``, as nearly as plausible weights can.

    Args:
        measure: maps target weights to the head's Proportions; piecewise linear.
    """
    goal = np.array(astuple(wanted))
    ease = np.array(list(LEVERS.values()))
    amounts = np.zeros(len(LEVERS))

    def measured(amounts: np.ndarray) -> np.ndarray:
        return np.array(astuple(measure(lever_weights(amounts))))

    for _ in range(_STEPS):
        now = measured(amounts)
        # towards the side on which each lever stands or will stand: the two targets of a pair are different shapes
        nudges = np.where(amounts >= 0, 0.1, -0.1)
        slopes = np.stack(
            [
                (measured(amounts + nudge * unit) - now) / nudge
                for nudge, unit in zip(nudges, np.eye(len(ease)), strict=True)
            ],
            axis=1,
        )
        # least squares of misses and of lever amounts, both in units of what is tolerable
        system = np.concatenate([slopes / _TOLERANCE_MM, np.diag(1 / ease)])
        missing = np.concatenate([(goal - now + slopes @ amounts) / _TOLERANCE_MM, np.zeros(len(ease))])
        amounts = np.clip(np.linalg.lstsq(system, missing, rcond=None)[0], -_LARGEST, _LARGEST)
    return lever_weights(amounts)
