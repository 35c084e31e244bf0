"""The 19 classes of face parsing, which of them re-age, and the class orders of other people's networks."""

from __future__ import annotations

#: CelebAMask-HQ's classes in the order of the public BiSeNet parsers, which is the order of every class map here
CLASS_NAMES: tuple[str, ...] = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "glasses", "l_ear", "r_ear", "earring",
    "nose", "mouth", "u_lip", "l_lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip
CLASSES = len(CLASS_NAMES)
BACKGROUND, FACE_SKIN, NOSE, MOUTH, UPPER_LIP, LOWER_LIP, NECK, CLOTH, HAIR, HAT = 0, 1, 10, 11, 12, 13, 14, 16, 17, 18
GLASSES = 6
EYES = (4, 5)
BROWS = (2, 3)
EARS = (7, 8)
#: what each class is in a mirrored picture: brows, eyes and ears change sides
MIRRORED: tuple[int, ...] = (0, 1, 3, 2, 5, 4, 6, 8, 7, *range(9, CLASSES))

#: what re-ages (paper, section 4.7): skin, brows, ears, nose, lips and neck; no eyes, glasses, jewellery, cloth or hair
SKIN: tuple[int, ...] = (1, 2, 3, 7, 8, 10, 12, 13, 14)

#: CelebAMask-HQ's own order, which ParseNet has too: place in that order -> class here
_CELEBAMASK_ORDER = (0, 1, 10, 6, 4, 5, 2, 3, 7, 8, 11, 12, 13, 17, 18, 9, 15, 14, 16)
#: the 11 classes of HELEN (Smith et al. 2013): background, skin, brows, eyes, nose, upper lip, inner mouth, lower lip,
#: hair; ears, neck and glasses are not among them
_HELEN_ORDER = (0, 1, 2, 3, 4, 5, 10, 12, 11, 13, 17)

#: names of the class orders that weight files come in
CLASS_ORDERS: dict[str, tuple[int, ...]] = {
    "bisenet": tuple(range(CLASSES)),
    "celebamask": _CELEBAMASK_ORDER,
    "helen": _HELEN_ORDER,
}
