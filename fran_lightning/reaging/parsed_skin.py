"""Skin masks from a face parser: limited to their own face, checked against its landmarks, and steady over time.

A parser can fail: on a profile, behind a veil, in the dark. It is believed as far as it finds skin in the middle of the
face, where the landmarks say that skin must be; for the rest the mask by landmarks and colour (the floor) stands in.

In a film the masks of neighbouring frames are averaged in the coordinates of the face's crop, which follows the face,
with as much weight ahead as behind, so that masks neither lag nor pop. Only the few frames of that window are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fran_lightning.reaging.masks import border_mask, eyes_and_open_mouth, face_outline, fill_polygon, grown, soften
from fran_lightning.reaging.plan import FaceInFrame, FacePlan, SkinRequest

if TYPE_CHECKING:
    from fran_lightning.perception.parsing import FaceParser
    from fran_lightning.reaging.jobs import Work

#: Frames before and after that a frame's mask is averaged with, and their weights (binomial).
REACH = 2
_WEIGHTS = np.array([1, 4, 6, 4, 1], np.float32) / 16
#: Softness of the parser's edges, as a share of the crop's side (Gaussian sigma). Sharper ones ring when the mask is
#: brought back into a frame by cubic interpolation.
_EDGE = 0.008
#: Up to this mask values count as nothing, and from one minus this as all.
_TRACE = 0.01
#: Share of the face's middle that a parser must find to be believed at all, and to be believed wholly.
DOUBTED, BELIEVED = 0.5, 0.75


@dataclass(frozen=True)
class ParsedSkin:
    """A parser's answer for one face.

    Attributes:
        mask: (256, 256) float32 in [0, 1], skin near this face.
        trust: in [0, 1], how far it is believed.
    """

    mask: np.ndarray
    trust: float

    def over(self, floor: np.ndarray) -> np.ndarray:
        """The mask to use, (256, 256), zero at the border of the crop."""
        if self.trust < 1:
            return floor + (self.mask * border_mask(len(floor)) - floor) * np.float32(self.trust)
        return self.mask * border_mask(len(floor))


def face_middle(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where a face that is not covered shows skin: (size, size) bool; eyes, brows and the open mouth are left out."""
    inside = fill_polygon(grown(face_outline(landmarks), 0.75), size)
    for part, factor in ((landmarks[36:42], 1.5), (landmarks[42:48], 1.5), (landmarks[60:68], 1.2)):
        inside = np.minimum(inside, 1 - fill_polygon(grown(part, factor), size))
    return inside > 0.5


def skin_cover(mask: np.ndarray, landmarks: np.ndarray) -> float:
    """How much of the face's middle a skin mask (S, S) covers, 0 to 1; ``landmarks`` (68, 2) in its pixels."""
    middle = face_middle(landmarks, len(mask))
    return float(mask[middle].mean()) if middle.any() else 0.0


def _own_surroundings(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where skin can belong to this face: its outline with ears and bald heads, and the neck down to the edge."""
    left, right = landmarks[3], landmarks[13]
    middle, half = (left[0] + right[0]) / 2, 0.75 * abs(right[0] - left[0])
    neck = np.array([left, right, (middle + half, size), (middle - half, size)])
    return soften(np.maximum(fill_polygon(grown(face_outline(landmarks), 1.5), size), fill_polygon(neck, size)))


def parse_skin(parser: FaceParser, requests: Sequence[SkinRequest]) -> list[ParsedSkin]:
    """The parser's answers for several faces."""
    if not requests:
        return []
    crops = torch.from_numpy(np.stack([request.crop for request in requests])).permute(0, 3, 1, 2)
    answers = []
    for request, mask in zip(requests, parser.skin(crops)[:, 0].cpu().numpy(), strict=True):
        cover = skin_cover(mask, request.landmarks)
        trust = float(np.clip((cover - DOUBTED) / (BELIEVED - DOUBTED), 0, 1))
        # small as they are, eyes and teeth are where a parser's blunder shows most
        mask = soften(mask * (1 - eyes_and_open_mouth(request.landmarks, len(mask))), _EDGE)
        mask *= _own_surroundings(request.landmarks, len(mask))
        # a probability is never quite 0 or 1; untouched has to mean untouched
        mask = np.clip((mask - _TRACE) / (1 - 2 * _TRACE), 0, 1)
        answers.append(ParsedSkin(mask, trust))
    return answers


def with_parsed_skin(parser: FaceParser | None, plans: Sequence[FacePlan]) -> list[FacePlan]:
    """The plans of a photo with the parser's masks, where they ask for skin; without a parser as they are."""
    if parser is None:
        return list(plans)
    answers = iter(parse_skin(parser, [plan.skin_request for plan in plans if plan.skin_request is not None]))
    return [
        plan if (request := plan.skin_request) is None else plan.with_skin(next(answers).over(request.floor))
        for plan in plans
    ]


def steady_skin(parser: FaceParser | None, items: Iterator[Work]) -> Iterator[Work]:
    """Give the faces of a film's frames the parser's masks, averaged over time; everything passes in order.

    Frames marked ``leading`` only lend their masks to those around them, and are not passed on.
    """
    window: deque[tuple[Work, dict[int, ParsedSkin] | None]] = deque()
    before: deque[dict[int, ParsedSkin]] = deque(maxlen=REACH)
    ahead = 0
    for item in items:
        window.append((item, _parse_frame(parser, item.faces) if item.is_frame else None))
        ahead += item.is_frame
        while ahead > REACH:
            ahead -= window[0][1] is not None
            yield from _release(window, before)
    while window:
        yield from _release(window, before)


def _parse_frame(parser: FaceParser | None, faces: Sequence[FaceInFrame]) -> dict[int, ParsedSkin]:
    asking = [face for face in faces if face.plan.skin_request is not None]
    if parser is None or not asking:
        return {}
    answers = parse_skin(parser, [face.plan.skin_request for face in asking])
    return {face.track: answer for face, answer in zip(asking, answers, strict=True)}


def _release(
    window: deque[tuple[Work, dict[int, ParsedSkin] | None]], before: deque[dict[int, ParsedSkin]]
) -> Iterator[Work]:
    """The first item of the window, with its masks averaged."""
    item, found = window.popleft()
    if found is None:
        yield item
        return
    after = [answers for _, answers in window if answers is not None][:REACH]
    for face in item.faces:
        request = face.plan.skin_request
        if request is not None and face.track in found:
            # places of the window beyond the film's or the track's ends are empty
            steady = _average([*before, found, *after], face.track, first=REACH - len(before))
            face.plan = face.plan.with_skin(steady.over(request.floor))
    before.append(found)
    if not item.leading:
        yield item


def _average(frames: Sequence[dict[int, ParsedSkin]], track: int, first: int) -> ParsedSkin:
    """The weighted mean over those frames that show the track; ``first``: place of the first frame in the window."""
    parts = [
        (weight, answers[track]) for weight, answers in zip(_WEIGHTS[first:], frames, strict=False) if track in answers
    ]
    total = sum(weight for weight, _ in parts)
    own = frames[REACH - first][track]
    # differences to the frame's own answer: where all are alike they are zero, and a still picture stays still
    mask = own.mask + sum(np.float32(weight / total) * (part.mask - own.mask) for weight, part in parts)
    trust = own.trust + sum(weight / total * (part.trust - own.trust) for weight, part in parts)
    return ParsedSkin(mask, float(trust))
