"""Make a .cat for Nuke's Inference node of what `fran export RUN --format torchscript` wrote.

Runs in Nuke's own Python, which has no FRAN Lightning: `Nuke --nukex -t nuke_make_cat.py generator.pt generator.cat`,
or in the Script Editor: `import nuke_make_cat; nuke_make_cat.make_cat("generator.pt", "generator.cat")`.

The network's input has five channels: display-referred RGB in [-1, 1] and, in the layer `age`, the age of the face as
it is and the age wanted, both in years / 100. Its output is the delta of RGB in the same units. docs/vfx.md shows the
nodes around it.
"""

import os
import sys

import nuke

#: layer that holds the two age maps
AGE_CHANNELS = ["age.source", "age.target"]
CHANNELS_IN = ["rgba.red", "rgba.green", "rgba.blue", *AGE_CHANNELS]
CHANNELS_OUT = ["rgba.red", "rgba.green", "rgba.blue"]


def make_cat(torchscript, cat):
    """Convert the file `torchscript` to `cat`; returns its path."""
    # Nuke wants forward slashes on every system
    torchscript, cat = (os.path.abspath(path).replace("\\", "/") for path in (torchscript, cat))
    if not os.path.isfile(torchscript):
        raise RuntimeError(f"{torchscript} does not exist; write it by `fran export RUN --format torchscript`")
    nuke.Layer("age", AGE_CHANNELS)
    creator = nuke.createNode("CatFileCreator", inpanel=False)
    values = {
        "torchScriptFile": torchscript,
        "catFile": cat,
        "channelsIn": ", ".join(CHANNELS_IN),
        "channelsOut": ", ".join(CHANNELS_OUT),
        "modelId": os.path.splitext(os.path.basename(torchscript))[0],
        # the delta has the size of the picture
        "outputScale": 1,
    }
    try:
        for knob, value in values.items():
            creator[knob].setValue(value)
        creator["createCatFile"].execute()
    finally:
        nuke.delete(creator)
    if not os.path.isfile(cat):
        raise RuntimeError(f"Nuke wrote no {cat}; its error console says why")
    return cat


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: Nuke --nukex -t nuke_make_cat.py generator.pt generator.cat")
    print(make_cat(*sys.argv[1:]))
