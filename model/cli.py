"""The command line: `python -m model data | train | replay | evaluate | strength | card | predict | read | export`.

A user's mistake ends in one line, "inkling: ...", on standard error and exit code 2. Commands that need torch import it
themselves, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from model import picture_files
from model.data import download, mnist, npz, strokes
from model.evaluation import metrics
from model.files import atomic_write
from model.imaging.decode import FORMATS
from model.imaging.png import png_url
from model.imaging.writing import find_writing
from model.inference import weights
from model.inference.classifier import SHIPPED, Classifier
from model.inference.number import read_numbers
from model.inference.number_json import as_dict
from model.presets import PRESETS, SCHEDULES, Config
from model.progress import progress_bar
from model.rank import LOST, Failure, GroupLost, is_rank_zero, size

if TYPE_CHECKING:
    from model.evaluation.robustness import Refusals, Robustness, Sets, Strokes
    from model.inference.classifier import Prediction
    from model.network.mlp import MLP
    from model.training.event_files import EventFile
    from model.training.train import Epoch

MOST_SAMPLES = 1_000
DIFFERENT, BAD_INPUT, INTERRUPTED = 1, 2, 130


class UsageError(Exception):
    """A mistake of the user; the message is the line to print."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 for a reproduction that differs, 2 for bad input, 75 where a process of the group was lost, 130 for Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = _parser().parse_args(argv)
        args.command = [sys.executable, "-m", "model", *argv]
        code = args.run(args)
        sys.stdout.flush()  # raises BrokenPipeError here and not at exit
        return code
    except GroupLost as error:
        _print_error(error)
        return LOST
    except (UsageError, Failure, mnist.MnistMissing, npz.NpzError, strokes.StrokesError, weights.WeightsError) as error:
        _print_error(error)
        return BAD_INPUT
    except KeyboardInterrupt:
        _print_error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:  # argparse raises it after --help
        return int(end.code or 0)


def _print_error(message: object) -> None:
    tqdm.write(f"inkling: {message}", file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(prog="python -m model", description="Teach a small network to read handwritten digits.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Callable[[argparse.Namespace], int], does: str, example: str) -> Callable:
        made = commands.add_parser(
            name,
            help=does,
            description=f"{does[0].upper()}{does[1:]}.",
            epilog=f"Example: python -m model {name} {example}",
        )
        made.set_defaults(run=run)
        return made.add_argument

    command("data", _data, "fetch the MNIST digits and verify them", "")

    add = command("train", _train, "train a network and write its weights", "--preset basic --out b.safetensors")
    presets = "; ".join(f"{preset.name}: {preset.summary}" for preset in PRESETS.values())
    add("--preset", default="standard", help=f"which network and training (default: standard). {presets}")
    add("--from", dest="start", type=Path, metavar="FILE", help="weights to fine-tune (default: the shipped ones)")
    add("--corrections", type=Path, metavar="FILE.npz", help="corrections to learn from, as exported")
    add("--epochs", type=_count, metavar="N", help="times to go through the digits (default: the preset's)")
    add("--batch-size", type=_count, metavar="N", help="pictures of a step (default: the preset's)")
    add("--learning-rate", type=float, metavar="X", help="the highest one (default: the preset's)")
    add("--schedule", metavar="NAME", help=f"of the learning rate: {', '.join(SCHEDULES)} (default: the preset's)")
    add("--seed", type=int, default=0, metavar="N", help="where chance starts (default: 0)")
    add("--processes", type=_count, metavar="N", help="that train it together (default: 1, or torchrun's)")
    add("--checkpoint", type=Path, metavar="FILE", help="kept after every epoch, to go on from when it is broken off")
    add("--curves", type=Path, metavar="FILE.csv", help="where to write the figures of each epoch")
    add("--tensorboard", type=Path, metavar="FOLDER", help="where to write them as TensorBoard's event files, an extra")
    add("--out", type=Path, metavar="FILE", help="where to write (default: PRESET.safetensors)")

    add = command("replay", _replay, "train weights again from their card, and compare", "v7.safetensors")
    add("weights", type=Path, metavar="FILE", help="the weights to make again")
    add("--from", dest="start", type=Path, metavar="FILE", help="the weights that they were fine-tuned from")
    add("--corrections", type=Path, metavar="FILE.npz", help="the corrections that they were made with")

    shipped = "default: the shipped weights"
    arrays = "images uint8 (N, 28, 28), bright on black, and labels uint8 (N,); default: MNIST's test set"

    add = command("evaluate", _evaluate, "measure how well weights read", "--samples 40 --out sheet.png")
    add("--weights", type=Path, default=SHIPPED, metavar="FILE", help=shipped)
    add("--data", type=Path, metavar="FILE.npz", help=arrays)
    add("--json", action="store_true", help="print JSON, with the table of confused digits")
    add("--samples", type=_count, metavar="N", help="draw the first N digits with what was read")
    add("--out", type=Path, metavar="PICTURE.png", help="where to draw the samples")

    add = command("strength", _strength, "measure how far weights can be trusted", "--strokes drawings --seed 1")
    add("--weights", type=Path, default=SHIPPED, metavar="FILE", help=shipped)
    add("--strokes", type=Path, metavar="FOLDER", help="real handwriting too: *.jsonl.gz files of strokes")
    add("--seed", type=_seed, default=0, metavar="N", help="where chance starts (default: 0)")
    add("--json", action="store_true", help="print JSON, with the bins of the calibration")

    add = command("card", _card, "print weights' model card as Markdown, measured on the test set", "v7.safetensors")
    add("weights", type=Path, nargs="?", default=SHIPPED, metavar="FILE", help=shipped)

    add = command("predict", _predict, "read pictures of one handwritten digit each", "seven.png four.jpg")
    add("pictures", nargs="+", metavar="PICTURE", help=f"a {', '.join(FORMATS)} file, or a folder with such files")
    add("--weights", type=Path, default=SHIPPED, metavar="FILE", help=shipped)
    add("--json", action="store_true", help="print JSON, with all ten probabilities and the digit image")
    add("--csv", action="store_true", help="print CSV, a line for each picture")

    add = command("read", _read, "read pictures of whole numbers", "sum.jpg --json")
    add("pictures", nargs="+", metavar="PICTURE", help=f"a {', '.join(FORMATS)} file, or a folder with such files")
    add("--weights", type=Path, default=SHIPPED, metavar="FILE", help=shipped)
    add("--json", action="store_true", help="print JSON, with the place and the top three of each digit")
    add("--csv", action="store_true", help="print CSV, a line for each picture")

    add = command("export", _export, "write weights as an ONNX file", "v7.safetensors --onnx v7.onnx")
    add("weights", type=Path, metavar="FILE", help="the weights to export")
    add("--onnx", type=Path, required=True, metavar="FILE.onnx", help="where to write")
    return parser


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return value


def _seed(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 11 and int(text) < 2**32:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")


def _data(args: argparse.Namespace) -> int:
    download.fetch(None, print)
    return 0


def _train(args: argparse.Namespace) -> int:
    from model.data import splits
    from model.network.weights import deserialize
    from model.training.curves import to_csv
    from model.training.distributed import process_group
    from model.training.package import build_package
    from model.training.train import train

    config, checkpoint, curves = _config(args), args.checkpoint, args.curves
    out = args.out or Path(f"{args.preset}.safetensors")
    for file in filter(None, (out, checkpoint, curves)):
        _check_writable(file)
    data, parent = splits.load(), _parent(config, args.start)
    corrections = npz.read_corrections(args.corrections) if args.corrections else None
    with _file_errors("read", checkpoint):
        broken_off = checkpoint.read_bytes() if checkpoint and checkpoint.exists() else None
    start = deserialize(parent)[0] if parent else None
    take_part = functools.partial(train, config, data, start=start, corrections=corrections, checkpoint=broken_off)
    folder = args.tensorboard if is_rank_zero() else None
    with _event_file(folder) as events, process_group(config.processes, args.command) as group:
        if group.rank > 0:
            take_part(group=group)
            return 0
        with progress_bar() as move:
            keep = functools.partial(atomic_write, checkpoint) if checkpoint else None
            result = take_part(
                group=group,
                on_progress=lambda progress: move(progress.fraction),
                on_epoch=_epoch_printer(config, events),
                on_checkpoint=keep,
            )
        package = build_package(config, result, data, parent, corrections)
        with _file_errors("written", out):
            atomic_write(out, package.data)
        if curves:
            with _file_errors("written", curves):
                atomic_write(curves, to_csv([epoch.as_dict() for epoch in result.history]).encode())
        card = package.card
        learnt = ", which it has learnt from" if PRESETS[config.preset].all_digits else ""
        read = _share(card.validation_accuracy, len(data.validation))
        print(f"epoch {result.best_epoch} was kept; it reads {read} of the validation digits{learnt}")
        tested = _share(card.test_accuracy, len(data.test))
        print(f"test accuracy {tested}; weights written to {out} ({len(package.data):,} bytes)")
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
    return 0


def _config(args: argparse.Namespace) -> Config:
    started = size()
    if args.processes and started not in (1, args.processes):
        raise UsageError(f"--processes {args.processes} does not go with the {started} that were started")
    try:
        own = {name: getattr(args, name) for name in ("batch_size", "learning_rate", "schedule")}
        return Config(args.preset, args.epochs or 0, args.seed, args.processes or started, **own)
    except ValueError as error:
        raise UsageError(error) from error


def _parent(config: Config, start: Path | None) -> bytes | None:
    """Read the weights to fine-tune; None for a preset that does not fine-tune."""
    if PRESETS[config.preset].fine_tunes:
        return weights.read(start or SHIPPED)
    if start:
        raise UsageError(f"--from goes with a preset that fine-tunes, and {config.preset} begins anew")
    return None


@contextmanager
def _event_file(folder: Path | None) -> Iterator[EventFile | None]:
    """Open TensorBoard's event file in a folder, where there is one."""
    if folder is None:
        yield None
        return
    with _extra("tensorboard", "--tensorboard"):
        from model.training.event_files import EventFile
    with _file_errors("written", folder):
        events = EventFile(folder)
    try:
        yield events
    finally:
        events.close()


@contextmanager
def _extra(package: str, needing: str) -> Iterator[None]:
    """Turn the lack of a package that is an extra into a UsageError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        install = "python -m pip install -r requirements-extras.txt"
        raise UsageError(f"{needing} needs the package {package}, which this installs: {install}") from error


def _epoch_printer(config: Config, events: EventFile | None) -> Callable[[Epoch, MLP], None]:
    ended = 0.0

    def tell(epoch: Epoch, network: MLP) -> None:
        nonlocal ended
        name = f"epoch {epoch.epoch} of {config.epochs}" if epoch.epoch else "before training"
        figures = f"validation loss {epoch.validation_loss:.4f}, accuracy {epoch.validation_accuracy:.2%}"
        if epoch.test_accuracy is not None:  # and the validation digits are learnt from
            figures = f"test accuracy {epoch.test_accuracy:.2%}"
        tqdm.write(f"{name:<16}  {epoch.seconds - ended:5.1f} s  {figures}")
        ended = epoch.seconds
        if events:
            events.add(epoch)

    return tell


@contextmanager
def _file_errors(verb: str, path: Path | str) -> Iterator[None]:
    """Turn an OSError into a UsageError that names the file and `verb`, "read" or "written"."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be {verb}: {error.strerror}") from error


def _check_writable(path: Path) -> None:
    """Raise UsageError before minutes of work where the file cannot be written."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    with _file_errors("written", path), tempfile.TemporaryFile(dir=path.parent):
        pass


def _replay(args: argparse.Namespace) -> int:
    from model.data import splits
    from model.training.reproduce import ReproductionError, differences, reproduce

    data = weights.read(args.weights)
    parent = weights.read(args.start) if args.start else None
    corrections = npz.read_corrections(args.corrections) if args.corrections else None
    for difference in differences(weights.read_card(data)) if is_rank_zero() else ():
        _print_error(f"note: {difference}")
    try:
        with progress_bar() as move:
            found = reproduce(data, splits.load(), parent, corrections, move, args.command)
    except ReproductionError as error:
        raise UsageError(f"{args.weights} cannot be made again: {error}") from error
    if found is None:
        return 0
    print(f"the same bytes, SHA-256 {found.made}" if found.same else f"other bytes: SHA-256 {found.made}")
    return 0 if found.same else DIFFERENT


def _evaluate(args: argparse.Namespace) -> int:
    from model.evaluation.contact_sheet import contact_sheet
    from model.network.predict import digit_probabilities
    from model.network.weights import load_network

    out, samples = args.out, args.samples
    if (samples is None) != (out is None):
        raise UsageError("--samples and --out go together: how many digits to draw, and into which file")
    if out:
        if samples > MOST_SAMPLES:
            raise UsageError(f"--samples draws at most {MOST_SAMPLES} digits")
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out writes a PNG picture, so its name must end in .png, not {out.name!r}")
        _check_writable(out)
    images, labels = npz.read_digits(args.data) if args.data else mnist.read_test()
    network, _ = load_network(args.weights)
    with progress_bar() as move:
        likely = digit_probabilities(network, images, move)
    if out:
        with _file_errors("written", out):
            contact_sheet(images[:samples], labels[:samples], likely[:samples]).save(out, "PNG")
    report = metrics.report(likely, labels)
    print(json.dumps({"weights": str(args.weights)} | report.as_dict()) if args.json else _table(report))
    return 0


def _table(report: metrics.Report) -> str:
    occurring = report.confusion.sum(1)
    lines = [
        f"digits          {report.count:>8,}",
        f"accuracy        {report.accuracy:>8.2%}   {_interval(report.interval)}",
        f"in the top 3    {report.top3_accuracy:>8.2%}   {_interval(report.top3_interval)}",
        "",
        "digit   count   accuracy     95 % interval",
    ]
    rows = zip(occurring, report.per_digit, report.per_digit_intervals, strict=True)
    for digit, (count, share, interval) in enumerate(rows):
        found = "-" if share is None or interval is None else f"{share:>8.2%}   {_interval(interval)}"
        lines.append(f"{digit:>5} {count:>7,}   {found:>8}")
    return "\n".join(lines)


def _interval(interval: tuple[float, float]) -> str:
    return f"{metrics.interval_words(*interval)}%"


def _share(share: float | None, count: int) -> str:
    """Return a share of `count` digits with its 95 % interval."""
    return "-" if share is None else f"{share:.2%} ({_interval(metrics.wilson_interval(share, count))})"


def _strength(args: argparse.Namespace) -> int:
    from model.evaluation.robustness import measure_robustness
    from model.network.predict import predict
    from model.network.weights import load_network

    drawings = strokes.read_folder(args.strokes) if args.strokes else []
    if args.strokes and all(drawing.digit is None for drawing in drawings):
        raise UsageError(f"{args.strokes} holds no drawing of a digit")
    images, labels = mnist.read_test()
    network, card = load_network(args.weights)
    read = functools.partial(predict, network)
    with progress_bar() as move:
        found = measure_robustness(read, card.calibration, images, labels, drawings, args.seed, move)
    print(json.dumps({"weights": str(args.weights)} | found.as_dict()) if args.json else _strength_table(found))
    return 0


def _strength_table(found: Robustness) -> str:
    lines = [
        f"{f'MNIST test set, {found.digits:,} digits':<47}95 % interval",
        _row("read right", found.accuracy, found.digits),
        _row("calibration error", found.reliability.error),
        *_set_rows(found.sets, _accepted(found.digits, found.refusals.digits)),
    ]
    lines += ["", *_refusal_rows(found.refusals, found.digits), ""]
    lines.append(f"read right when changed, {found.curve_digits:,} of the digits (seed {found.seed})")
    for curve in found.curves:
        lines.append(f"  {f'{curve.name}, {curve.unit}':<34}" + "".join(f"{level:>8g}" for level in curve.levels))
        intervals = [metrics.wilson_interval(share, found.curve_digits) for share in curve.accuracy]
        rows = {"": curve.accuracy, "95 % interval from": [low for low, _ in intervals]}
        for name, shares in (rows | {"to": [high for _, high in intervals]}).items():
            lines.append(f"  {name:<34}" + "".join(f"{share:>8.1%}" for share in shares))
    return "\n".join([*lines, *(_stroke_rows(found.strokes) if found.strokes else ())])


def _row(name: str, value: float | None, count: int | None = None, form: str = ".2%") -> str:
    """Return a figure in a line; a share of `count` pictures with its 95 % interval."""
    if value is None:
        return f"  {name:<34}{'-':>8}"
    interval = f"   {_interval(metrics.wilson_interval(value, count))}" if count else ""
    return f"  {name:<34}{format(value, form):>8}{interval}"


def _accepted(count: int, refused: float) -> int:
    return round(count * (1 - refused))


def _set_rows(sets: Sets, count: int) -> list[str]:
    """Return the rows of the sets of `count` digits that are not refused."""
    rows = [_row(f"true digit named (promised {sets.promised:.0%})", sets.kept, count)]
    rows.append(_row("unsure", sets.unsure, count))
    if sets.unsure_size is not None:
        rows.append(_row("true digit named where unsure", sets.unsure_kept, round(count * (sets.unsure or 0))))
        rows.append(_row("digits named where unsure", sets.unsure_size, form=".2f"))
    rows.append(_row("one digit, probably", sets.hesitant, count))
    return [*rows, _row("right where probably", sets.hesitant_kept, round(count * (sets.hesitant or 0)))]


def _refusal_rows(refusals: Refusals, digits: int) -> list[str]:
    from model.data.synthetic import others_of_each
    from model.evaluation.robustness import OTHERS

    if refusals.area is None:
        return ["refusals", "  none: a network of ten outputs takes everything for a digit"]
    return [
        "refusals at the thresholds of the model card",
        _row("digits", refusals.digits, digits),
        *(
            _row(f"drawn: {reason.replace('_', ' ')}", share, others_of_each(OTHERS)[reason])
            for reason, share in refusals.others.items()
        ),
        _row("refused when 2 % of digits are", refusals.beside, OTHERS),
        _row("area under the ROC curve", refusals.area, form=".4f"),
    ]


def _stroke_rows(found: Strokes) -> list[str]:
    return [
        "",
        f"strokes, {found.digits:,} digits and {found.others:,} others",
        _row("read right", found.accuracy, found.digits),
        _row("in the top 3", found.top3_accuracy, found.digits),
        _row("calibration error", found.reliability.error),
        *(_set_rows(found.sets, _accepted(found.digits, found.digits_refused)) if found.sets else ()),
        _row("digits refused", found.digits_refused, found.digits),
        _row("others refused", found.others_refused, found.others),
        _row("refused when 2 % of digits are", found.refused_beside, found.others),
        _row("area under the ROC curve", found.area, form=".4f"),
        *(_row(f"same answer: {name}", share, found.pairs) for name, share in found.same.items()),
    ]


def _card(args: argparse.Namespace) -> int:
    from model.evaluation import model_card
    from model.evaluation.robustness import conformal_sets
    from model.network.predict import predict
    from model.network.weights import deserialize

    data = weights.read(args.weights)
    network, card = deserialize(data)
    images, labels = mnist.read_test()
    with progress_bar() as move:
        probabilities, outliers = predict(network, images, move)
    accepted = metrics.not_a_digit(outliers) <= card.calibration.refuse_above
    robustness = {
        "reliability": {"error": metrics.reliability(probabilities, labels).error},
        "sets": vars(conformal_sets(probabilities[accepted], labels[accepted], card.calibration)),
        "refusals": {"digits": float(1 - accepted.mean())},
    }
    measured = model_card.measured(metrics.report(probabilities, labels), robustness)
    known = {"version": args.weights.stem, "sha256": weights.digest(data), "measured": measured}
    print(model_card.markdown(model_card.described(card.as_dict()) | known), end="")
    return 0


def _predict(args: argparse.Namespace) -> int:
    data = weights.read(args.weights)
    classifier = Classifier(lambda: data, args.weights.stem)

    def read(file: bytes) -> dict[str, Any]:
        return _answer(classifier.predict_digit_image(find_writing(file).digit_image()))

    return _read_pictures(args, read, _print_answers, CSV_COLUMNS, _csv_row)


def _read(args: argparse.Namespace) -> int:
    data = weights.read(args.weights)
    classifier = Classifier(lambda: data, args.weights.stem)

    def read(file: bytes) -> dict[str, Any]:
        ink = find_writing(file).ink
        return as_dict([], (1, 1)) if ink is None else as_dict(read_numbers(classifier, ink), ink.shape[::-1])

    def row(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"text": answer["text"].replace("\n", " ")}

    return _read_pictures(args, read, _print_numbers, ("picture", "text", "confidence", "error"), row)


def _print_numbers(answers: list[dict[str, Any]]) -> None:
    width = max((len(answer["picture"]) for answer in answers), default=0)
    for answer in answers:
        lines = answer["lines"] or [{"text": "no number", "confidence": None}]
        for name, line in zip([answer["picture"], *[""] * len(lines)], lines, strict=False):
            sure = "" if line["confidence"] is None else f"   {line['confidence']:.0%}"
            print(f"{name:<{width}}   {line['text']}{sure}")


def _read_pictures(
    args: argparse.Namespace,
    read: Callable[[bytes], dict[str, Any]],
    print_lines: Callable[[list[dict[str, Any]]], None],
    columns: Sequence[str],
    row: Callable[[dict[str, Any]], dict[str, Any]],
) -> int:
    """Print what `read` answers for each picture file, as JSON, CSV or lines; return the exit code."""
    if args.json and args.csv:
        raise UsageError("--csv does not go with --json")
    answers = picture_files.read_files(args.pictures, read, _print_error)
    answered = [answer for answer in answers if "error" not in answer]
    if args.json:
        print(json.dumps(answers))
    elif args.csv:
        picture_files.print_csv(columns, [answer if "error" in answer else row(answer) for answer in answers])
    else:
        print_lines(answered)
    return BAD_INPUT if len(answered) < len(answers) else 0


def _export(args: argparse.Namespace) -> int:
    with _extra("onnx", "an ONNX file"):
        from model.inference import onnx_file
    _check_writable(args.onnx)
    data = onnx_file.export(weights.read(args.weights))
    with _file_errors("written", args.onnx):
        atomic_write(args.onnx, data)
    print(f"written to {args.onnx} ({len(data):,} bytes)")
    return 0


CSV_COLUMNS = ("picture", "verdict", "digits", "reason", "likeliest", "probability", "not_a_digit", "error")


def _csv_row(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as a line of CSV."""
    likeliest = answer["top"][0] if answer["top"] else {"digit": None, "probability": None}
    return answer | {"likeliest": likeliest["digit"], "probability": likeliest["probability"]}


def _answer(prediction: Prediction) -> dict[str, Any]:
    image = prediction.digit_image
    return {
        "verdict": prediction.verdict,
        "digits": prediction.digits,
        "reason": prediction.reason,
        "top": [{"digit": digit, "probability": share} for digit, share in prediction.top],
        "probabilities": prediction.probabilities,
        "not_a_digit": prediction.not_a_digit,
        "coverage": prediction.coverage,
        "digit_image": None if image is None else png_url(image),
    }


def _print_answers(answers: list[dict[str, Any]]) -> None:
    width = max((len(answer["picture"]) for answer in answers), default=0)
    longest = max((len(_in_words(answer)) for answer in answers if answer["digits"]), default=0)
    for answer in answers:
        line = f"{answer['picture']:<{width}}   {_in_words(answer):<{longest if answer['digits'] else 0}}"
        if answer["digits"]:
            line += "".join(f"   {guess['digit']} {guess['probability']:>7.2%}" for guess in answer["top"])
        print(line)


_REASONS = {
    "dot": "it is only a dot",
    "scribble": "it looks like a scribble",
    "several": "it looks like several digits",
    "unlike_any_digit": "it is unlike any",
}


def _in_words(answer: dict[str, Any]) -> str:
    """Return the verdict in the words of the page."""
    if answer["verdict"] == "blank":
        return "blank"
    if answer["verdict"] == "not_a_digit":
        return f"That does not look like a digit: {_REASONS[answer['reason']]}"
    named = [f"{'an' if digit == 8 else 'a'} {digit}" for digit in answer["digits"]]
    if len(named) == 1:
        hesitant = answer["top"][0]["probability"] < answer["coverage"]
        return f"{'Probably' if hesitant else 'It is'} {named[0]}"
    if len(named) > 4:
        named[3:] = ["another"]
    words = f"{', '.join(named[:-1])} or {named[-1]}"
    return words[0].upper() + words[1:]
