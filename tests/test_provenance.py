"""Metadata that says "edited by a generative model": what it holds, what it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from faces import portrait, save_random_generator
from films import frames_of, planes_of, write_film
from PIL import Image

from fran_lightning.cli import main
from fran_lightning.reaging.film_metadata import FilmMetadata, append_xmp_box, film_metadata
from fran_lightning.reaging.photo import read_photo, split_channels, write_photo
from fran_lightning.reaging.provenance import DIGITAL_SOURCE_TYPE, SENTENCE, DamagedXmpError, mark_xmp

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
#: as cameras and raw converters write it: attributes, nested structures, padding
CAMERA_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 6.0.0">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmp:Rating="4" Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">
   <dc:creator><rdf:Seq><rdf:li>Zoë &amp; Ünal</rdf:li></rdf:Seq></dc:creator>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
                                             \n<?xpacket end="w"?>""".encode()


def source_types(packet: bytes) -> list[str]:
    """All values of the property, whether they are elements or attributes."""
    root = ElementTree.fromstring(packet)
    name = f"{IPTC}DigitalSourceType"
    return [element.text for element in root.iter(name)] + [e.get(name) for e in root.iter() if e.get(name)]


def test_a_new_packet_holds_the_source_type():
    assert source_types(mark_xmp()) == [DIGITAL_SOURCE_TYPE]
    assert DIGITAL_SOURCE_TYPE.endswith("/compositeWithTrainedAlgorithmicMedia")
    assert mark_xmp().startswith(b"<?xpacket begin=")


def test_an_existing_packet_is_extended_and_its_source_type_replaced():
    marked = mark_xmp(CAMERA_XMP)
    assert source_types(marked) == [DIGITAL_SOURCE_TYPE]
    root = ElementTree.fromstring(marked)
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    assert [item.text for item in root.iter(f"{rdf}li")] == ["Zoë & Ünal"]
    assert [e.get("{http://ns.adobe.com/xap/1.0/}Rating") for e in root.iter(f"{rdf}Description")] == ["4", None]
    # all descriptions of a packet speak of one thing
    assert {e.get(f"{rdf}about") for e in root.iter(f"{rdf}Description")} == {"uuid:1"}
    assert mark_xmp(marked) == marked


@pytest.mark.parametrize(
    "packet", [b"<x:xmpmeta", b"\xff\xfe\x00", b"<html></html>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"]
)
def test_what_is_no_xmp_is_said_to_be_damaged(packet):
    with pytest.raises(DamagedXmpError):
        mark_xmp(packet)


# ---------------------------------------------------------------- photos


def read_xmp(path: Path) -> bytes | None:
    with Image.open(path) as image:
        image.load()
        return image.info.get("xmp")


def write_photo_with_xmp(path: Path, sixteen_bit: bool, packet: bytes | None) -> Path:
    pixels = portrait().astype(np.uint16) * 257 if sixteen_bit else portrait()
    write_photo(path, replace(split_channels(pixels), xmp=packet))
    return path


def reage(source: Path, output: Path, checkpoint: Path, *options: str) -> int:
    ages = ("--source-age", "30", "--checkpoint", str(checkpoint), "--device", "cpu")
    return main(["reage", str(source), "-o", str(output), *ages, *options])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_generator(tmp_path_factory.mktemp("run") / "generator.safetensors")


@pytest.mark.parametrize(
    ("suffix", "sixteen_bit", "packet"),
    [
        (".jpg", False, None),
        (".jpg", False, CAMERA_XMP),
        (".png", False, CAMERA_XMP),
        (".webp", False, CAMERA_XMP),
        (".tif", False, CAMERA_XMP),
        (".png", True, CAMERA_XMP),
        (".tif", True, CAMERA_XMP),
    ],
)
def test_photos_say_that_they_were_edited_and_pixels_stay(tmp_path, checkpoint, suffix, sixteen_bit, packet):
    source = write_photo_with_xmp(tmp_path / f"photo{suffix}", sixteen_bit, packet)
    assert reage(source, tmp_path / f"marked{suffix}", checkpoint) == 0
    assert reage(source, tmp_path / f"plain{suffix}", checkpoint, "--no-provenance") == 0
    marked, plain = read_photo(tmp_path / f"marked{suffix}"), read_photo(tmp_path / f"plain{suffix}")
    assert (marked.pixels == plain.pixels).all()
    assert marked.pixels.dtype == (np.uint16 if sixteen_bit else np.uint8)
    assert source_types(read_xmp(tmp_path / f"marked{suffix}")) == [DIGITAL_SOURCE_TYPE]
    assert read_xmp(tmp_path / f"plain{suffix}") == packet
    # both readers find the same: also OpenCV's and tifffile's writers speak UTF-8
    assert marked.xmp == read_xmp(tmp_path / f"marked{suffix}")
    if packet is not None:
        assert "Zoë &amp; Ünal".encode() in marked.xmp


def test_pass_through_copies_and_unchanged_pictures_are_not_marked(tmp_path, checkpoint):
    (tmp_path / "in").mkdir()
    write_photo_with_xmp(tmp_path / "in" / "face.png", False, None)
    Image.new("RGB", (64, 64)).save(tmp_path / "in" / "wall.png")
    assert reage(tmp_path / "in", tmp_path / "out", checkpoint) == 0
    assert (tmp_path / "out" / "wall.png").read_bytes() == (tmp_path / "in" / "wall.png").read_bytes()
    assert read_xmp(tmp_path / "out" / "face.png") is not None
    assert reage(tmp_path / "in" / "face.png", tmp_path / "same.png", checkpoint, "--strength", "0") == 0
    assert read_xmp(tmp_path / "same.png") is None


def test_what_a_format_cannot_hold_is_said(tmp_path, checkpoint, capsys):
    source = write_photo_with_xmp(tmp_path / "photo.png", False, b"<broken")
    assert reage(source, tmp_path / "older.bmp", checkpoint) == 0
    assert "BMP has no room for XMP" in capsys.readouterr().out
    assert reage(source, tmp_path / "older.jpg", checkpoint) == 0
    assert "XMP metadata is damaged: it was replaced" in capsys.readouterr().out
    assert source_types(read_xmp(tmp_path / "older.jpg")) == [DIGITAL_SOURCE_TYPE]
    long = CAMERA_XMP.replace(b"Zo", b"x" * 70_000)
    source = write_photo_with_xmp(tmp_path / "long.png", False, long)
    assert reage(source, tmp_path / "long.jpg", checkpoint) == 0
    assert "larger than a JPEG holds" in capsys.readouterr().out
    assert source_types(read_xmp(tmp_path / "long.jpg")) == [DIGITAL_SOURCE_TYPE]


# ---------------------------------------------------------------- films


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path), options={"export_xmp": "1"}) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".avi"])
def test_films_say_that_they_were_edited_and_frames_stay(tmp_path, checkpoint, suffix):
    source = write_film(tmp_path / "source.mp4", 2)
    add_metadata(source, {"comment": "take 3", "title": "Shot"}, CAMERA_XMP)
    marked, plain = tmp_path / f"marked{suffix}", tmp_path / f"plain{suffix}"
    assert reage(source, marked, checkpoint) == 0
    assert reage(source, plain, checkpoint, "--no-provenance") == 0
    for before, after in zip(frames_of(plain), frames_of(marked), strict=True):
        assert all((a == b).all() for a, b in zip(planes_of(before), planes_of(after), strict=True))
    assert DIGITAL_SOURCE_TYPE.encode() not in plain.read_bytes()
    tags = tags_of(marked)
    assert tags["comment"] == f"take 3; {SENTENCE}"
    assert tags_of(plain)["comment"] == "take 3"
    assert tags["title"] == "Shot"
    if suffix == ".mkv":
        assert tags["digitalsourcetype"] == DIGITAL_SOURCE_TYPE
    if suffix in (".mp4", ".mov", ".m4v"):
        assert "Zoë &amp; Ünal" in tags_of(plain)["xmp"]
    if suffix != ".avi":
        assert source_types(tags["xmp"].encode()) == [DIGITAL_SOURCE_TYPE]
        assert "Zoë &amp; Ünal" in tags["xmp"]


def add_metadata(film: Path, tags: dict[str, str], packet: bytes) -> None:
    """Copy a film packet by packet with these tags, and XMP after them."""
    copy = film.with_name("copy.mp4")
    with av.open(str(film)) as old, av.open(str(copy), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.metadata.update(tags)
        for packet_of_film in old.demux(video=0):
            if packet_of_film.dts is not None:
                packet_of_film.stream = stream
                new.mux(packet_of_film)
    append_xmp_box(copy, packet)
    copy.replace(film)


def test_resumed_films_and_previews_are_marked(tmp_path, checkpoint):
    source = write_film(tmp_path / "source.mp4", 2)
    assert reage(source, tmp_path / "older.mp4", checkpoint, "--resume") == 0
    assert source_types(tags_of(tmp_path / "older.mp4")["xmp"].encode()) == [DIGITAL_SOURCE_TYPE]
    assert reage(source, tmp_path / "shown.mp4", checkpoint, "--preview", "side") == 0
    assert SENTENCE in tags_of(tmp_path / "shown_preview.mp4")["comment"]


def test_mxf_keeps_user_comments(tmp_path):
    path = tmp_path / "film.mxf"
    with av.open(str(path), "w") as container:
        container.metadata.update(film_metadata({}, container.format.name, edited=True).tags)
        stream = container.add_stream("mpeg2video", rate=25)
        stream.height, stream.width = portrait().shape[:2]
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(portrait().copy(), "rgb24")))
        container.mux(stream.encode(None))
    assert tags_of(path)["comment_digitalsourcetype"] == DIGITAL_SOURCE_TYPE


def test_a_container_without_room_is_said():
    assert "mpegts has no room for metadata" in film_metadata({}, "mpegts", edited=True).notes[0]
    assert film_metadata({"title": "x"}, "mpegts", edited=False) == FilmMetadata({"title": "x"})


def test_damaged_xmp_of_a_film_is_replaced_and_said():
    metadata = film_metadata({"xmp": "<broken"}, "mp4", edited=True)
    assert source_types(metadata.box) == [DIGITAL_SOURCE_TYPE]
    assert "damaged" in metadata.notes[0]
    assert film_metadata({"xmp": "<broken"}, "mp4", edited=False).box == b"<broken"
