"""One identity in its scene: static layers are made once, then any age is a render of the head alone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import warp as wp
from scipy import sparse

from fran_lightning.perception.alignment import FaceSquare, crop
from fran_lightning.synthesis.parametric import hair as hair_module
from fran_lightning.synthesis.parametric import raycast, shading
from fran_lightning.synthesis.parametric.background import paint_background
from fran_lightning.synthesis.parametric.balance import balance
from fran_lightning.synthesis.parametric.camera import frame
from fran_lightning.synthesis.parametric.chart import RADIUS_MM, Chart, build_chart, chart_angle
from fran_lightning.synthesis.parametric.film import (
    LUMINANCE,
    Optics,
    compress,
    develop,
    focus_blur,
    lens_blur,
    sensor_noise,
)
from fran_lightning.synthesis.parametric.glasses import build_glasses
from fran_lightning.synthesis.parametric.head_model import (
    EYE_LEFT,
    EYE_RIGHT,
    LASH,
    MOUTH,
    SKIN,
    SOLID,
    TEETH,
    HeadModel,
    load_head_model,
)
from fran_lightning.synthesis.parametric.scene import Identity
from fran_lightning.synthesis.parametric.shape import REFERENCE_AGE, Body
from fran_lightning.synthesis.parametric.skin import WHITE_HAIR, SkinPainter, hair_colour

# the 19 classes of CelebAMask-HQ in zllrunning's order; left and right are the subject's
BACKGROUND, SKIN_CLASS, L_EYE, R_EYE, GLASSES, L_EAR, R_EAR, NOSE = 0, 1, 4, 5, 6, 7, 8, 10
MOUTH_CLASS, U_LIP, L_LIP, NECK, CLOTH_CLASS, HAIR = 11, 12, 13, 14, 16, 17
#: classes whose pixels are the same at every age
STATIC_CLASSES = (BACKGROUND, CLOTH_CLASS, HAIR)
_LIGHT_KNOTS = (18.0, 85.0)
_LAMP_RAYS, _AMBIENT_RAYS = 10, 40
_BALANCED_AT, _SHARP_AT = 128, 256  # pixels of the aligned face on which light and sharpness are judged
_BACKGROUND_MM = 1e5  # what is farther away than this is background


@dataclass(frozen=True)
class Frame:
    """A picture and what is known of it.

    Attributes:
        image: uint8 RGB (S, S, 3).
        label: uint8 class map (S, S).
        depth: float32 (S, S) distance of the nearest thing in the pixel in millimetres, 1e6 where there is only
            background.
        landmarks: (5, 2) pixel coordinates: right eye, left eye, nose tip, right and left mouth corner.
    """

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray
    landmarks: np.ndarray


def texel_size(image_size: int) -> float:
    """Texel edge of the chart in millimetres: about half a pixel of the picture."""
    return float(np.clip(128.0 / image_size, 0.2, 0.9))


def samples_per_axis(image_size: int) -> int:
    """Supersampling: more where pixels are few."""
    return 3 if image_size <= 256 else 2


class FaceMesh:
    """What the head's mesh has in common for all identities: topology, chart coordinates, classes."""

    def __init__(self, model: HeadModel, chart: Chart) -> None:
        self.model, self.chart = model, chart
        template = model.refine @ model.template
        column = (RADIUS_MM * chart_angle(template) - chart.u[0]) / chart.texel_mm
        row = (chart.v[0] - template[:, 1]) / chart.texel_mm
        self.texels = np.stack([column, row], 1).astype(np.float32)
        part = np.zeros(len(template), dtype=int)
        part[model.triangles] = model.material[:, None]
        lash = part == LASH
        eyes = [template[part == eye].mean(0) for eye in (EYE_LEFT, EYE_RIGHT)]
        reach = np.where(template[:, 0] > 0, *[np.linalg.norm(template - eye, axis=1) for eye in eyes])
        low, high = reach[lash].min(), reach[lash].max()
        self.texels[lash, 0] = ((reach[lash] - low) / (high - low)).astype(np.float32)  # root to tip
        self.label = self._classes(template)
        self._triangles = model.triangles
        ones = np.ones(len(model.triangles))
        rows = model.triangles.T.ravel()
        columns = np.tile(np.arange(len(model.triangles)), 3)
        self._gather = sparse.csr_matrix((np.tile(ones, 3), (rows, columns)), shape=(len(template), len(ones)))

    def _classes(self, template: np.ndarray) -> np.ndarray:
        model = self.model
        centre = template[model.triangles].mean(1)
        x, y, z = centre.T
        masks = {
            name: (model.refine @ model.masks[name].astype(np.float32))[model.triangles].mean(1)
            for name in ("lips", "ears")
        }
        angle = np.abs(np.degrees(chart_angle(centre)))
        label = np.full(len(centre), SKIN_CLASS)
        # below the jaw line, which rises from the chin to the ear
        jaw = np.interp(angle, [0, 15, 35, 60, 80, 95, 180], [613, 615, 630, 655, 680, 690, 690])
        label[y < jaw] = NECK
        half = np.interp(y, [682, 690, 700, 722, 740], [17, 19, 16, 10, 8])
        label[(np.abs(x) < half) & (y > 682) & (y < 736) & (z > 120)] = NOSE
        label[masks["ears"] > 0.5] = np.where(x > 0, L_EAR, R_EAR)[masks["ears"] > 0.5]
        lips = masks["lips"] > 0.5
        label[lips] = np.where(y > 661, U_LIP, L_LIP)[lips]
        for material, value in ((EYE_LEFT, L_EYE), (EYE_RIGHT, R_EYE), (TEETH, MOUTH_CLASS), (MOUTH, MOUTH_CLASS)):
            label[model.material == material] = value
        lash = model.material == LASH
        label[lash] = np.where(x > 0, L_EYE, R_EYE)[lash]
        return label.astype(np.int32)

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals (F, 3) of fine vertices."""
        a, b, c = (vertices[self._triangles[:, k]] for k in range(3))
        normal = self._gather @ np.cross(b - a, c - a)
        return (normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def _face_mesh(image_size: int) -> FaceMesh:
    key = texel_size(image_size)
    if key not in _MESHES:
        model = load_head_model()
        _MESHES[key] = FaceMesh(model, build_chart(model, key))
    return _MESHES[key]


_MESHES: dict[float, FaceMesh] = {}


def _sphere(count: int) -> np.ndarray:
    """Evenly spread directions (count, 3)."""
    k = np.arange(count) + 0.5
    height, around = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(around), height, radius * np.sin(around)], 1)


def _lamp_directions(direction: np.ndarray, radius: float) -> np.ndarray:
    """Directions to points of a round lamp."""
    side = np.cross(direction, [0.0, 1.0, 0.1])
    side /= np.linalg.norm(side)
    up = np.cross(side, direction)
    k = np.arange(_LAMP_RAYS) + 0.5
    r, around = radius * np.sqrt(k / _LAMP_RAYS), np.pi * (1 + 5**0.5) * k
    rays = direction + (r * np.cos(around))[:, None] * side + (r * np.sin(around))[:, None] * up
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


class Studio:
    """Renders one identity at any age between 18 and 85 years.

    Args:
        identity: who and how.
        image_size: edge of the square pictures in pixels.
        device: ``cpu`` or ``cuda``.
        before: the studio of the frame before, in a clip of one person: skin, proportions, camera and exposure stay.
        optics: strengths of the camera's faults.
        grey_hair: hair of the scalp turns grey; without, its pixels are the same at all ages.
    """

    def __init__(
        self,
        identity: Identity,
        image_size: int,
        device: str = "cpu",
        before: Studio | None = None,
        optics: Optics | None = None,
        grey_hair: bool = False,
    ) -> None:
        raycast.initialise()
        self.identity, self.size, self.device = identity, image_size, device
        self.optics = optics = optics or Optics()
        self.samples = samples_per_axis(image_size)
        self._face = _face_mesh(image_size)
        self.model = self._face.model
        self.body = Body(self.model, identity, None if before is None else before.body)
        self.skin = SkinPainter(self._face.chart, identity) if before is None else before.skin.with_expression(identity)
        reference = self.body.posed(REFERENCE_AGE)
        self.camera = frame(self.body.landmarks(reference), identity) if before is None else before.camera
        self._lighting = self._make_lighting()
        self._light_knots = [self._visibility(self.body.posed(age)) for age in _LIGHT_KNOTS]
        self._glasses = self._fit_glasses()
        added_vertices, added_triangles, _ = self._glasses
        self.triangles = np.concatenate([self.model.triangles, added_triangles + self.model.refine.shape[0]])
        material = np.concatenate([self.model.material, np.full(len(added_triangles), SOLID, np.int32)])
        texels = np.concatenate([self._face.texels, np.zeros((len(added_vertices), 2), np.float32)])
        self._material = wp.array(material, dtype=int, device=device)
        self._label = wp.array(self._with_glasses(self._face.label), dtype=int, device=device)
        self._triangles = wp.array(self.triangles, dtype=int, device=device)
        self._chart = wp.array(texels, dtype=wp.vec2, device=device)
        fine = image_size * self.samples
        empty = self._layers(
            np.zeros((fine, fine, 3), np.float32),
            np.full((fine, fine), 1e6, np.float32),
            np.zeros((fine, fine), np.uint8),
            np.zeros((fine, fine, 4), np.float32),
        )
        surface = self._surface(REFERENCE_AGE)
        surface.label = wp.array(self._label_with_scalp(), dtype=int, device=device)
        colour, label, depth = self._render(surface, empty, fine, 1)
        self.exposure = self._meter(colour, label) if before is None else before.exposure
        backdrop, head = self._make_backdrop(fine, reference), (colour, label, depth)
        self.strands = hair_module.grow(self.model, self.body, identity, strand_count(image_size, identity))
        self._static = self._add_hair(backdrop, head)
        # hair that turns grey is drawn anew for every age
        self._without_hair = (backdrop, head) if grey_hair else None
        deviation = identity.camera.noise * optics.noise
        self._noise = sensor_noise(identity.random("grain"), image_size, deviation)
        seen = self._surface(REFERENCE_AGE)
        if before is None:
            whole, label, _ = self._render(seen, self._static, image_size, self.samples)
            square = FaceSquare.from_points(self.camera.project(self.body.landmarks(reference).stack(), image_size))
            background = crop((label == BACKGROUND).astype(np.float32), square, _BALANCED_AT)
            self.backlight, gain = balance(crop(whole, square, _BALANCED_AT), background, self.exposure)
            self.exposure *= gain
            self._background_gain = self.backlight / gain
        else:  # the background was painted for the exposure that holds the gain
            self.backlight = self._background_gain = before.backlight
        self._light_background(self._static)
        whole, label, depth = self._render(seen, self._static, image_size, self.samples)
        if before is None:
            aligned = (crop(pixels, square, _SHARP_AT) for pixels in (develop(whole, self.exposure), self._noise))
            self.blur = optics.lens * lens_blur(*aligned, identity.camera.sharpness) * square.side / _SHARP_AT
            eyes = self.body.landmarks(reference).stack()[:2].mean(0)
            self.focus_mm = float(np.linalg.norm(eyes - self.camera.position))
        else:
            self.blur, self.focus_mm = before.blur, before.focus_mm
        self._stage = self._make_stage(self._static, surface, whole, label, depth)

    # -- light ---------------------------------------------------------------------------------------------------
    def _make_lighting(self) -> shading.Lighting:
        lighting = shading.Lighting()
        light = self.identity.light
        lighting.direction = wp.array(
            [wp.vec3(*lamp.direction) for lamp in light.lamps], dtype=wp.vec3, device=self.device
        )
        lighting.colour = wp.array([wp.vec3(*lamp.colour) for lamp in light.lamps], dtype=wp.vec3, device=self.device)
        lighting.ambient = wp.array([wp.vec3(*colour) for colour in light.ambient], dtype=wp.vec3, device=self.device)
        return lighting

    def _visibility(self, vertices: np.ndarray) -> np.ndarray:
        """(F, 4) visibility of the three lamps and ambient occlusion, computed on the coarse mesh and refined."""
        model = self.model
        solid = np.isin(model.part, (LASH,), invert=True)
        quads = model.quads[solid[model.quads].all(1)]
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        normals = _coarse_normals(vertices, np.concatenate([model.quads[:, [0, 1, 2]], model.quads[:, [0, 2, 3]]]))
        scalp = hair_module.scalp_weight(model, self.identity)
        shell = vertices + normals * (scalp * hair_module.occluder_thickness(self.identity))[:, None]
        hairy = quads[(scalp[quads] > 0.6).all(1)] + len(vertices)
        blockers = np.concatenate([triangles, hairy[:, [0, 1, 2]], hairy[:, [0, 2, 3]]])
        everything = np.concatenate([vertices, shell])
        lamps = [_lamp_directions(np.array(lamp.direction), lamp.radius) for lamp in self.identity.light.lamps]
        common = (everything, blockers, vertices, normals)
        seen = raycast.visibility(*common, np.stack(lamps), cosine_weighted=False, device=self.device)
        ambient = raycast.visibility(*common, _sphere(_AMBIENT_RAYS)[None], cosine_weighted=True, device=self.device)
        visible = np.concatenate([seen, ambient], 1)
        bald = scalp < 0.5
        visible[~bald] = np.maximum(visible[~bald], 0.3)
        return np.clip(model.refine @ visible, 0, 1).astype(np.float32)

    def _visibility_at(self, age: float) -> np.ndarray:
        weights = [np.interp(age, _LIGHT_KNOTS, row) for row in np.eye(len(_LIGHT_KNOTS))]
        return sum(np.float32(w) * knot for w, knot in zip(weights, self._light_knots, strict=True) if w > 0)

    # -- the head at an age --------------------------------------------------------------------------------------
    def vertices(self, age: float) -> np.ndarray:
        """Fine vertices (F, 3) of the posed head at ``age``."""
        return np.concatenate([self.model.refine @ self.body.posed(age), self._glasses[0]])

    def _surface(self, age: float) -> shading.Surface:
        identity, device = self.identity, self.device
        amounts = identity.pattern.amounts(age)
        coarse = self.body.posed(age)
        vertices = self.model.refine @ coarse
        normals = np.concatenate([self._face.normals(vertices), self._glasses[2]])
        vertices = np.concatenate([vertices, self._glasses[0]])
        lit = self._visibility_at(age)
        lit = np.concatenate([lit, np.full((len(self._glasses[0]), 4), 0.8, np.float32)])
        textures = self.skin.paint(amounts)
        self._mesh = raycast.make_mesh(vertices, self.triangles, device)
        surface = shading.Surface()
        surface.mesh = self._mesh.id
        surface.triangles, surface.material, surface.label = self._triangles, self._material, self._label
        surface.normal = wp.array(normals, dtype=wp.vec3, device=device)
        surface.chart = self._chart
        surface.light = wp.array(lit, dtype=wp.vec4, device=device)
        surface.albedo = wp.array(textures.albedo, dtype=wp.vec3, device=device)
        surface.relief = wp.array(textures.relief, dtype=wp.vec4, device=device)
        surface.brow = wp.array(textures.brows.astype(np.uint8), dtype=wp.uint8, device=device)
        left, right = self.body.eye_centres(coarse)
        surface.left_eye, surface.right_eye = wp.vec3(*left.tolist()), wp.vec3(*right.tolist())
        surface.up = wp.vec3(*self.body.rotation().apply([0.0, 1.0, 0.0]).tolist())
        surface.gaze = wp.vec3(*self.body.gaze().tolist())
        old_eye = min(1.0, amounts["eye_ageing"])
        surface.iris = wp.vec3(*(iris_colour(identity) * (1 - 0.15 * old_eye)).tolist())
        surface.iris_radius = 0.44
        surface.sclera = wp.vec3(
            *(np.array([0.68, 0.64, 0.62]) * (1 - np.array([0.06, 0.11, 0.20]) * old_eye)).tolist()
        )
        surface.arcus = float(0.5 * old_eye)
        surface.teeth = wp.vec3(*(np.array([0.74, 0.69, 0.60]) * (1 - np.array([0.1, 0.16, 0.28]) * old_eye)).tolist())
        surface.solid = wp.vec3(*(identity.glasses.colour if identity.glasses else (0.0, 0.0, 0.0)))
        surface.lash = wp.vec3(*(0.6 * hair_colour(max(0.75, identity.hair.melanin), 0.0)).tolist())
        return surface

    def _view(self, size: int, samples: int) -> shading.View:
        view = shading.View()
        view.position, view.centre = wp.vec3(*self.camera.position), wp.vec2(*self.camera.centre)
        view.scale, view.size, view.samples = 2 * self.camera.half / size, size, samples
        return view

    def _layers(self, back, back_depth, back_label, front) -> shading.Layers:
        layers = shading.Layers()
        layers.back = wp.array(back, dtype=wp.vec3, device=self.device)
        layers.back_depth = wp.array(back_depth, dtype=float, device=self.device)
        layers.back_label = wp.array(back_label, dtype=wp.uint8, device=self.device)
        layers.front = wp.array(front, dtype=wp.vec4, device=self.device)
        return layers

    def _render(self, surface: shading.Surface, layers: shading.Layers, size: int, samples: int):
        colour = wp.zeros((size, size), dtype=wp.vec3, device=self.device)
        label = wp.zeros((size, size), dtype=wp.uint8, device=self.device)
        depth = wp.zeros((size, size), dtype=float, device=self.device)
        inputs = [surface, self._lighting, self._view(size, samples), layers, colour, label, depth]
        wp.launch(shading.render, (size, size), inputs, device=self.device)
        return colour.numpy(), label.numpy(), depth.numpy()

    def _label_with_scalp(self) -> np.ndarray:
        """The mesh's classes, with HAIR where hair grows."""
        scalp = self.model.refine @ hair_module.scalp_weight(self.model, self.identity).astype(np.float32)
        hairy = (scalp[self.model.triangles].mean(1) > 0.5) & (self.model.material == SKIN)
        return self._with_glasses(np.where(hairy, HAIR, self._face.label))

    def _with_glasses(self, label: np.ndarray) -> np.ndarray:
        return np.concatenate([label, np.full(len(self._glasses[1]), GLASSES)]).astype(np.int32)

    def _fit_glasses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posed vertices, triangles and normals of the glasses; empty without."""
        if self.identity.glasses is None:
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32)
        eyes = self.body.eye_centres(self.body.reference)
        vertices, triangles, normals = build_glasses(self.identity.glasses, *eyes)
        whole = np.ones((len(vertices), 1))
        return self.body.pose(vertices, whole), triangles, self.body.rotation().apply(normals).astype(np.float32)

    def _meter(self, colour: np.ndarray, label: np.ndarray) -> float:
        """Exposure for the face of the reference age: dark skin is exposed darker, but less than it is dark."""
        face = (label == SKIN_CLASS) | (label == NOSE)
        luminance = float((colour[face] @ LUMINANCE).mean())
        albedo = float(self.skin.base_albedo @ LUMINANCE)
        wanted = 0.45 * (albedo / 0.4) ** 0.45 * self.identity.light.exposure
        return wanted / max(luminance, 1e-4)

    # -- layers that no age changes ------------------------------------------------------------------------------
    def _make_backdrop(self, fine: int, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Background and clothes at sample size: linear RGB, label and depth."""
        picture = paint_background(self.identity.background, self.size) / self.exposure
        back = cv2.resize(picture, (fine, fine), interpolation=cv2.INTER_LINEAR)
        depth = np.full((fine, fine), 1e6, np.float32)
        return self._dress(fine, reference, back, np.zeros((fine, fine), np.uint8), depth)

    def _add_hair(
        self, backdrop: tuple[np.ndarray, ...], head: tuple[np.ndarray, ...], grey: float = 0.0
    ) -> shading.Layers:
        """The layers of a scene.

        Args:
            backdrop: RGB, label and depth without head and hair, at sample size.
            head: RGB, label and depth of the head at the reference age, at sample size.
            grey: share of the hairs that are white.
        """
        identity, fine = self.identity, len(backdrop[0])
        back, label, depth = (np.array(plane) for plane in backdrop)
        head_colour, head_label, head_depth = head
        front = np.zeros((fine, fine, 4), np.float32)
        self.hair_layers = ()
        if self.strands is not None:
            near, beside = hair_module.draw(self.strands, identity, self.camera, head_depth, self.device, grey)
            self.hair_layers = near, beside
            wins = beside.mask & (beside.depth < depth)
            back[wins], label[wins], depth[wins] = beside.colour[wins], HAIR, beside.depth[wins]
            # the scalp between the hairs must not age, or pixels of hair would change: it belongs to the front layer
            scalp = (head_label == HAIR) & (head_depth < depth)
            pigment = hair_colour(identity.hair.melanin, identity.hair.redness)
            roots = 0.5 * np.array(identity.light.ambient[4]) * (pigment + grey * (WHITE_HAIR - pigment))
            inward = cv2.distanceTransform(scalp.astype(np.uint8), cv2.DIST_L2, 3)[scalp]
            cover = 0.6 * np.clip(inward * 2 * self.camera.half * identity.camera.distance_mm / fine / 5, 0, 1)[:, None]
            front[scalp, :3] = (1 - cover) * head_colour[scalp] + cover * roots
            front[scalp, 3] = head_depth[scalp]
            # hair over the head is always in front of it, but not in front of clothes that cover it
            shown = near.mask & (near.depth < depth)
            front[shown, :3], front[shown, 3] = near.colour[shown], near.depth[shown]
            # a pixel that is mostly hair is hair and shows nothing of the ageing face
            blocks = (front[..., 3] > 0).reshape(self.size, self.samples, self.size, self.samples)
            mostly = np.kron(blocks.mean((1, 3)) >= 0.5, np.ones((self.samples, self.samples), bool))
            gaps = mostly & (front[..., 3] == 0)
            seen = head_depth < depth
            front[gaps, :3] = np.where(seen[gaps, None], head_colour[gaps], back[gaps])
            front[gaps, 3] = np.minimum(head_depth, depth)[gaps]
        return self._layers(back, depth, label, front)

    def _light_background(self, layers: shading.Layers) -> None:
        """Give the background in ``layers`` its brightness."""
        factor = np.float32(self._background_gain)
        back, front = layers.back.numpy(), layers.front.numpy()
        far = layers.back_depth.numpy() > _BACKGROUND_MM
        back[far] *= factor
        gaps = front[..., 3] > _BACKGROUND_MM  # the background seen between hairs
        front[gaps, :3] *= factor
        layers.back = wp.array(back, dtype=wp.vec3, device=self.device)
        layers.front = wp.array(front, dtype=wp.vec4, device=self.device)

    def _make_stage(
        self, layers: shading.Layers, surface: shading.Surface, whole: np.ndarray, label: np.ndarray, depth: np.ndarray
    ) -> np.ndarray:
        """The picture (S, S, 3) whose pixels all ages show outside the head: a photograph of the scene without it.

        Only hair that lies on the head is taken from the photograph of the reference age: the lens mixes into it what
        it lies on, and that is skin at every age. ``surface`` loses its mesh.
        """
        surface.mesh = self._nothing().id
        empty, _, empty_depth = self._render(surface, layers, self.size, self.samples)
        covered = (layers.front.numpy()[..., 3] > 0).reshape(self.size, self.samples, self.size, self.samples)
        on_head = covered.all((1, 3)) & (label == HAIR)
        return np.where(on_head[..., None], self._photograph(whole, depth), self._photograph(empty, empty_depth))

    def _scene_at(self, age: float) -> tuple[shading.Layers, np.ndarray]:
        """Layers and stage; the same for all ages unless the hair turns grey."""
        if self._without_hair is None:
            return self._static, self._stage
        layers = self._add_hair(*self._without_hair, min(1.0, self.identity.pattern.amounts(age)["greying"]))
        self._light_background(layers)
        surface = self._surface(REFERENCE_AGE)
        return layers, self._make_stage(layers, surface, *self._render(surface, layers, self.size, self.samples))

    def _dress(self, fine: int, reference: np.ndarray, back, label, depth):
        """Clothes: the reference body below the neckline, a few millimetres out."""
        model, identity = self.model, self.identity
        x, y, z = model.template.T
        neckline = 566 + identity.neckline_mm + 0.10 * np.minimum(np.abs(x), 90) + 0.28 * np.minimum(30 - z, 90)
        covered = (y < neckline) & (model.part == SKIN)
        triangles = np.concatenate([model.quads[:, [0, 1, 2]], model.quads[:, [0, 2, 3]]])
        normals = _coarse_normals(reference, triangles)
        vertices = model.refine @ (reference + 7.0 * normals)
        kept = (model.refine @ covered.astype(np.float32))[model.triangles].min(1) > 0.45
        kept &= model.material == SKIN
        self.clothes = vertices, model.triangles[kept]
        mesh = raycast.make_mesh(*self.clothes, self.device)
        surface = self._surface(REFERENCE_AGE)
        surface.mesh = mesh.id
        surface.triangles = wp.array(model.triangles[kept], dtype=int, device=self.device)
        surface.material = wp.full(int(kept.sum()), SOLID, dtype=int, device=self.device)
        surface.solid = wp.vec3(*identity.clothes[0])
        surface.label = wp.full(int(kept.sum()), CLOTH_CLASS, dtype=int, device=self.device)
        front = np.zeros((fine, fine, 4), np.float32)
        return self._render(surface, self._layers(back, depth, label, front), fine, 1)

    # -- pictures ------------------------------------------------------------------------------------------------
    def render(self, age: float) -> Frame:
        """The identity at ``age`` years (18 to 85)."""
        layers, stage = self._scene_at(age)
        linear, label, depth = self._render(self._surface(age), layers, self.size, self.samples)
        # the lens blurs across the head's edge; pixels outside are those of the stage, equal at all ages
        outside = np.isin(label, STATIC_CLASSES)[..., None]
        points = self.body.landmarks(self.body.posed(age)).stack()
        picture = np.where(outside, stage, self._photograph(linear, depth))
        return Frame(picture, label, depth, self.camera.project(points, self.size))

    def _photograph(self, linear: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Lens, focus, film and file: (S, S, 3) linear light at ``depth`` (S, S) millimetres to uint8 sRGB."""
        picture = develop(focus_blur(linear, self._defocus(depth), self.blur), self.exposure, self._noise)
        return compress(picture, self.optics.jpeg_quality)

    def _defocus(self, depth: np.ndarray) -> np.ndarray:
        """Blur in pixels (standard deviation) of things at ``depth``: of a thin lens that looks at the eyes."""
        aperture = self.identity.camera.aperture_mm * self.optics.depth_blur
        circle = aperture * np.abs(depth - self.focus_mm) / depth
        circle[depth > _BACKGROUND_MM] = 0  # it is painted out of focus
        pixels_per_mm = self.size / (2 * self.camera.half * self.focus_mm)
        return 0.25 * circle * pixels_per_mm  # the deviation of a disc is a quarter of its diameter

    def _nothing(self) -> wp.Mesh:
        """A mesh that no ray meets."""
        self._away = raycast.make_mesh(np.full((3, 3), 1e5) + np.eye(3), np.array([[0, 1, 2]]), self.device)
        return self._away


def strand_count(image_size: int, identity: Identity) -> int:
    """Enough hairs to cover the scalp at this size."""
    dense = {"buzz": 2.2, "receding": 1.6, "short": 1.3}.get(identity.hair.style, 1.0)
    return int(np.clip(55 * image_size, 5000, 40000) * dense)


def iris_colour(identity: Identity) -> np.ndarray:
    """Linear RGB of the iris."""
    skin = identity.skin
    brown, hazel, blue = np.array([0.10, 0.045, 0.02]), np.array([0.16, 0.15, 0.06]), np.array([0.16, 0.23, 0.33])
    hue = skin.iris_hue
    colour = brown + (hazel - brown) * min(1.0, 2 * hue) if hue < 0.5 else hazel + (blue - hazel) * (2 * hue - 1)
    return colour * (0.5 + skin.iris_lightness)


def _coarse_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    normal = np.stack([np.bincount(triangles.ravel(), np.repeat(faces[:, k], 3), len(vertices)) for k in range(3)], 1)
    return (normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)).astype(np.float32)
