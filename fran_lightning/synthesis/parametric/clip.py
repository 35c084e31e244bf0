"""Clips: a head that turns, talks, blinks and changes expression, with class maps and exact optical flow.

::

    <root>/clips.json                 the settings
    <root>/000003/frames/0000.png     RGB 8 bit
    <root>/000003/labels/0000.png     19 CelebAMask-HQ classes
    <root>/000003/flow/0000.npz       "flow" float32 (H, W, 2): where the surface under each pixel of frame 0 lies in
                                      frame 1, minus where it is, in pixels (x right, y down); "valid" bool (H, W):
                                      False where it is hidden in frame 1, leaves the picture or is not known
    <root>/000003/clip.json           age, pose, expression and landmarks of every frame
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fran_lightning.errors import UserError
from fran_lightning.files import write_json
from fran_lightning.progress import progress_bar
from fran_lightning.synthesis.parametric.ageing import OLDEST, YOUNGEST
from fran_lightning.synthesis.parametric.generate import GENERATOR_VERSION, Device, Settings, choose_device
from fran_lightning.synthesis.parametric.hair import points_on
from fran_lightning.synthesis.parametric.raycast import cast_rays
from fran_lightning.synthesis.parametric.scene import Identity, sample_identity
from fran_lightning.synthesis.parametric.studio import BACKGROUND, CLOTH_CLASS, HAIR, Frame, Studio

_HIDDEN_MM = 6.0


@dataclass(frozen=True)
class ClipSettings:
    """What decides a clip, besides seed and identity.

    Attributes:
        image_size: edge in pixels.
        frames: how many.
        fps: frames per second, which sets the speed of the motion.
        first_age, last_age: in years; the age moves evenly from one to the other.
    """

    image_size: int = 256
    frames: int = 48
    fps: float = 24.0
    first_age: float = 40.0
    last_age: float = 40.0

    def check(self) -> None:
        """Raise UserError for what cannot be rendered."""
        Settings(image_size=self.image_size).check()
        for age in (self.first_age, self.last_age):
            if not YOUNGEST <= age <= OLDEST:
                raise UserError(f"age {age:g} cannot be rendered; choose ages from {YOUNGEST:g} to {OLDEST:g}")
        if self.frames < 2 or self.fps <= 0:
            raise UserError("a clip needs at least 2 frames and a positive frame rate")


def motion(identity: Identity, settings: ClipSettings) -> list[Identity]:
    """The person in every frame: pose, gaze and facial actions change smoothly, all else stays."""
    random = identity.random("motion")
    time = np.arange(settings.frames) / settings.fps

    def wave(amplitude: float, period: float) -> np.ndarray:
        phases, speeds = random.uniform(0, 2 * np.pi, 3), np.array([1.0, 1.7, 2.9]) * 2 * np.pi / period
        return amplitude * (np.sin(time[:, None] * speeds + phases) * [0.6, 0.3, 0.15]).sum(1)

    yaw, pitch, roll = identity.yaw * 0.5 + wave(16, 4.0), identity.pitch * 0.5 + wave(6, 3.0), wave(4, 5.0)
    smile = np.clip(0.35 + wave(0.6, 4.5), 0, 1)
    talk = np.clip(wave(0.5, 0.55), 0, 1) * np.clip(0.6 + wave(0.9, 2.5), 0, 1)
    pucker = np.clip(wave(0.5, 0.8), 0, 0.5)
    brows = np.clip(wave(0.6, 3.0), 0, 0.7)
    first_blink, pause = random.uniform(0.3, 1.5), random.uniform(2.0, 4.0)
    since = (time - first_blink) % pause
    blink = np.where(time >= first_blink, np.exp(-(((since - 0.12) / 0.06) ** 2)), 0)
    people = []
    for k in range(settings.frames):
        both = {
            "mouthSmile": 0.6 * smile[k],
            "cheekSquint": 0.35 * smile[k],
            "browOuterUp": brows[k],
            "eyeBlink": 0.95 * blink[k],
        }
        expression = {f"{name}{side}": round(float(v), 4) for name, v in both.items() for side in ("Left", "Right")}
        expression |= {
            "jawOpen": round(0.35 * float(talk[k]), 4),
            "mouthPucker": round(0.4 * float(pucker[k] * talk[k]), 4),
            "browInnerUp": round(0.5 * float(brows[k]), 4),
        }
        people.append(
            replace(
                identity,
                yaw=float(np.clip(yaw[k], -45, 45)),
                pitch=float(np.clip(pitch[k], -20, 20)),
                roll=float(np.clip(roll[k], -15, 15)),
                gaze=(float(np.clip(-0.7 * yaw[k], -25, 25)), float(np.clip(-0.4 * pitch[k], -10, 10))),
                expression=expression,
            )
        )
    return people


def optical_flow(now: Studio, age_now: float, frame: Frame, then: Studio, age_then: float, next_frame: Frame):
    """Flow from one frame to the next.

    Returns:
        flow: (S, S, 2) float32 in pixels.
        valid: (S, S) bool.
    """
    size, camera = now.size, now.camera
    rows, columns = np.mgrid[0:size, 0:size]
    places = np.stack([columns, rows], -1).astype(np.float64)
    target = np.full((size, size, 3), np.nan)
    step = 2 * camera.half / size
    x = camera.centre[0] + (columns + 0.5 - size / 2) * step
    y = camera.centre[1] - (rows + 0.5 - size / 2) * step
    rays = np.stack([x, y, -np.ones_like(x)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)

    def follow(mask: np.ndarray, start: np.ndarray, end: np.ndarray, triangles: np.ndarray) -> None:
        """Points under pixels of ``mask`` on the mesh ``start``, moved with it to ``end``."""
        directions = rays[mask]
        hits = cast_rays(start, triangles, np.broadcast_to(camera.position, directions.shape), directions)
        moved = (end[triangles[np.maximum(hits.triangle, 0)]] * hits.barycentric[..., None]).sum(1)
        target[mask] = np.where((hits.triangle >= 0)[:, None], moved, np.nan)

    head = ~np.isin(frame.label, (BACKGROUND, CLOTH_CLASS, HAIR))
    follow(head, now.vertices(age_now), then.vertices(age_then), now.triangles)
    follow(frame.label == CLOTH_CLASS, now.clothes[0], then.clothes[0], now.clothes[1])
    middle = now.samples // 2
    for layer in reversed(now.hair_layers):  # the front layer last, it hides the other
        centre = slice(middle, None, now.samples)
        seen = layer.mask[centre, centre] & (frame.label == HAIR)
        strand, place = layer.strand[centre, centre][seen], layer.place[centre, centre][seen]
        target[seen] = points_on(then.strands, strand, place)
    known = np.isfinite(target[..., 0])
    flow = np.zeros((size, size, 2), np.float32)
    flow[known] = (camera.project(target[known], size) - places[known]).astype(np.float32)
    arrival = np.rint(places + flow).astype(int)
    inside = ((arrival >= 0) & (arrival < size)).all(-1)
    row, column = np.clip(arrival[..., 1], 0, size - 1), np.clip(arrival[..., 0], 0, size - 1)
    distance = np.linalg.norm(np.nan_to_num(target) - camera.position, axis=-1)
    shown = distance < next_frame.depth[row, column] + _HIDDEN_MM
    background = frame.label == BACKGROUND
    valid = np.where(background, next_frame.label == BACKGROUND, known & inside & shown)
    return flow, valid


def render_clip(
    seed: int, number: int, settings: ClipSettings, device: str = "cpu"
) -> Iterator[tuple[Frame, tuple[np.ndarray, np.ndarray] | None, dict[str, Any]]]:
    """Yield every frame, the flow *into* it from the frame before (None for the first), and its record."""
    identity = sample_identity(seed, number)
    ages = np.linspace(settings.first_age, settings.last_age, settings.frames)
    before: tuple[Studio, float, Frame] | None = None
    for person, age in zip(motion(identity, settings), ages.tolist(), strict=True):
        studio = Studio(person, settings.image_size, device, before[0] if before else None)
        frame = studio.render(age)
        flow = optical_flow(*before, studio, age, frame) if before else None
        record = {
            "age": age,
            "yaw": person.yaw,
            "pitch": person.pitch,
            "roll": person.roll,
            "expression": person.expression,
            "landmarks": frame.landmarks.round(2).tolist(),
        }
        before = studio, age, frame
        yield frame, flow, record


def generate_clips(
    root: str | os.PathLike[str],
    clips: int,
    seed: int = 0,
    settings: ClipSettings | None = None,
    shard: tuple[int, int] = (0, 1),
    device: Device = "auto",
) -> Path:
    """Write ``clips`` clips of different people below ``root``; continues where it was interrupted.

    Raises:
        UserError: unsupported settings, or a folder that holds other clips.
    """
    settings = settings or ClipSettings()
    settings.check()
    if clips < 1 or seed < 0:
        raise UserError("at least one clip and a seed of 0 or more are needed")
    chosen = choose_device(device)
    root = Path(root)
    _claim(root, {"version": GENERATOR_VERSION, "seed": seed, **asdict(settings)})
    index, count = shard
    missing = [number for number in range(index, clips, count) if not (root / f"{number:06d}").is_dir()]
    with progress_bar("rendering clips", len(missing) * settings.frames, "images") as bar:
        for number in missing:
            partial = root / f".partial-{number:06d}"
            shutil.rmtree(partial, ignore_errors=True)
            try:
                _write_clip(partial, seed, number, settings, chosen, bar.advance)
                os.rename(partial, root / f"{number:06d}")
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return root


def _claim(root: Path, wanted: dict[str, Any]) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"folder {root} cannot be made ({error.strerror}); choose another one") from error
    path = root / "clips.json"
    if not path.is_file():
        if any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise UserError(f"{root} holds files but no clips.json; choose an empty folder")
        write_json(path, wanted)
        return
    present = json.loads(path.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if present.get(name) != value:
            raise UserError(f"{root} was made with {name} = {present.get(name)}, not {value}; use another folder")


def _write_clip(folder: Path, seed: int, number: int, settings: ClipSettings, device: str, advance) -> None:
    for name in ("frames", "labels", "flow"):
        (folder / name).mkdir(parents=True)
    records = []
    for k, (frame, flow, record) in enumerate(render_clip(seed, number, settings, device)):
        Image.fromarray(frame.image).save(folder / "frames" / f"{k:04d}.png")
        Image.fromarray(frame.label).save(folder / "labels" / f"{k:04d}.png")
        if flow is not None:
            np.savez_compressed(folder / "flow" / f"{k - 1:04d}.npz", flow=flow[0], valid=flow[1])
        records.append(record)
        advance(1)
    write_json(folder / "clip.json", {"seed": seed, "number": number, "fps": settings.fps, "frames": records})
