"""Says in a file's metadata that a generative model edited its picture. Pixels are never touched for it.

The vocabulary is IPTC's (Photo Metadata Standard 2025.1): the *digital source type* says that parts of a captured
picture were made by a trained model. It goes into XMP where a format holds XMP, else into attributes of the same names.
"""

from __future__ import annotations

from xml.dom import minidom
from xml.parsers.expat import ExpatError

from fran_lightning import __version__

#: the term of IPTC's vocabulary for a captured picture with parts made by a trained model
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
#: the same in words, for fields that people read
SENTENCE = f"Edited by a generative model (FRAN Lightning {__version__}); digital source type {DIGITAL_SOURCE_TYPE}"
#: property -> value, for formats with free attributes (EXR, Matroska)
PROPERTIES = {
    "DigitalSourceType": DIGITAL_SOURCE_TYPE,
    "AISystemUsed": "FRAN Lightning",
    "AISystemVersionUsed": __version__,
}

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EMPTY_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)


class DamagedXmpError(ValueError):
    """An XMP packet that cannot be read, and so not be extended."""


def mark_xmp(packet: bytes | None = None) -> bytes:
    """An XMP packet (UTF-8) that holds :data:`PROPERTIES`, and all else that ``packet`` holds.

    Raises:
        DamagedXmpError: ``packet`` is no XMP.
    """
    document = _parse(packet or _EMPTY_PACKET.encode())
    found = document.getElementsByTagNameNS(_RDF, "RDF")
    if not found:
        raise DamagedXmpError("no rdf:RDF element in the XMP packet")
    rdf = found[0]
    about = ""
    for description in rdf.getElementsByTagNameNS(_RDF, "Description"):
        if description.parentNode is rdf:
            about = description.getAttributeNS(_RDF, "about") or about
            _remove_properties(description)
            if _says_nothing(description):
                rdf.removeChild(description)
    rdf.appendChild(_description(document, rdf.prefix, about))
    # not document.toxml(): an XML declaration does not belong in a packet
    return "".join(node.toxml() for node in document.childNodes).encode()


def _parse(packet: bytes) -> minidom.Document:
    try:
        # some writers end a packet with zeros
        document = minidom.parseString(packet.strip(b"\0 \r\n\t"))
    except (ExpatError, ValueError, LookupError) as error:
        raise DamagedXmpError(f"the XMP packet is damaged ({error})") from error
    if document.doctype is not None:
        raise DamagedXmpError("the XMP packet has a document type, which XMP does not allow")
    return document


def _remove_properties(description: minidom.Element) -> None:
    """Earlier values, which are attributes or elements."""
    for name in PROPERTIES:
        if description.hasAttributeNS(_IPTC, name):
            description.removeAttributeNS(_IPTC, name)
        for child in [node for node in description.childNodes if (node.namespaceURI, node.localName) == (_IPTC, name)]:
            description.removeChild(child)


def _says_nothing(description: minidom.Element) -> bool:
    names = [item.name for item in description.attributes.values() if not item.name.startswith("xmlns")]
    has_content = any(not isinstance(node, minidom.Text) or node.data.strip() for node in description.childNodes)
    return not has_content and all(name.endswith("about") for name in names)


def _description(document: minidom.Document, rdf_prefix: str | None, about: str) -> minidom.Element:
    prefix = f"{rdf_prefix}:" if rdf_prefix else ""
    description = document.createElementNS(_RDF, f"{prefix}Description")
    # an attribute without a prefix would be in no namespace
    description.setAttributeNS(_RDF, "rdf:about", about)
    description.setAttribute("xmlns:rdf", _RDF)
    description.setAttribute("xmlns:Iptc4xmpExt", _IPTC)
    for name, value in PROPERTIES.items():
        element = document.createElementNS(_IPTC, f"Iptc4xmpExt:{name}")
        element.appendChild(document.createTextNode(value))
        description.appendChild(element)
    return description
