"""What a user can ask for, in one object that photos and films share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fran_lightning.reaging.frame_images import FrameImages
from fran_lightning.reaging.masks import MaskKind
from fran_lightning.reaging.resolution import SizeRule
from fran_lightning.reaging.strength import StrengthCurve
from fran_lightning.reaging.targets import Targets, parse_targets

FaceChoice = Literal["largest", "all"] | int | tuple[float, float]


@dataclass(frozen=True)
class ReageSettings:
    """One re-ageing job.

    Attributes:
        targets: the age of each person.
        source_ages: years of the faces as they are, by person; key -1 stands for everyone. Others are estimated.
        mask: a kind of mask, or painted masks in the coordinates of the frame (upright).
        faces: who is meant, where ``targets`` does not name persons.
        strength: factor on the change, one or keyframes.
        size: pixels at which the network sees a face.
        regions: target years of facial regions; they take precedence over ``targets``.
        age_map: painted target ages in the coordinates of the frame (upright); they take precedence over all.
    """

    targets: Targets = field(default_factory=lambda: parse_targets("65"))
    source_ages: Mapping[int, float] = field(default_factory=dict)
    mask: MaskKind | FrameImages = "skin"
    faces: FaceChoice = "largest"
    strength: float | StrengthCurve = 1.0
    size: SizeRule | int = "auto"
    regions: Mapping[str, float] = field(default_factory=dict)
    age_map: FrameImages | None = None

    def source_age(self, person: int) -> float | None:
        """The given source age of a person, or None."""
        return self.source_ages.get(person, self.source_ages.get(-1))

    def strength_at(self, frame: int) -> float:
        """The factor on the change in a frame, by the number that keyframes call it."""
        return self.strength.at(frame) if isinstance(self.strength, StrengthCurve) else self.strength
