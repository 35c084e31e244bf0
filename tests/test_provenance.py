"""Metadata that says "edited by a generative model": what it holds, what it keeps."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from fran_lightning.reaging.provenance import DIGITAL_SOURCE_TYPE, DamagedXmpError, mark_xmp

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
