"""Summary and data card of a SAM data set, computed from what lies in the folder.

Every process of a job array may write them at its end: the content depends on the folder alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fran_lightning.data.folder import DatasetInfo, identity_folders, read_info
from fran_lightning.files import atomic_path, write_json
from fran_lightning.synthesis.sam.gate import REASONS

SUMMARY_FILE = "summary.json"
DATA_CARD_FILE = "DATA_CARD.md"


def write_report(root: Path, passed_over: Sequence[str] = ()) -> dict[str, Any]:
    """Write ``summary.json`` and ``DATA_CARD.md`` below ``root``; return the summary.

    Args:
        root: the dataset folder.
        passed_over: photos that were left out, "NAME: why" each.
    """
    info = read_info(root)
    records = [json.loads((folder / "identity.json").read_text(encoding="utf-8")) for folder in identity_folders(root)]
    summary = summarise(info, records) | {"photos_passed_over": list(passed_over)}
    write_json(root / SUMMARY_FILE, summary)
    with atomic_path(root / DATA_CARD_FILE) as temporary:
        temporary.write_text(data_card(info, summary), encoding="utf-8")
    return summary


def summarise(info: DatasetInfo, records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Counts, reasons of rejection, and the spread of what the gate measured.

    Args:
        info: ``dataset.json``.
        records: the ``identity.json`` of every identity written so far.
    """
    records = list(records)
    rejected = [candidate["reasons"] for record in records for candidate in record["rejected"]]
    reasons = Counter(reason for candidate in rejected for reason in candidate)
    measured = [record["measured"] for record in records if "measured" in record]
    spread = {name: _spread([one[name] for one in measured]) for name in ("identity_distance", "background_difference")}
    for kind in ("age_error", "rank_correlation"):
        for estimator in sorted({name for one in measured for name in one[kind]}):
            spread[f"{kind} ({estimator})"] = _spread([one[kind][estimator] for one in measured])
    return {
        "identities_planned": info.identities,
        "identities_written": len(records),
        "candidates_judged": len(records) + len(rejected),
        "candidates_rejected": len(rejected),
        # one candidate may have several reasons
        "reasons": {reason: reasons[reason] for reason in REASONS if reasons[reason]},
        "written_with_problems": sum(1 for record in records if record["gate"] and not record["gate"]["passed"]),
        "measured": {name: value for name, value in spread.items() if value},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {"5 %": round(float(low), 3), "median": round(float(median), 3), "95 %": round(float(high), 3)}


def data_card(info: DatasetInfo, summary: dict[str, Any]) -> str:
    """Markdown that says what the set is, how it was made, what was left out and what may be done with it."""
    made = info.generator
    photos = made["faces"] == "photos"
    origin = (
        "given photos, each re-aged by SAM"
        if photos
        else f"faces drawn by StyleGAN2 (truncation {made['truncation']}, seed {info.seed}), each re-aged by SAM"
    )
    lines = [
        "# Data card",
        "",
        f"{summary['identities_written']} of {info.identities} identities at {len(info.ages)} ages "
        f"({', '.join(map(str, info.ages))}), {info.image_size} x {info.image_size} pixels: {origin}. "
        "The face before re-ageing is not part of the set: it does not lie on SAM's image manifold. "
        "The label of an image is the age that was asked for.",
        "",
        "People in sampled sets do not exist; photos show whom they show. Ages are SAM's idea of them: wrinkles, skin "
        "and hair follow FFHQ's population, gender or eye colour may drift at large age steps, grey hair is rare.",
        "",
        "## How it was made",
        "",
        *(f"- {name}: {value}" for name, value in sorted(made.items()) if name != "gate"),
        "",
        "## Quality gate",
        "",
    ]
    if made["gate"] is None:
        lines.append("Off: nothing was measured or left out.")
    else:
        lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in made["gate"].items()]
        lines += ["", f"{summary['candidates_judged']} candidates, {summary['candidates_rejected']} rejected."]
        lines += [f"- {reason}: {count}" for reason, count in summary["reasons"].items()]
        if photos:
            lines.append(f"Photos are never dropped; {summary['written_with_problems']} did not meet the thresholds.")
        lines += ["", "| measured | 5 % | median | 95 % |", "|---|---|---|---|"]
        lines += [
            f"| {name.replace('_', ' ')} | {value['5 %']} | {value['median']} | {value['95 %']} |"
            for name, value in summary["measured"].items()
        ]
    if summary["photos_passed_over"]:
        lines += ["", "## Photos passed over", "", *(f"- {line}" for line in summary["photos_passed_over"])]
    lines += [
        "",
        "## Licence",
        "",
        "Non-commercial research only. The generator's weights derive from NVIDIA's StyleGAN2 (Source Code License-NC) "
        "and FFHQ (CC BY-NC-SA 4.0); SAM's code is MIT, its weights come without a licence of their own; "
        "DEX and dlib's 68-point model are for academic use.",
    ]
    return "\n".join(lines) + "\n"
