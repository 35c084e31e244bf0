"""Look at every file of a dataset folder and name what is wrong; exit status 2 if anything is."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("root", type=str, help="dataset folder")
    parser.add_argument("--decode", action="store_true", help="decode every pixel as well (slow)")


def run(args: Namespace) -> None:
    from fran_lightning.data.check import check_dataset
    from fran_lightning.errors import UserError

    report = check_dataset(args.root, decode=args.decode)
    for problem in report.problems:
        print(problem)
    ages = " ".join(str(age) for age in report.info.ages)
    size = report.info.image_size
    print(
        f"{args.root}: {report.complete_identities} complete identities, {report.images} images of {size} x {size}, "
        f"ages {ages}, source {report.info.source}"
    )
    if report.problems:
        raise UserError(f"{args.root} has {len(report.problems)} problems, listed above; replace or remove these files")
