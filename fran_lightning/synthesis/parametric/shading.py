"""The warp kernel that turns a posed head, its textures and the static layers into pixels.

Linear light. Diffuse: wrapped per colour, red most, with the relief softened for red (light that scatters in the
skin blurs small shadows). Specular: two GGX lobes. Lamps are large: their shadows come as a visibility per vertex.
Ambient light is a cube of six colours times the ambient occlusion.
"""

# ruff: noqa: UP018, RUF046  (warp: a variable that changes in a loop must not start as a literal)
from __future__ import annotations

import warp as wp

from fran_lightning.synthesis.parametric.head_model import EYE_LEFT, EYE_RIGHT, LASH, MOUTH, SKIN, SOLID, TEETH

CLASSES = 19
_Votes = wp.types.vector(length=CLASSES, dtype=int)

_SKIN = wp.constant(SKIN)
_EYE_LEFT = wp.constant(EYE_LEFT)
_EYE_RIGHT = wp.constant(EYE_RIGHT)
_TEETH = wp.constant(TEETH)
_MOUTH = wp.constant(MOUTH)
_LASH = wp.constant(LASH)
_SOLID = wp.constant(SOLID)
_L_BROW = wp.constant(2)
_R_BROW = wp.constant(3)


@wp.struct
class Surface:
    """A mesh and its attributes; per fine vertex unless said otherwise."""

    mesh: wp.uint64
    triangles: wp.array2d(dtype=int)
    material: wp.array(dtype=int)  # per triangle
    label: wp.array(dtype=int)  # per triangle
    normal: wp.array(dtype=wp.vec3)
    chart: wp.array(dtype=wp.vec2)  # texel coordinates (column, row)
    light: wp.array(dtype=wp.vec4)  # visibility of three lamps, ambient occlusion
    albedo: wp.array2d(dtype=wp.vec3)
    relief: wp.array2d(dtype=wp.vec4)
    brow: wp.array2d(dtype=wp.uint8)
    up: wp.vec3
    left_eye: wp.vec3
    right_eye: wp.vec3
    gaze: wp.vec3
    iris: wp.vec3
    iris_radius: float  # radians
    sclera: wp.vec3
    arcus: float  # pale ring of old irises
    teeth: wp.vec3
    solid: wp.vec3  # colour of dull solids: clothes, the frame of glasses
    lash: wp.vec3


@wp.struct
class Lighting:
    direction: wp.array(dtype=wp.vec3)
    colour: wp.array(dtype=wp.vec3)
    ambient: wp.array(dtype=wp.vec3)  # +x -x +y -y +z -z


@wp.struct
class View:
    position: wp.vec3
    centre: wp.vec2  # of the crop on the plane at distance 1
    scale: float  # size of a pixel on that plane
    size: int
    samples: int  # per axis


@wp.struct
class Layers:
    """What does not change with age, at size * samples; see compositing in ``render``."""

    back: wp.array2d(dtype=wp.vec3)
    back_depth: wp.array2d(dtype=float)
    back_label: wp.array2d(dtype=wp.uint8)
    front: wp.array2d(dtype=wp.vec4)  # colour and distance; distance 0 where there is nothing


@wp.func
def _texel(texture: wp.array2d(dtype=wp.vec3), place: wp.vec2) -> wp.vec3:
    x = wp.clamp(place[0], 0.0, float(texture.shape[1]) - 1.001)
    y = wp.clamp(place[1], 0.0, float(texture.shape[0]) - 1.001)
    i, j = int(x), int(y)
    a, b = x - float(i), y - float(j)
    top = texture[j, i] * (1.0 - a) + texture[j, i + 1] * a
    bottom = texture[j + 1, i] * (1.0 - a) + texture[j + 1, i + 1] * a
    return top * (1.0 - b) + bottom * b


@wp.func
def _texel4(texture: wp.array2d(dtype=wp.vec4), place: wp.vec2) -> wp.vec4:
    x = wp.clamp(place[0], 0.0, float(texture.shape[1]) - 1.001)
    y = wp.clamp(place[1], 0.0, float(texture.shape[0]) - 1.001)
    i, j = int(x), int(y)
    a, b = x - float(i), y - float(j)
    top = texture[j, i] * (1.0 - a) + texture[j, i + 1] * a
    bottom = texture[j + 1, i] * (1.0 - a) + texture[j + 1, i + 1] * a
    return top * (1.0 - b) + bottom * b


@wp.func
def _ambient(light: Lighting, n: wp.vec3) -> wp.vec3:
    """The ambient cube (Mitchell, McTaggart and Green 2006) along ``n``."""
    x, y, z = n[0] * n[0], n[1] * n[1], n[2] * n[2]
    colour = light.ambient[0] * x
    if n[0] < 0.0:
        colour = light.ambient[1] * x
    if n[1] < 0.0:
        colour += light.ambient[3] * y
    else:
        colour += light.ambient[2] * y
    if n[2] < 0.0:
        colour += light.ambient[5] * z
    else:
        colour += light.ambient[4] * z
    return colour


@wp.func
def _ggx(n: wp.vec3, v: wp.vec3, lamp: wp.vec3, alpha: float, f0: float) -> float:
    """Specular reflection times the cosine (Walter et al. 2007, Schlick's Fresnel and masking)."""
    nl, nv = wp.dot(n, lamp), wp.max(wp.dot(n, v), 0.02)
    if nl <= 0.0:
        return float(0.0)
    h = wp.normalize(lamp + v)
    nh, vh = wp.max(wp.dot(n, h), 0.0), wp.max(wp.dot(v, h), 0.0)
    a2 = alpha * alpha
    d = nh * nh * (a2 - 1.0) + 1.0
    k = 0.5 * alpha
    fresnel = f0 + (1.0 - f0) * wp.pow(1.0 - vh, 5.0)
    return fresnel * a2 / (wp.pi * d * d) * 0.25 * nl / ((nl * (1.0 - k) + k) * (nv * (1.0 - k) + k))


@wp.func
def _wrapped(cosine: float, wrap: float) -> float:
    x = wp.max((cosine + wrap) / (1.0 + wrap), 0.0)
    return x * (1.0 / (1.0 + 0.5 * wrap))


@wp.func
def _lit(
    light: Lighting,
    visible: wp.vec4,
    n: wp.vec3,
    smooth: wp.vec3,
    view: wp.vec3,
    albedo: wp.vec3,
    scatter: float,
    cavity: float,
    rough: float,
    gloss: float,
) -> wp.vec3:
    """Outgoing radiance of skin-like material; ``scatter`` 1 for skin, 0 for dull solids."""
    red = wp.normalize(n * (1.0 - 0.55 * scatter) + smooth * 0.55 * scatter)
    green = wp.normalize(n * (1.0 - 0.2 * scatter) + smooth * 0.2 * scatter)
    occlusion = visible[3] * cavity
    # light bounced inside creases takes the surface's colour
    bounce = wp.vec3(
        wp.pow(occlusion, 1.0 - 0.5 * albedo[0] * scatter),
        wp.pow(occlusion, 1.0 - 0.4 * albedo[1] * scatter),
        wp.pow(occlusion, 1.0 - 0.4 * albedo[2] * scatter),
    )
    incoming = wp.cw_mul(_ambient(light, n), bounce)
    shine = _ambient(light, wp.normalize(2.0 * wp.dot(n, view) * n - view)) * (
        gloss * 0.10 * (0.15 + wp.pow(1.0 - wp.max(wp.dot(n, view), 0.0), 4.0)) * occlusion
    )
    for k in range(3):
        lamp = light.direction[k]
        shadow = visible[k]
        soft = wp.vec3(
            _wrapped(wp.dot(red, lamp), 0.30 * scatter) * wp.pow(shadow, 1.0 - 0.35 * scatter),
            _wrapped(wp.dot(green, lamp), 0.12 * scatter) * shadow,
            _wrapped(wp.dot(n, lamp), 0.06 * scatter) * shadow,
        )
        soft = soft * (0.35 + 0.65 * cavity)
        incoming += wp.cw_mul(light.colour[k], soft)
        lobes = 0.75 * _ggx(n, view, lamp, rough, 0.03) + 0.25 * _ggx(n, view, lamp, rough * 0.5, 0.03)
        shine += light.colour[k] * (lobes * shadow * gloss * cavity * 3.0)
    return wp.cw_mul(incoming, albedo) + shine


@wp.func
def _eye(s: Surface, light: Lighting, visible: wp.vec4, centre: wp.vec3, p: wp.vec3, view: wp.vec3) -> wp.vec3:
    n = wp.normalize(p - centre)
    cosine = wp.dot(n, s.gaze)
    angle = wp.acos(wp.clamp(cosine, -1.0, 1.0)) / s.iris_radius
    side = wp.normalize(wp.cross(s.gaze, s.up))
    around = wp.atan2(wp.dot(n, side), wp.dot(n, s.up))
    albedo = s.sclera - wp.vec3(0.0, 0.10, 0.10) * wp.clamp(0.5 * (angle - 1.2), 0.0, 1.0)
    normal = n
    if angle < 1.08:
        fibres = 0.5 + 0.5 * wp.sin(around * 23.0 + 3.0 * wp.sin(around * 7.0)) * wp.sin(around * 9.0 + 1.3)
        iris = s.iris * (0.55 + 0.75 * fibres * wp.clamp(angle, 0.0, 1.0))
        iris = iris * (1.25 - 0.95 * wp.clamp((angle - 0.72) / 0.28, 0.0, 1.0))  # limbal ring
        ring = wp.exp(-0.5 * ((angle - 0.93) / 0.06) * ((angle - 0.93) / 0.06)) * s.arcus
        iris = iris * (1.0 - ring) + wp.vec3(0.38, 0.40, 0.42) * ring
        pupil = wp.clamp((angle - 0.36) / 0.08, 0.0, 1.0)
        iris = iris * pupil + wp.vec3(0.006, 0.005, 0.005) * (1.0 - pupil)
        edge = wp.clamp((angle - 0.96) / 0.12, 0.0, 1.0)
        albedo = iris * (1.0 - edge) + albedo * edge
        # the cornea bulges: its normal turns faster than the eyeball's
        normal = wp.normalize(n + (n - s.gaze * cosine) * 0.6)
    # the upper lid shades the eye
    open_sky = visible[3] * (0.35 + 0.65 * wp.clamp(0.75 - 1.6 * wp.dot(n, s.up), 0.0, 1.0))
    incoming = _ambient(light, n) * open_sky
    shine = _ambient(light, wp.normalize(2.0 * wp.dot(normal, view) * normal - view)) * (0.045 * open_sky)
    for k in range(3):
        lamp = light.direction[k]
        incoming += light.colour[k] * (_wrapped(wp.dot(n, lamp), 0.25) * visible[k] * (0.45 + 0.55 * open_sky))
        shine += light.colour[k] * (wp.min(_ggx(normal, view, lamp, 0.09, 0.035), 3.0) * wp.sqrt(visible[k]))
    return wp.cw_mul(incoming, albedo) + shine


@wp.kernel(enable_backward=False)
def render(
    s: Surface,
    light: Lighting,
    view: View,
    layers: Layers,
    colour: wp.array2d(dtype=wp.vec3),
    label: wp.array2d(dtype=wp.uint8),
    depth: wp.array2d(dtype=float),
):
    """One pixel: the mean of samples x samples; at each the front layer wins, then the nearer of mesh and back.

    A pixel that the mesh touches anywhere gets the class most frequent on the mesh: pixels of all other classes hold
    nothing but static layers, so they are the same at every age.
    """
    row, column = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    votes = _Votes()
    mesh_votes = _Votes()
    touched = int(0)
    nearest = float(1.0e6)
    count = view.samples * view.samples
    for k in range(count):
        r = row * view.samples + k / view.samples
        c = column * view.samples + k % view.samples
        step = view.scale / float(view.samples)
        half = 0.5 * float(view.size * view.samples)
        x = view.centre[0] + (float(c) + 0.5 - half) * step
        y = view.centre[1] - (float(r) + 0.5 - half) * step
        ray = wp.normalize(wp.vec3(x, y, -1.0))
        front = layers.front[r, c]
        sample = layers.back[r, c]
        kind = int(layers.back_label[r, c])
        far = layers.back_depth[r, c]
        if front[3] > 0.0:
            sample = wp.vec3(front[0], front[1], front[2])
            kind = int(17)
            nearest = wp.min(nearest, front[3])
        else:
            start = float(0.0)
            through = float(1.0)  # what the lashes let pass
            lashes = wp.vec3(0.0, 0.0, 0.0)
            for _attempt in range(4):
                hit = wp.mesh_query_ray(s.mesh, view.position + ray * start, ray, far - start)
                if not hit.result:
                    break
                distance = start + hit.t
                face = hit.face
                a, b, d = s.triangles[face, 0], s.triangles[face, 1], s.triangles[face, 2]
                wa, wb = hit.u, hit.v
                wd = 1.0 - wa - wb
                place = s.chart[a] * wa + s.chart[b] * wb + s.chart[d] * wd
                material = s.material[face]
                if material == _LASH:
                    cover = 0.95 * wp.max(1.0 - place[0], 0.0)
                    lit = wp.cw_mul(s.lash, _ambient(light, wp.vec3(0.0, 0.0, 1.0)) + light.colour[0] * 0.5)
                    lashes += lit * (cover * through)
                    through = through * (1.0 - cover)
                    start = distance + 0.01
                    continue
                p = view.position + ray * distance
                smooth = wp.normalize(s.normal[a] * wa + s.normal[b] * wb + s.normal[d] * wd)
                toward = -ray
                if wp.dot(smooth, toward) < 0.0 and material != _SKIN:
                    smooth = -smooth
                visible = s.light[a] * wa + s.light[b] * wb + s.light[d] * wd
                kind = s.label[face]
                if material == _SKIN:
                    relief = _texel4(s.relief, place)
                    across = wp.normalize(wp.cross(s.up, smooth))
                    upward = wp.cross(smooth, across)
                    n = wp.normalize(smooth - across * relief[0] - upward * relief[1])
                    rough = 0.42 - 0.08 * relief[3]
                    sample = _lit(
                        light, visible, n, smooth, toward, _texel(s.albedo, place), 1.0, relief[2], rough, relief[3]
                    )
                    i = wp.clamp(int(place[0] + 0.5), 0, s.brow.shape[1] - 1)
                    j = wp.clamp(int(place[1] + 0.5), 0, s.brow.shape[0] - 1)
                    if s.brow[j, i] > wp.uint8(0):
                        kind = _L_BROW
                        if place[0] * 2.0 < float(s.brow.shape[1]):
                            kind = _R_BROW
                elif material == _EYE_LEFT:
                    sample = _eye(s, light, visible, s.left_eye, p, toward)
                elif material == _EYE_RIGHT:
                    sample = _eye(s, light, visible, s.right_eye, p, toward)
                elif material == _TEETH:
                    # light passes the lips and bounces in the mouth
                    inside = wp.vec4(0.3 + 0.7 * visible[0], 0.3 + 0.7 * visible[1], visible[2], 0.4 + 0.6 * visible[3])
                    sample = _lit(light, inside, smooth, smooth, toward, s.teeth, 0.6, 1.0, 0.25, 0.5)
                elif material == _MOUTH:
                    dark = wp.vec3(0.30, 0.075, 0.06)
                    sample = _lit(light, visible, smooth, smooth, toward, dark, 0.6, 1.0, 0.3, 0.4)
                else:
                    sample = _lit(light, visible, smooth, smooth, toward, s.solid, 0.0, 1.0, 0.6, 0.15)
                far = distance
                mesh_votes[kind] = mesh_votes[kind] + 1
                touched = 1
                break
            sample = sample * through + lashes
            nearest = wp.min(nearest, far)
        total += sample
        votes[kind] = votes[kind] + 1
    if touched != 0:
        votes = mesh_votes
    best = int(0)
    for k in range(CLASSES):
        if votes[k] > votes[best]:
            best = k
    colour[row, column] = total / float(count)
    label[row, column] = wp.uint8(best)
    depth[row, column] = nearest
