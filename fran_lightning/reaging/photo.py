"""Photos in and out: bit depth, alpha, grey, colour profile and EXIF stay, and the output is atomic."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fran_lightning.errors import UserError
from fran_lightning.files import atomic_path
from fran_lightning.reaging.provenance import DIGITAL_SOURCE_TYPE, DamagedXmpError, mark_xmp

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
_ORIENTATION_TAG, _XMP_TAG = 0x0112, 700
#: bytes of XMP that fit into a JPEG's segment
_JPEG_XMP = 65502
#: keyword of XMP in a PNG
_PNG_XMP = "XML:com.adobe.xmp"
#: Modes that PIL reads with all that the file holds, and how they are brought to RGB or grey, with alpha or without.
_EIGHT_BIT_MODES = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True)
class Photo:
    """A photo in memory, upright.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16 RGB; a grey photo has three equal channels.
        alpha: (H, W) of the same type, or None.
        grey: whether it is written with one channel.
        icc_profile, exif, xmp: as in the file, the EXIF orientation set to "upright".
        notes: what had to be changed on the way, one sentence each.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()

    def with_pixels(self, pixels: np.ndarray) -> Photo:
        """The same photo with other colours (H, W, 3)."""
        return replace(self, pixels=pixels)

    def marked_as_edited(self) -> Photo:
        """The same photo whose XMP says that a generative model edited it."""
        try:
            return replace(self, xmp=mark_xmp(self.xmp))
        except DamagedXmpError:
            return replace(self, xmp=mark_xmp(), notes=(*self.notes, "the XMP metadata is damaged: it was replaced"))

    def channels(self) -> np.ndarray:
        """What is written: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)."""
        colour = self.pixels
        if self.grey:
            # Rec. 709 weights; three equal values give exactly that value
            luma = colour.astype(np.float64) @ (0.2126, 0.7152, 0.0722)
            colour = np.rint(luma).astype(self.pixels.dtype)[..., None]
        parts = [colour] if self.alpha is None else [colour, self.alpha[..., None]]
        joined = np.concatenate(parts, axis=-1)
        return joined[..., 0] if joined.shape[-1] == 1 else joined


def split_channels(array: np.ndarray) -> Photo:
    """A photo from an array (H, W), (H, W, 1), (H, W, 2: grey and alpha), (H, W, 3) or (H, W, 4).

    Raises:
        UserError: another shape, or neither uint8 nor uint16.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"an image array must be uint8 or uint16, not {array.dtype}; give floats as a tensor in [-1, 1]"
        )
    planes = array[..., None] if array.ndim == 2 else array
    if planes.ndim != 3 or planes.shape[2] not in (1, 2, 3, 4) or 0 in planes.shape:
        raise UserError(f"an image array must be (H, W) or (H, W, 1 to 4), not {array.shape}")
    count = planes.shape[2]
    grey = count < 3
    colour = np.repeat(planes[..., :1], 3, axis=2) if grey else planes[..., :3]
    alpha = planes[..., -1].copy() if count in (2, 4) else None
    return Photo(np.ascontiguousarray(colour), alpha, grey)


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF ``orientation`` (1 to 8) on (H, W[, C])."""
    if orientation in (2, 4, 5, 7):
        array = array[:, ::-1]
    # after the mirroring what is left is a rotation
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(array, quarter_turns))


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Read a JPEG, PNG, TIFF, WebP or BMP file.

    Raises:
        UserError: missing, broken or truncated file, no image, several frames, or float pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1 and image.format in ("GIF", "PNG", "WEBP"):
                raise UserError(
                    f"{path} is an animation of {image.n_frames} frames, not a photo; give the output a video's name"
                )
            # asked first: reading the EXIF of a PNG decodes it and forgets this
            sixteen_bit = any(";16" in str(tile[3]) for tile in image.tile)
            exif = image.getexif()
            orientation = exif.get(_ORIENTATION_TAG, 1)
            if _ORIENTATION_TAG in exif:
                exif[_ORIENTATION_TAG] = 1
            # in a TIFF it is a tag like those of EXIF
            if _XMP_TAG in exif:
                del exif[_XMP_TAG]
            array, notes = (_decode_16_bit(path), ()) if sixteen_bit else _decode(image, path)
            photo = split_channels(turn_upright(array, orientation))
            exif_bytes = exif.tobytes() if len(exif) else None
            # a CMYK profile says nothing about the RGB that was made of it
            icc_profile = None if notes else image.info.get("icc_profile")
            return replace(
                photo, icc_profile=icc_profile, exif=exif_bytes, xmp=image.info.get("xmp") or None, notes=notes
            )
    except FileNotFoundError as error:
        raise UserError(f"photo {path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not a photo") from error
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"photo {path} is broken or no image ({error})") from error


def _decode(image: object, path: str | os.PathLike[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The 8-bit pixels of a file, not turned, and what had to be changed."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    if image.mode == "CMYK":
        return np.asarray(_cmyk_to_rgb(image)), ("CMYK was converted to RGB",)
    if image.mode in ("P", "PA"):
        has_alpha = image.mode == "PA" or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB")), ()
    if image.mode in _EIGHT_BIT_MODES:
        return np.asarray(image.convert(_EIGHT_BIT_MODES[image.mode])), ()
    if image.mode in ("YCbCr", "LAB", "HSV"):
        return np.asarray(image.convert("RGB")), (f"{image.mode} was converted to RGB",)
    raise UserError(f"photo {path} has pixels of the kind {image.mode}; save it as RGB with 8 or 16 bits")


def _cmyk_to_rgb(image: object) -> object:
    """RGB through the embedded profile where there is a good one, else by the plain formula."""
    import io

    from PIL import Image, ImageCms

    assert isinstance(image, Image.Image)
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def _decode_16_bit(path: str | os.PathLike[str]) -> np.ndarray:
    """All 16 bits: PIL would drop the lower eight of colour images."""
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UserError(f"photo {path} is broken: its 16-bit pixels cannot be decoded")
    if pixels.ndim == 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = pixels[..., order]
    return pixels


def check_photo_suffix(path: str | os.PathLike[str]) -> None:
    """Raises: UserError, where a photo cannot be written under this name."""
    suffix = Path(path).suffix.lower()
    if suffix not in PHOTO_SUFFIXES:
        shown = ", ".join(PHOTO_SUFFIXES)
        raise UserError(f"cannot write a photo as {suffix or 'a file without suffix'}; choose one of {shown}")


def write_photo(path: str | os.PathLike[str], photo: Photo) -> tuple[str, ...]:
    """Write ``photo`` in the format that the suffix names; lossless but for JPEG (quality 95, no subsampling).

    Returns sentences about what the format could not hold.

    Raises:
        UserError: unknown suffix.
    """
    check_photo_suffix(path)
    suffix = Path(path).suffix.lower()
    notes = []
    if photo.alpha is not None and suffix in (".jpg", ".jpeg", ".bmp"):
        photo = replace(photo, alpha=None)
        notes.append(f"{suffix[1:].upper()} has no alpha: it was left out")
    if photo.pixels.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff"):
        alpha = None if photo.alpha is None else _to_8_bit(photo.alpha)
        photo = replace(photo, pixels=_to_8_bit(photo.pixels), alpha=alpha)
        notes.append(f"{suffix[1:].upper()} holds 8 bits: the 16 bits were rounded")
    if photo.xmp is not None and suffix == ".bmp":
        notes.append("BMP has no room for XMP metadata, like that it was edited by a generative model: it was left out")
    if photo.xmp is not None and suffix in (".jpg", ".jpeg") and len(photo.xmp) > _JPEG_XMP:
        photo = replace(photo, xmp=mark_xmp() if DIGITAL_SOURCE_TYPE.encode() in photo.xmp else None)
        notes.append("the photo's XMP metadata is larger than a JPEG holds: it was left out")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        if photo.pixels.dtype == np.uint16:
            _save_16_bit(temporary, photo)
        else:
            _save_8_bit(temporary, photo)
    return tuple(notes)


def _to_8_bit(array: np.ndarray) -> np.ndarray:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _save_8_bit(path: Path, photo: Photo) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    options: dict[str, Any] = {}
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        options = {"quality": 95, "subsampling": 0}
    elif suffix == ".webp":
        options = {"lossless": True, "exact": True}
    elif suffix in (".tif", ".tiff"):
        options = {"compression": "tiff_adobe_deflate"}
    if photo.icc_profile:
        options["icc_profile"] = photo.icc_profile
    if photo.exif:
        options["exif"] = photo.exif
    if photo.xmp and suffix == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(_PNG_XMP, photo.xmp.decode(errors="replace"))
    elif photo.xmp and suffix in (".tif", ".tiff"):
        options["tiffinfo"] = {_XMP_TAG: photo.xmp}
    elif photo.xmp and suffix != ".bmp":
        options["xmp"] = photo.xmp
    Image.fromarray(photo.channels()).save(path, **options)


def _save_16_bit(path: Path, photo: Photo) -> None:
    channels = photo.channels()
    if path.suffix.lower() == ".png":
        import cv2

        if photo.grey and photo.alpha is not None:  # OpenCV has no grey with alpha
            channels = np.concatenate([photo.pixels, photo.alpha[..., None]], axis=-1)
        if channels.ndim == 3:
            channels = channels[..., [2, 1, 0, 3][: channels.shape[2]]]
        kinds = {cv2.IMAGE_METADATA_ICCP: photo.icc_profile, cv2.IMAGE_METADATA_EXIF: photo.exif}
        metadata = {kind: np.frombuffer(data, dtype=np.uint8) for kind, data in kinds.items() if data}
        done, encoded = cv2.imencodeWithMetadata(".png", channels, list(metadata), list(metadata.values()))
        if not done:
            raise UserError(f"{path.name} could not be encoded as a 16-bit PNG")
        path.write_bytes(_png_with_xmp(encoded.tobytes(), photo.xmp) if photo.xmp else encoded.tobytes())
        return
    import tifffile

    tifffile.imwrite(
        path,
        channels,
        photometric="minisblack" if photo.grey else "rgb",
        extrasamples=None if photo.alpha is None else ["unassalpha"],
        planarconfig="contig" if channels.ndim == 3 else None,
        compression="zlib",
        iccprofile=photo.icc_profile,
        extratags=[(_XMP_TAG, "B", len(photo.xmp), photo.xmp, True)] if photo.xmp else (),
    )


def _png_with_xmp(png: bytes, packet: bytes) -> bytes:
    """``png`` with XMP as the international text that it has to be; OpenCV writes it as Latin-1."""
    chunk = b"iTXt" + _PNG_XMP.encode() + b"\0" * 5 + packet
    # after the signature and the header
    return png[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
