"""A film container's own metadata: all that the source has, and that a generative model edited the pictures.

Where XMP has a place (MOV: in the header; MP4: a box of its own, as Adobe's XMP specification 3 describes it) it goes
there, else into tags of the same names, and everywhere also as a sentence into the comment that players show.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fran_lightning.reaging.provenance import PROPERTIES, SENTENCE, DamagedXmpError, mark_xmp

#: makes libav read the XMP of MOV and MP4 files into the metadata, under :data:`XMP`
READ_XMP = {"export_xmp": "1"}
XMP = "xmp"
_XMP_BOX = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
#: muxers of libav that write the XMP themselves, that need the box, and that write any tag
_MOV, _MP4, _ANY_TAG = ("mov",), ("mp4", "ipod", "3gp", "3g2", "f4v"), ("matroska", "webm")


@dataclass(frozen=True)
class FilmMetadata:
    """What is written.

    Attributes:
        tags: for the container.
        box: XMP to be appended to the finished file by :func:`append_xmp_box`, or None.
        notes: what could not be done, one sentence each.
    """

    tags: dict[str, str]
    box: bytes | None = None
    notes: tuple[str, ...] = ()


def film_metadata(source: Mapping[str, str], muxer: str, edited: bool) -> FilmMetadata:
    """The metadata of a film for libav's ``muxer``.

    Args:
        source: of the source film, read with :data:`READ_XMP`.
        edited: whether to say that a generative model edited the pictures.
    """
    tags = dict(source)
    packet = next((value.encode() for key, value in tags.items() if key.lower() == XMP), None)
    notes: tuple[str, ...] = ()
    if edited:
        if muxer in _MOV + _MP4 or packet is not None:
            try:
                packet = mark_xmp(packet)
            except DamagedXmpError:
                packet, notes = mark_xmp(), ("the film's XMP metadata is damaged: it was replaced",)
        comment = next((key for key in tags if key.lower() == "comment"), "comment")
        if SENTENCE not in tags.get(comment, ""):
            tags[comment] = "; ".join(filter(None, (tags.get(comment), SENTENCE)))
        if muxer in _ANY_TAG:
            tags |= PROPERTIES
        elif muxer == "mxf":
            # what begins so is written as a user comment
            tags |= {f"comment_{name}": value for name, value in PROPERTIES.items()}
        elif muxer not in (*_MOV, *_MP4, "avi"):
            notes += (f"{muxer} has no room for metadata: nothing in the file says that it was edited",)
    box = None
    for key in [key for key in tags if key.lower() == XMP]:
        del tags[key]
    if packet is not None:
        if muxer in _MP4:
            box = packet
        else:
            tags[XMP] = packet.decode()
    return FilmMetadata(tags, box, notes)


def append_xmp_box(path: Path, packet: bytes) -> None:
    """Add XMP to a finished MP4 file."""
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(_XMP_BOX) + len(packet), b"uuid") + _XMP_BOX + packet)
