"""Division of pieces of ink into lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from model.imaging.pieces import Piece, digit_height

# Pieces of a line: most distance to the next one, and least common part of their heights (of the smaller one).
LINE_GAP = 2.5
LINE_COMMON = 0.4
# Most distance between a piece and the rest of the same broken digit below it, in parts of the lower height.
BROKEN = 0.15
# Pieces lower than this part of the digits' height are not lines by themselves: points, dashes, parts of digits.
SMALL = 0.45


def text_lines(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Divide pieces into lines of text, from top to bottom.

    Tall pieces are linked to their neighbours at the same height, so that a line may rise or fall; small ones join the
    line of the nearest tall piece.
    """
    height = digit_height(pieces)
    tall = [piece for piece in pieces if piece.height >= SMALL * height] or list(pieces)
    line_of = list(range(len(tall)))
    for i, one in enumerate(tall):
        for j, other in enumerate(tall[:i]):
            if _in_line(one, other, height):
                old, new = line_of[i], line_of[j]
                line_of = [new if line == old else line for line in line_of]
    found: dict[int, list[Piece]] = {}
    for line, piece in zip(line_of, tall, strict=True):
        found.setdefault(line, []).append(piece)
    kept = {id(piece) for piece in tall}
    for piece in pieces:
        if id(piece) not in kept:
            nearest = min(range(len(tall)), key=lambda i: _distance(piece, tall[i]))
            found[line_of[nearest]].append(piece)
    return sorted(found.values(), key=lambda line: sum(piece.top + piece.bottom for piece in line) / len(line))


def _in_line(one: Piece, other: Piece, height: float) -> bool:
    gap = max(one.left, other.left) - min(one.right, other.right)
    common = min(one.bottom, other.bottom) - max(one.top, other.top)
    low = min(one.height, other.height)
    beside = gap < LINE_GAP * height and common > LINE_COMMON * low
    return beside or (gap < -LINE_COMMON * min(one.width, other.width) and -common < BROKEN * low)


def _distance(one: Piece, other: Piece) -> float:
    across = max(one.left - other.right, other.left - one.right, 0)
    down = max(one.top - other.bottom, other.top - one.bottom, 0)
    return across * across + down * down
