"""The ageing law: what changes between 18 and 85 years, by how much, and how it differs between people.

Every quantity is a *channel* with a curve over age. A curve is 0 at its onset and 1 at its end (85 years unless
said otherwise), rising monotonically (a smooth power law); an identity multiplies it with its own rate and bends it
with its own timing. The geometry, the skin and the wrinkles read their amounts from here and nowhere else, so that
this table is the whole law. ``docs/parametric_data.md`` shows it with pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

YOUNGEST, OLDEST = 18.0, 85.0


@dataclass(frozen=True)
class Channel:
    """One thing that changes.

    Attributes:
        onset: age in years at which it starts; before, the amount is 0.
        power: shape of the rise: 1 linear, above 1 late.
        spread: standard deviation of the identity's log rate.
        meaning: what it does at amount 1.
        end: age at which the amount reaches 1.
    """

    onset: float
    power: float
    spread: float
    meaning: str
    end: float = OLDEST

    def amount(self, age: float, timing: float) -> float:
        """0 at the onset, 1 at the end; ``timing`` shifts the middle of the rise by up to about ten years."""
        x = np.clip((age - self.onset) / (self.end - self.onset), 0.0, 1.0)
        # bend with both ends fixed; monotone for |timing| < 1
        x = x + timing * 0.5 * x * (1 - x)
        return float(x**self.power)


CHANNELS: dict[str, Channel] = {
    # geometry
    "maturing": Channel(13, 0.8, 0.0, "adolescent roundness lost, adult face reached", end=30),
    "phenotype": Channel(18, 0.9, 0.12, "anny's age from young adult to old"),
    "brow_droop": Channel(24, 1.0, 0.25, "brows and upper lid skin sink"),
    "lid_hooding": Channel(26, 1.0, 0.30, "upper lid fold covers the lid, eye opening narrows"),
    "eye_bags": Channel(22, 0.85, 0.30, "fat bulges under the eye"),
    "jowls": Channel(27, 1.0, 0.25, "cheek volume slides to the jaw line"),
    "hollow_cheeks": Channel(28, 1.1, 0.30, "mid-face and temples lose volume"),
    "thin_lips": Channel(22, 0.9, 0.20, "lips lose height and volume, corners sink, upper lip lengthens"),
    "nose_growth": Channel(25, 1.0, 0.20, "nose longer and wider, tip sinks"),
    "ear_growth": Channel(25, 1.0, 0.20, "ears and lobes longer"),
    "neck_sag": Channel(35, 1.2, 0.25, "loose skin under the chin"),
    # wrinkles: millimetres of relief come from the wrinkle maps, this is their scale
    "forehead_lines": Channel(20, 0.85, 0.30, "horizontal forehead furrows"),
    "glabella_lines": Channel(24, 0.9, 0.35, "frown lines between the brows"),
    "crows_feet": Channel(22, 0.8, 0.25, "fan at the outer eye corners"),
    "under_eye_lines": Channel(20, 0.8, 0.25, "fine lines and tear trough below the eye"),
    "nasolabial": Channel(18, 0.75, 0.20, "fold from the nose to the mouth corner"),
    "marionette": Channel(28, 0.95, 0.25, "fold from the mouth corner to the chin"),
    "lip_lines": Channel(34, 1.05, 0.35, "vertical lines of the upper and lower lip"),
    "cheek_lines": Channel(36, 1.1, 0.35, "curved lines on the cheeks"),
    "neck_lines": Channel(22, 0.9, 0.25, "rings and cords of the neck"),
    "crepe": Channel(24, 1.0, 0.20, "fine criss-cross relief of dry skin"),
    # skin colour
    "spots": Channel(24, 1.0, 0.35, "age spots: number, size and darkness"),
    "unevenness": Channel(18, 0.85, 0.20, "blotchy melanin and blood"),
    "pallor": Channel(18, 0.9, 0.20, "cheeks and lips lose red, skin turns yellower and duller"),
    "dark_circles": Channel(20, 0.85, 0.30, "skin below the eye darkens"),
    "veins": Channel(40, 1.2, 0.40, "small red vessels on cheeks and nose"),
    "dryness": Channel(25, 1.0, 0.15, "gloss is lost"),
    "eye_ageing": Channel(35, 1.2, 0.30, "sclera yellows and reddens, pale ring at the iris' edge"),
    "greying": Channel(35, 1.0, 0.30, "brows and beard turn grey (scalp hair only with --grey-hair)"),
}


@dataclass(frozen=True)
class AgeingPattern:
    """How one identity ages: a rate (about 1) and a timing (about 0, within +-0.8) per channel."""

    rate: Mapping[str, float]
    timing: Mapping[str, float]

    def amounts(self, age: float) -> dict[str, float]:
        """The amount of every channel at ``age`` years (18 to 85): non-negative, never falling with age."""
        return {name: self.rate[name] * channel.amount(age, self.timing[name]) for name, channel in CHANNELS.items()}


def sample_pattern(random: np.random.Generator) -> AgeingPattern:
    """Draw an identity's pattern: one shared factor (some people age faster) times one per channel."""
    shared_rate = random.normal(0, 0.06)
    shared_timing = random.normal(0, 0.25)
    rate, timing = {}, {}
    for name, channel in CHANNELS.items():
        own = random.normal(0, channel.spread) if channel.spread else 0.0
        rate[name] = float(np.exp(np.clip(shared_rate + own, -0.25, 0.5)))
        timing[name] = float(np.clip(shared_timing + random.normal(0, 0.2), -0.8, 0.8))
    rate["maturing"], timing["maturing"] = 1.0, 0.0
    return AgeingPattern(rate, timing)
