"""What one identity is and how it is photographed: everything that stays fixed while the age changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fran_lightning.synthesis.parametric.ageing import AgeingPattern, sample_pattern
from fran_lightning.synthesis.parametric.proportions import Proportions, sample_proportions
from fran_lightning.synthesis.parametric.target_names import signed

HairStyle = Literal["buzz", "short", "side_part", "swept_back", "bob", "long", "curly", "bun", "receding"]
BackgroundKind = Literal["studio", "bokeh", "indoor", "outdoor", "plain"]


@dataclass(frozen=True)
class Hair:
    style: HairStyle
    length_mm: float
    curl: float  # 0 straight to 1 tight curls
    melanin: float  # 0 pale blond to 1 black
    redness: float
    part: float  # side of the parting, -1 (subject's right) to 1
    fringe: bool
    hairline_mm: float  # moves the hairline up
    curtain: float  # degrees from the front at which long hair frames the face
    brow_density: float
    brow_thickness_mm: float
    brow_arch_mm: float
    beard: float  # 0 shaved to 1 short full beard
    stubble: float


@dataclass(frozen=True)
class Glasses:
    half_width_mm: float
    half_height_mm: float
    squareness: float  # 2 round, larger squarer
    wire_mm: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Skin:
    melanin: float  # 0 very light to 1 very dark
    redness: float
    warmth: float
    freckles: float
    gloss: float
    moles: int
    lip_colour: float
    iris_hue: float  # 0 brown, 0.5 green/hazel, 1 blue
    iris_lightness: float


@dataclass(frozen=True)
class Lamp:
    direction: tuple[float, float, float]  # towards the lamp, camera frame
    colour: tuple[float, float, float]  # linear RGB irradiance
    radius: float  # softness: tangent of the lamp's angular radius


@dataclass(frozen=True)
class Light:
    lamps: tuple[Lamp, ...]
    ambient: tuple[tuple[float, float, float], ...]  # radiance from +x -x +y -y +z -z
    exposure: float  # wanted mean luminance of the face


@dataclass(frozen=True)
class Camera:
    distance_mm: float
    zoom: float  # 1 is FFHQ's crop
    shift: tuple[float, float]  # of the crop, as a fraction of the image
    aperture_mm: float  # diameter of the lens' opening, for depth blur
    noise: float  # of the sensor: standard deviation in code values
    sharpness: float  # wanted fine detail: decimal logarithm of its power, see ``film.lens_blur``


@dataclass(frozen=True)
class Background:
    kind: BackgroundKind
    colours: tuple[tuple[float, float, float], ...]  # linear RGB
    blur: float
    seed: int


@dataclass(frozen=True)
class Identity:
    """One person in one picture. ``number`` seeds the details (pores, strands, spots) that are drawn later."""

    number: int
    seed: int
    gender: float
    weight: float
    ancestry: tuple[float, float, float]
    local_changes: dict[str, float]
    proportions: Proportions
    expression: dict[str, float]
    yaw: float  # degrees, positive turns the face to the image's right
    pitch: float  # positive looks up
    roll: float
    gaze: tuple[float, float]  # degrees, horizontal and vertical
    hair: Hair
    skin: Skin
    light: Light
    camera: Camera
    background: Background
    clothes: tuple[tuple[float, float, float], ...]
    neckline_mm: float
    glasses: Glasses | None
    pattern: AgeingPattern

    def random(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, so that adding one never changes the others."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.number, *purpose.encode()]))

    def record(self) -> dict[str, Any]:
        """Content of ``identity.json``."""
        return asdict(self)


#: local changes drawn for every identity: target pair (decrease, increase) and standard deviation.
#: Sided targets are named with ``{}`` for l and r and drawn once, with a small difference between the sides.
#: What moves eyes, nose, mouth and chin as a whole is in proportions.py.
_LOCAL = {
    ("head/head-scale-horiz-decr", "head/head-scale-horiz-incr"): 0.30,
    ("head/head-fat-decr", "head/head-fat-incr"): 0.30,
    ("forehead/forehead-scale-vert-decr", "forehead/forehead-scale-vert-incr"): 0.35,
    ("forehead/forehead-trans-backward", "forehead/forehead-trans-forward"): 0.3,
    ("forehead/forehead-temple-decr", "forehead/forehead-temple-incr"): 0.35,
    ("eyebrows/eyebrows-trans-down", "eyebrows/eyebrows-trans-up"): 0.4,
    ("eyebrows/eyebrows-trans-backward", "eyebrows/eyebrows-trans-forward"): 0.4,
    ("eyebrows/eyebrows-angle-down", "eyebrows/eyebrows-angle-up"): 0.4,
    ("chin/chin-width-decr", "chin/chin-width-incr"): 0.45,
    ("chin/chin-prominent-decr", "chin/chin-prominent-incr"): 0.45,
    ("chin/chin-bones-decr", "chin/chin-bones-incr"): 0.4,
    ("chin/chin-jaw-drop-decr", "chin/chin-jaw-drop-incr"): 0.35,
    ("chin/chin-prognathism-decr", "chin/chin-prognathism-incr"): 0.3,
    ("mouth/mouth-upperlip-height-decr", "mouth/mouth-upperlip-height-incr"): 0.45,
    ("mouth/mouth-lowerlip-height-decr", "mouth/mouth-lowerlip-height-incr"): 0.45,
    ("mouth/mouth-upperlip-volume-decr", "mouth/mouth-upperlip-volume-incr"): 0.4,
    ("mouth/mouth-lowerlip-volume-decr", "mouth/mouth-lowerlip-volume-incr"): 0.4,
    ("mouth/mouth-cupidsbow-decr", "mouth/mouth-cupidsbow-incr"): 0.4,
    ("mouth/mouth-angles-down", "mouth/mouth-angles-up"): 0.25,
    ("nose/nose-scale-horiz-decr", "nose/nose-scale-horiz-incr"): 0.45,
    ("nose/nose-scale-depth-decr", "nose/nose-scale-depth-incr"): 0.40,
    ("nose/nose-hump-decr", "nose/nose-hump-incr"): 0.45,
    ("nose/nose-curve-concave", "nose/nose-curve-convex"): 0.4,
    ("nose/nose-point-down", "nose/nose-point-up"): 0.4,
    ("nose/nose-point-width-decr", "nose/nose-point-width-incr"): 0.45,
    ("nose/nose-width1-decr", "nose/nose-width1-incr"): 0.45,
    ("nose/nose-width2-decr", "nose/nose-width2-incr"): 0.45,
    ("nose/nose-flaring-decr", "nose/nose-flaring-incr"): 0.45,
    ("nose/nose-volume-decr", "nose/nose-volume-incr"): 0.4,
    ("neck/neck-scale-horiz-decr", "neck/neck-scale-horiz-incr"): 0.3,
    ("cheek/{}-cheek-bones-decr", "cheek/{}-cheek-bones-incr"): 0.45,
    ("cheek/{}-cheek-volume-decr", "cheek/{}-cheek-volume-incr"): 0.40,
    ("cheek/{}-cheek-inner-decr", "cheek/{}-cheek-inner-incr"): 0.35,
    ("ears/{}-ear-scale-decr", "ears/{}-ear-scale-incr"): 0.35,
    ("ears/{}-ear-rot-backward", "ears/{}-ear-rot-forward"): 0.3,
    ("ears/{}-ear-flap-decr", "ears/{}-ear-flap-incr"): 0.3,
    ("eyes/{}-eye-scale-decr", "eyes/{}-eye-scale-incr"): 0.30,
    ("eyes/{}-eye-trans-down", "eyes/{}-eye-trans-up"): 0.30,
    ("eyes/{}-eye-height2-decr", "eyes/{}-eye-height2-incr"): 0.40,
    ("eyes/{}-eye-corner1-down", "eyes/{}-eye-corner1-up"): 0.40,
    ("eyes/{}-eye-corner2-down", "eyes/{}-eye-corner2-up"): 0.40,
    ("eyes/{}-eye-eyefold-angle-down", "eyes/{}-eye-eyefold-angle-up"): 0.35,
    ("eyes/{}-eye-push1-in", "eyes/{}-eye-push1-out"): 0.3,
}
_HEAD_FORMS = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")


def _sample_local_changes(random: np.random.Generator) -> dict[str, float]:
    changes: dict[str, float] = {}
    for pair, deviation in _LOCAL.items():
        value = float(np.clip(random.normal(0, 0.75 * deviation), -0.8, 0.8))
        if "{}" not in pair[0]:
            name, amount = signed(pair, value)
            changes[name] = amount
            continue
        for side in "lr":
            name, amount = signed(pair, float(np.clip(value + random.normal(0, 0.05), -1, 1)))
            changes[name.format(side)] = amount
    forms = random.dirichlet(np.full(len(_HEAD_FORMS), 0.4)) * random.uniform(0.2, 0.8)
    changes |= {f"head/head-{form}": float(weight) for form, weight in zip(_HEAD_FORMS, forms, strict=True)}
    for part, count in (("brown", 2), ("cheek", 2), ("eye", 8), ("jaw", 3), ("mouth", 2), ("nose", 4)):
        side = "lr"[random.integers(2)]
        number = random.integers(1, count + 1)
        changes[f"asym/asym-{part}-{number}-{side}"] = float(abs(random.normal(0, 0.12)))
    return {name: round(value, 4) for name, value in changes.items()}


def _sample_expression(random: np.random.Generator) -> dict[str, float]:
    kind = random.choice(["neutral", "smile", "grin", "serious", "surprised"], p=[0.27, 0.32, 0.28, 0.08, 0.05])
    strength = random.uniform(0.45, 1.0)
    base: dict[str, float] = {
        "neutral": {"mouthClose": 0.0},
        "smile": {"mouthSmile": 0.46, "cheekSquint": 0.4, "eyeSquint": 0.2, "mouthDimple": 0.2},
        "grin": {"mouthSmile": 0.56, "cheekSquint": 0.5, "eyeSquint": 0.3, "jawOpen": 0.08, "mouthUpperUp": 0.65},
        "serious": {"browDown": 0.4, "mouthPress": 0.3, "eyeSquint": 0.15},
        "surprised": {"browOuterUp": 0.5, "browInnerUp": 0.5, "eyeWide": 0.25, "jawOpen": 0.18},
    }[str(kind)]
    actions: dict[str, float] = {}
    for name, value in base.items():
        value *= strength
        if value == 0:
            continue
        if name in ("jawOpen", "browInnerUp"):
            actions[name] = value
        else:
            for side in ("Left", "Right"):
                actions[name + side] = value * float(1 + random.normal(0, 0.08))
    return {name: round(float(value), 4) for name, value in actions.items()}


def _sample_hair(random: np.random.Generator, gender: float, ancestry: np.ndarray, melanin: float) -> Hair:
    male = gender > 0.5
    african = ancestry[0] > 0.6
    styles: list[HairStyle] = ["buzz", "short", "side_part", "swept_back", "bob", "long", "curly", "bun", "receding"]
    weights = np.array([2, 5, 4, 2.5, 0.1, 0.4, 1, 0, 1.5] if male else [0.15, 0.6, 0.6, 0.6, 3, 6, 1.2, 2, 0])
    if african:
        weights = weights * np.array([3, 1, 0.3, 0.5, 0.4, 0.5, 5, 1.5, 1])
    style = styles[random.choice(len(styles), p=weights / weights.sum())]
    length = {
        "buzz": random.uniform(4, 9), "short": random.uniform(22, 40), "side_part": random.uniform(45, 70),
        "swept_back": random.uniform(70, 110), "bob": random.uniform(170, 230), "long": random.uniform(280, 380),
        "curly": random.uniform(45, 90), "bun": random.uniform(110, 140), "receding": random.uniform(12, 35),
    }[style]  # fmt: skip
    dark = np.clip(0.35 + 0.8 * melanin, 0, 1)
    hair_melanin = float(np.clip(random.beta(2 + 6 * dark, 1.2 + 2.5 * (1 - dark)), 0.05, 1))
    if ancestry[2] < 0.6:
        hair_melanin = float(random.uniform(0.8, 1.0))
    curl = float(random.uniform(0.75, 1) if african or style == "curly" else random.beta(1.2, 3))
    return Hair(
        style=style,
        length_mm=float(length),
        curl=curl,
        melanin=hair_melanin,
        redness=float(random.beta(1, 4)),
        part=float(random.choice([-1, 1]) * random.uniform(0.3, 1)),
        fringe=bool(not male and style in ("bob", "long") and random.random() < 0.2),
        hairline_mm=float(random.normal(0 if male else -5, 4)),
        curtain=float(random.uniform(56, 76)),
        brow_density=float(random.uniform(0.65, 1.15)),
        brow_thickness_mm=float(random.normal(5.0 if male else 3.9, 0.7)),
        brow_arch_mm=float(random.normal(2.0 if male else 4.0, 1.2)),
        beard=float(random.uniform(0.4, 1) if male and random.random() < 0.22 else 0.0),
        stubble=float(random.beta(1.5, 2) if male else 0.0),
    )


def _sample_skin(random: np.random.Generator, ancestry: np.ndarray) -> Skin:
    melanin = float(np.clip(ancestry @ [0.78, 0.33, 0.14] + random.normal(0, 0.09), 0.02, 1))
    light_eyes = ancestry[2] > 0.75 and random.random() < 0.55
    return Skin(
        melanin=melanin,
        redness=float(np.clip(random.normal(0.5, 0.18), 0.1, 1)),
        warmth=float(random.normal(0, 1)),
        freckles=float(random.beta(1, 5) if melanin < 0.3 else 0.0),
        gloss=float(random.uniform(0.25, 1)),
        moles=int(random.poisson(2.5)),
        lip_colour=float(random.uniform(0.2, 1)),
        iris_hue=float(random.uniform(0.4, 1)) if light_eyes else float(random.uniform(0, 0.15)),
        iris_lightness=float(random.uniform(0.2, 1)),
    )


def _sample_glasses(random: np.random.Generator) -> Glasses | None:
    worn = random.random() < 0.12
    glasses = Glasses(
        half_width_mm=float(random.uniform(21, 26)),
        half_height_mm=float(random.uniform(14, 20)),
        squareness=float(random.uniform(2, 4)),
        wire_mm=float(random.uniform(0.5, 1.2)),
        colour=_hsv(float(random.random()), float(random.beta(1, 3)), float(random.uniform(0.05, 0.5))),
    )
    return glasses if worn else None


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    a, e = np.radians([azimuth, elevation])
    return float(np.sin(a) * np.cos(e)), float(np.sin(e)), float(np.cos(a) * np.cos(e))


def _tint(random: np.random.Generator, temperature: float) -> np.ndarray:
    """A lamp colour; ``temperature`` -1 warm to 1 cool, mean 1."""
    colour = np.array([1 - 0.22 * temperature, 1.0, 1 + 0.30 * temperature]) * (1 + random.normal(0, 0.02, 3))
    return colour / colour.mean()


def _sample_light(random: np.random.Generator) -> Light:
    side = random.choice([-1, 1])
    key_power = random.uniform(1.6, 3.4)
    temperature = random.normal(0, 0.45)
    key = Lamp(
        _direction(side * random.uniform(5, 60), random.uniform(15, 55)),
        tuple((_tint(random, temperature) * key_power).tolist()),
        float(random.uniform(0.15, 0.7)),
    )
    fill = Lamp(
        _direction(-side * random.uniform(25, 70), random.uniform(-5, 35)),
        tuple((_tint(random, temperature + random.normal(0, 0.3)) * key_power * random.uniform(0.06, 0.4)).tolist()),
        float(random.uniform(0.5, 0.9)),
    )
    rim = Lamp(
        _direction(random.choice([-1, 1]) * random.uniform(115, 160), random.uniform(10, 45)),
        tuple((_tint(random, random.normal(0, 0.5)) * random.uniform(0, 1.6)).tolist()),
        float(random.uniform(0.2, 0.5)),
    )
    sky = _tint(random, temperature * 0.5 + 0.15) * random.uniform(0.22, 0.55)
    sides = [sky * random.uniform(0.4, 1.0) for _ in range(2)]
    ground = _tint(random, -0.3) * sky.mean() * random.uniform(0.15, 0.45)
    ambient = [*sides, sky, ground, sky * random.uniform(0.6, 1.0), sky * random.uniform(0.2, 0.7)]
    return Light(
        (key, fill, rim),
        tuple(tuple(np.asarray(colour).tolist()) for colour in ambient),
        float(random.uniform(0.8, 1.25)),
    )


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    import colorsys

    return tuple(float(c**2.2) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _sample_background(random: np.random.Generator) -> Background:
    kinds: list[BackgroundKind] = ["studio", "bokeh", "indoor", "outdoor", "plain"]
    kind = kinds[random.choice(5, p=[0.2, 0.2, 0.25, 0.25, 0.1])]
    # photographs of people: before something dark, before a bright wall or sky, or between
    low, high = ((0.18, 0.42), (0.42, 0.8), (0.8, 0.95))[random.choice(3, p=[0.36, 0.36, 0.28])]
    value = random.uniform(low, high)
    if kind == "outdoor":
        hues, saturations = random.choice([0.28, 0.33, 0.25, 0.58, 0.1], 4), random.uniform(0.1, 0.4, 4)
    else:
        hues, saturations = random.random() + random.normal(0, 0.08, 4), random.beta(1.3, 3, 4) * 0.55
    values = np.clip(value * random.uniform(0.7, 1.25, 4), 0.03, 1)
    colours = tuple(_hsv(float(h), float(s), float(v)) for h, s, v in zip(hues, saturations, values, strict=True))
    return Background(kind, colours, float(random.uniform(0.3, 1)), int(random.integers(2**31)))


def sample_identity(seed: int, number: int, max_yaw: float = 30.0) -> Identity:
    """Identity ``number`` of the data set ``seed``: a function of these two numbers (and ``max_yaw``) alone."""
    random = np.random.default_rng(np.random.SeedSequence([seed, number]))
    ancestry = random.dirichlet([0.28, 0.3, 0.5])
    gender = float(np.clip(random.beta(0.35, 0.35), 0.03, 0.97))
    skin = _sample_skin(random, ancestry)
    yaw = float(np.clip(random.normal(0, 0.45 * max_yaw), -max_yaw, max_yaw))
    return Identity(
        number=number,
        seed=seed,
        gender=gender,
        weight=float(np.clip(random.normal(0.5, 0.16), 0.1, 0.95)),
        ancestry=tuple(ancestry.tolist()),
        local_changes=_sample_local_changes(random),
        proportions=sample_proportions(random, gender),
        expression=_sample_expression(random),
        yaw=yaw,
        pitch=float(np.clip(random.normal(0, 5), -20, 20)),
        roll=float(np.clip(random.normal(0, 3), -15, 15)),
        gaze=(float(np.clip(-0.6 * yaw + random.normal(0, 4), -25, 25)), float(random.normal(0, 2))),
        hair=_sample_hair(random, gender, ancestry, skin.melanin),
        skin=skin,
        light=_sample_light(random),
        camera=Camera(
            float(random.uniform(900, 1800)),
            float(random.uniform(0.98, 1.05)),
            tuple(random.normal(0, 0.01, 2).tolist()),
            float(random.uniform(4, 36)),
            float(random.uniform(1.0, 2.2)),
            float(random.uniform(-0.02, 0.13)),
        ),
        background=_sample_background(random),
        clothes=tuple(
            _hsv(float(random.random()), float(random.beta(1.2, 2.5)), float(random.uniform(0.06, 0.95)))
            for _ in range(2)
        ),
        neckline_mm=float(random.uniform(-12, 22)),
        glasses=_sample_glasses(random),
        pattern=sample_pattern(random),
    )
