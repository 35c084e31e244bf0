"""Paints faces of which every pixel's class is known anew, so that a parser cannot learn how they were rendered.

Backgrounds, hair and clothes get other colours and textures, skin other tones; beards, strands of hair, hats, teeth,
thicker and tinted glasses and things in front of the face, which the rendered faces lack, are painted on, with their
classes. Pictures are float32 RGB (H, W, 3) in [0, 1] of upright faces, class maps uint8 (H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from fran_lightning.parser_training.textures import any_texture, colour, hair_colour, strands
from fran_lightning.perception.parsing_classes import (
    BACKGROUND,
    BROWS,
    CLOTH,
    EARS,
    EYES,
    FACE_SKIN,
    GLASSES,
    HAIR,
    HAT,
    LOWER_LIP,
    MOUTH,
    NECK,
    NOSE,
    SKIN,
    UPPER_LIP,
)

#: a picture and its class map
Painted = tuple[np.ndarray, np.ndarray]


def repaint(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """A random selection of all that this module can do, in an order in which things lie upon each other."""
    for step, probability in _STEPS:
        if rng.random() < probability:
            image, labels = step(image, labels, rng)
    return image, labels


def _soft(mask: np.ndarray, sigma: float = 0.7) -> np.ndarray:
    """A class's mask as an opacity (H, W, 1) with an edge like a camera's."""
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)[..., None]


def _over(image: np.ndarray, paint: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return image + (paint - image) * opacity


def _rows(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask.any(axis=1))


def replace_background(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Another background, sometimes of skin's colours or of one flat colour like a green screen."""
    height, width = labels.shape
    paint = any_texture(rng, height, width)
    kind = rng.random()
    if kind < 0.15:
        skin = image[np.isin(labels, SKIN)]
        if len(skin):
            paint = 0.6 * skin.mean(axis=0) + 0.4 * paint
    elif kind < 0.22:
        screen = np.array([(0.1, 0.75, 0.2), (0.1, 0.25, 0.8)], np.float32)[int(rng.integers(2))]
        paint = np.broadcast_to(screen * rng.uniform(0.6, 1.2), image.shape)
    return _over(image, paint, _soft(labels == BACKGROUND, rng.uniform(0.5, 1.2))), labels


def recolour_hair(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Hair of another colour, with its own shading or with painted strands; brows follow now and then."""
    mask = labels == HAIR
    if mask.sum() < 50:
        return image, labels
    tint = hair_colour(rng)
    if rng.random() < 0.35:
        shading = image.mean(axis=2, keepdims=True) / max(float(image[mask].mean()), 0.02)
        paint = np.clip(tint * (1 + (shading - 1) * rng.uniform(0.3, 1.0)), 0, 1)
    elif rng.random() < 0.8:
        paint = strands(rng, *labels.shape, tint)
    else:
        # curls, and whatever else covers a head
        paint = np.clip(any_texture(rng, *labels.shape) * tint * rng.uniform(1.0, 2.5), 0, 1)
    image = _over(image, paint, _soft(mask, rng.uniform(0.6, 2.0)) * rng.uniform(0.8, 1.0))
    if rng.random() < 0.5:
        image = _over(image, np.broadcast_to(tint, image.shape), _soft(np.isin(labels, BROWS)) * rng.uniform(0.1, 0.7))
    return image, labels


def recolour_clothes(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Clothes of another stuff, shaded like the old ones."""
    mask = labels == CLOTH
    if mask.sum() < 50:
        return image, labels
    paint = any_texture(rng, *labels.shape)
    if rng.random() < 0.5:
        shading = image.mean(axis=2, keepdims=True) / max(float(image[mask].mean()), 0.02)
        paint = np.clip(paint * np.clip(shading, 0.3, 2), 0, 1)
    return _over(image, paint, _soft(mask)), labels


def change_collar(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Clothes that reach up the neck, as a collar, scarf or turtleneck does."""
    rows = _rows(labels == NECK)
    if len(rows) < 8:
        return image, labels
    height, width = labels.shape
    top = rows[0] + rng.uniform(0.15, 0.9) * (rows[-1] - rows[0])
    x = (np.arange(width) - width / 2) / width
    edge = top + height * (rng.uniform(-0.6, 0.6) * np.abs(x) + rng.uniform(-0.15, 0.15) * x)
    mask = (np.arange(height)[:, None] > edge) & np.isin(labels, (NECK, CLOTH))
    image = _over(image, any_texture(rng, height, width), _soft(mask))
    return image, np.where(mask, CLOTH, labels).astype(np.uint8)


def change_skin_tone(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Skin lighter, darker, redder or paler than it was."""
    mask = np.isin(labels, (*SKIN, MOUTH))
    gains = 1 + rng.uniform(-0.12, 0.12, 3).astype(np.float32)
    paint = np.clip(np.clip(image, 0, 1) ** np.float32(rng.uniform(0.55, 1.7)) * gains, 0, 1)
    return _over(image, paint, _soft(mask)), labels


def smooth_skin(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Skin without its rendered wrinkles and pores."""
    paint = cv2.bilateralFilter(image, 9, 0.1, rng.uniform(3, 7))
    return _over(image, paint, _soft(np.isin(labels, (FACE_SKIN, NOSE, NECK)))), labels


def blotch_skin(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Patches of red, of shine or of freckles."""
    height, width = labels.shape
    coarse = rng.standard_normal((int(rng.integers(4, 40)),) * 2).astype(np.float32)
    patches = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) - rng.uniform(0.2, 1), 0, 1)
    tint = np.array([(1.2, 0.85, 0.85), (1.5, 1.5, 1.5), (0.7, 0.6, 0.5)], np.float32)[int(rng.integers(3))]
    opacity = _soft(np.isin(labels, SKIN)) * patches[..., None] * rng.uniform(0.2, 0.8)
    return np.clip(_over(image, image * tint, opacity), 0, 1), labels


def make_up(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Lips and brows of another colour."""
    lips = np.isin(labels, (UPPER_LIP, LOWER_LIP))
    paint = image * np.array([rng.uniform(0.7, 1.3), rng.uniform(0.4, 1.1), rng.uniform(0.4, 1.2)], np.float32)
    image = np.clip(_over(image, paint, _soft(lips)), 0, 1)
    brows = np.clip(image * rng.uniform(0.4, 1.5), 0, 1)
    return _over(image, brows, _soft(np.isin(labels, BROWS)) * rng.uniform(0, 1)), labels


def open_mouth(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Lips that part, with teeth, tongue or darkness between them: the rendered mouths are nearly closed."""
    upper, lower = labels == UPPER_LIP, labels == LOWER_LIP
    if upper.sum() < 20 or lower.sum() < 20:
        return image, labels
    reach = int(rng.integers(2, 8)) * labels.shape[0] // 256
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (reach // 2) + 1, 2 * reach + 1))
    near = [cv2.dilate(lip.astype(np.uint8), kernel) for lip in (upper, lower)]
    inside = (near[0] & near[1] & np.isin(labels, (UPPER_LIP, LOWER_LIP, MOUTH))).astype(bool) | (labels == MOUTH)
    # lips narrower than the gap would vanish
    grown = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    if (upper & ~grown).sum() < 10 or (lower & ~grown).sum() < 10:
        return image, labels
    paint = np.full_like(image, 0.05) * (1 + 3 * rng.random(3).astype(np.float32) * (1, 0.4, 0.4))
    rows = _rows(inside)
    if rng.random() < 0.75:
        teeth_end = rows[0] + rng.uniform(0.4, 1.3) * (rows[-1] - rows[0] + 1)
        x = np.arange(labels.shape[1])
        gaps = 1 - 0.25 * (np.abs(np.sin(np.pi * x / rng.uniform(3, 8))) < 0.2)
        tone = np.array([0.85, 0.8, 0.72], np.float32) * rng.uniform(0.45, 1.15)
        is_teeth = (np.arange(labels.shape[0]) < teeth_end)[:, None, None]
        paint = np.where(is_teeth, np.clip(gaps[None, :, None] * tone, 0, 1), paint).astype(np.float32)
    return _over(image, paint, _soft(inside, 0.6)), np.where(inside, MOUTH, labels).astype(np.uint8)


def grow_beard(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """A beard or a moustache. It stays skin, as in CelebAMask-HQ."""
    nose, skin = _rows(labels == NOSE), labels == FACE_SKIN
    mouth = np.isin(labels, (UPPER_LIP, LOWER_LIP, MOUTH))
    lips = _rows(mouth)
    if len(nose) < 5 or len(lips) < 3:
        return image, labels
    height, width = labels.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    begin = nose[-1] + rng.uniform(-0.1, 0.5) * (lips[0] - nose[-1])
    if rng.random() < 0.5:
        # whiskers along the sides of the face
        middle, half = x[mouth].mean(), np.ptp(x[mouth]) / 2
        begin = begin - np.clip((np.abs(x - middle) / max(half, 4) - rng.uniform(1.1, 1.6)) * height * 0.12, 0, None)
    end = lips[-1] + rng.uniform(-2, 0) if rng.random() < 0.15 else 2.0 * height
    density = np.clip((y - begin) / (0.02 * height), 0, 1) * np.clip((end - y) / (0.01 * height) + 1, 0, 1)
    patchy = cv2.resize(rng.standard_normal((12, 12)).astype(np.float32), (width, height))
    density = density * np.clip(1 + rng.uniform(0, 0.6) * patchy, 0, 1) * rng.uniform(0.3, 1.0)
    density = cv2.GaussianBlur(density * (skin & ~mouth), (0, 0), 1.0)[..., None]
    return _over(image, strands(rng, height, width, hair_colour(rng)), density), labels


def let_strands_fall(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Strands of hair, few or a whole fringe, over forehead, eyes and cheeks."""
    head = np.isin(labels, (FACE_SKIN, HAIR))
    face = _rows(labels == FACE_SKIN)
    columns = np.flatnonzero((labels == FACE_SKIN).any(axis=0))
    if len(face) < 20 or len(columns) < 20:
        return image, labels
    height, width = labels.shape
    mask = np.zeros((height, width), np.uint8)
    hair = image[labels == HAIR]
    tint = hair.mean(axis=0) if len(hair) > 50 else hair_colour(rng)
    centre, spread = rng.uniform(columns[0], columns[-1]), rng.uniform(0.03, 0.35) * width
    lean, length = rng.normal(0, 0.5), rng.uniform(0.08, 0.55) * (face[-1] - face[0])
    for _ in range(int(rng.integers(3, 90))):
        x = rng.normal(centre, spread)
        column = int(np.clip(x, 0, width - 1))
        tops = np.flatnonzero(head[:, column])
        if not len(tops):
            continue
        skin_top = np.flatnonzero(labels[:, column] == FACE_SKIN)
        start = (skin_top[0] if len(skin_top) else tops[0]) - 0.03 * height
        t = np.linspace(0, 1, 8)
        path = np.stack(
            [x + (lean * t + rng.normal(0, 0.1) * t**2) * length, start + t * length * rng.uniform(0.6, 1.1)]
        )
        cv2.polylines(
            mask, [np.round(path.T * 8).astype(np.int32)], False, 255, int(rng.integers(1, 4)), cv2.LINE_AA, 3
        )
    opacity = (mask.astype(np.float32) / 255)[..., None]
    image = _over(image, strands(rng, height, width, tint.astype(np.float32)), opacity)
    return image, np.where(mask > 127, HAIR, labels).astype(np.uint8)


def shave_head(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Short hair turned to skin: the rendered faces have no bald heads."""
    hair, skin = labels == HAIR, labels == FACE_SKIN
    eyes = _rows(np.isin(labels, EYES))
    if not hair.any() or len(eyes) < 2 or hair.mean() > 0.18:
        return image, labels
    # what hangs below the eyes is no skull
    hair = hair & (np.arange(labels.shape[0]) < eyes[-1])[:, None]
    forehead = skin & (np.arange(labels.shape[0]) < eyes[0])[:, None]
    if forehead.sum() < 50:
        return image, labels
    light = cv2.GaussianBlur(image.mean(axis=2), (0, 0), 6)[..., None]
    shade = 1 + (light / max(float(light[hair].mean()), 0.02) - 1) * rng.uniform(0.1, 0.5)
    grain = 1 + 0.04 * rng.standard_normal((*labels.shape, 1)).astype(np.float32)
    tone = image[forehead].mean(axis=0) * rng.uniform(0.75, 1.1)
    image = _over(
        image, np.clip(tone * shade * cv2.GaussianBlur(grain, (0, 0), 0.8)[..., None], 0, 1), _soft(hair, 1.5)
    )
    return image, np.where(hair, FACE_SKIN, labels).astype(np.uint8)


def put_on_hat(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """A cap, hat or scarf over hair and forehead."""
    brows, head = _rows(np.isin(labels, BROWS)), np.isin(labels, (FACE_SKIN, HAIR, *EARS))
    face = np.flatnonzero((labels == FACE_SKIN).any(axis=0))
    tops = _rows(head)
    if len(brows) < 2 or len(face) < 20:
        return image, labels
    height, width = labels.shape
    left, right = face[0], face[-1]
    bottom = brows[0] - rng.uniform(0.0, 0.14) * height
    top = tops[0] - rng.uniform(0.0, 0.12) * height
    overhang = rng.uniform(0.02, 0.35) * (right - left)
    tilt = rng.uniform(-0.12, 0.12) * (right - left)
    turn = np.linspace(np.pi, 2 * np.pi, 20)
    crown = np.stack(
        [(left + right) / 2 + ((right - left) / 2 + overhang) * np.cos(turn), bottom + (bottom - top) * np.sin(turn)], 1
    )
    crown[:, 1] += tilt * (crown[:, 0] - (left + right) / 2) / max(right - left, 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(crown * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    if rng.random() < 0.5:
        centre = (int((left + right) / 2 * 8), int(bottom * 8))
        reach = rng.uniform(0.5, 0.95) * (right - left)
        axes = (int(reach * 8), int(rng.uniform(0.02, 0.08) * height * 8))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(-8, 8)), 0, 360, 255, -1, cv2.LINE_AA, 3)
    opacity = (mask.astype(np.float32) / 255)[..., None]
    shadow = cv2.GaussianBlur(opacity, (0, 0), 0.02 * height)[..., None] * rng.uniform(0, 0.6)
    image = _over(image * (1 - np.roll(shadow, int(0.03 * height), axis=0)), any_texture(rng, height, width), opacity)
    labels = np.where(mask > 127, HAT, labels).astype(np.uint8)
    # hair above a hat does not exist
    above = (np.arange(height) < bottom - 0.5 * (bottom - top))[:, None] & (labels == HAIR)
    image = _over(image, any_texture(rng, height, width), _soft(above))
    return image, np.where(above, BACKGROUND, labels).astype(np.uint8)


def change_glasses(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Thicker rims, lenses that mirror, and dark lenses, which are glasses themselves."""
    rims = (labels == GLASSES).astype(np.uint8)
    if rims.sum() < 30:
        return image, labels
    if rng.random() < 0.5:
        rims = cv2.dilate(rims, np.ones((int(rng.integers(2, 6)),) * 2, np.uint8))
        image = _over(image, np.broadcast_to(colour(rng) * rng.uniform(0.1, 1), image.shape), _soft(rims > 0))
        labels = np.where(rims > 0, GLASSES, labels).astype(np.uint8)
    closed = cv2.morphologyEx(rims, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(rims), outlines, -1, 1, -1)
    lenses = (filled > 0) & (rims == 0)
    if rng.random() < 0.35:
        dark = np.broadcast_to(colour(rng) * rng.uniform(0.02, 0.5), image.shape)
        image = _over(image, dark, _soft(lenses) * rng.uniform(0.85, 1.0))
        labels = np.where(lenses, GLASSES, labels).astype(np.uint8)
    elif rng.random() < 0.6:
        image = _over(image, any_texture(rng, *labels.shape), _soft(lenses) * rng.uniform(0.05, 0.3))
    return image, labels


def hold_something(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Something in front of the face or beside it: a cup, a microphone, a sheet of paper, an arm."""
    height, width = labels.shape
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(0.05, 0.95, 2) * (width, height)
        if rng.random() < 0.4:
            axes = tuple(int(v * width * 8) for v in rng.uniform(0.03, 0.22, 2))
            place = tuple(int(v * 8) for v in centre)
            cv2.ellipse(mask, place, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA, 3)
        else:
            corners = rng.uniform(-1, 1, (int(rng.integers(4, 8)), 2)) * rng.uniform(0.03, 0.3, 2) * width
            angle = rng.uniform(0, 2 * np.pi)
            turned = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + centre
            hull = cv2.convexHull(turned.astype(np.float32))
            cv2.fillConvexPoly(mask, np.round(hull * 8).astype(np.int32), 255, cv2.LINE_AA, 3)
    # no face is left where most of it is covered
    face = np.isin(labels, SKIN)
    if face.any() and (mask[face] > 127).mean() > 0.45:
        return image, labels
    opacity = (mask.astype(np.float32) / 255)[..., None]
    shadow = cv2.GaussianBlur(opacity, (0, 0), rng.uniform(2, 8))[..., None] * rng.uniform(0, 0.5)
    image = _over(image * (1 - shadow), any_texture(rng, height, width), opacity)
    return image, np.where(mask > 127, BACKGROUND, labels).astype(np.uint8)


def relight(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Painted:
    """Light from one side, coloured or not, and the shadow of something outside the picture."""
    height, width = labels.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    run = ((x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle))[..., None]
    tint = 1 + rng.uniform(-0.2, 0.2, 3).astype(np.float32)
    image = image * np.exp(rng.uniform(0, 1.8) * run * tint)
    if rng.random() < 0.5:
        corners = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 7)), 2)) * (width, height)
        mask = np.zeros((height, width), np.float32)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
        shadow = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 12))[..., None]
        image = image * (1 - shadow * rng.uniform(0.2, 0.75))
    return np.clip(image, 0, 1), labels


_STEPS: tuple[tuple[Callable[[np.ndarray, np.ndarray, np.random.Generator], Painted], float], ...] = (
    (change_skin_tone, 0.5),
    (smooth_skin, 0.25),
    (blotch_skin, 0.3),
    (make_up, 0.4),
    (open_mouth, 0.35),
    (grow_beard, 0.2),
    (shave_head, 0.12),
    (recolour_hair, 0.7),
    (change_collar, 0.3),
    (recolour_clothes, 0.7),
    (let_strands_fall, 0.2),
    (change_glasses, 0.7),
    (replace_background, 0.75),
    (put_on_hat, 0.08),
    (relight, 0.5),
    (hold_something, 0.2),
)
