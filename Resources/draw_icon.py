"""Draws the icon of the extension and of the module: `python Resources/draw_icon.py` (needs PySide6).

A volume in patches, some of them masked as in pretraining; a structure in two parts is found across all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QPainter, QPainterPath, QPen

SIZE = 128
REPOSITORY = Path(__file__).resolve().parents[1]
TARGETS = (REPOSITORY / "Resources/MAESegment.png", REPOSITORY / "MAESegment/Resources/Icons/MAESegment.png")

GROUND, PATCH, MASKED = QColor("#18243d"), QColor("#a9bbd6"), QColor("#2c3b5a")
HEAD, TAIL, EDGE = QColor("#ffb547"), QColor("#3ecf9a"), QColor("#ffffff")
#: One row of patches a line; "." is masked.
PATCHES = ("##.#", "#..#", ".#..", "#.##")


def draw() -> QImage:
    image = QImage(SIZE, SIZE, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(GROUND)
    painter.drawRoundedRect(QRectF(2, 2, 124, 124), 24, 24)
    for row, line in enumerate(PATCHES):
        for column, patch in enumerate(line):
            painter.setBrush(PATCH if patch == "#" else MASKED)
            painter.drawRoundedRect(QRectF(12 + 27 * column, 12 + 27 * row, 23, 23), 4, 4)
    _draw_structure(painter)
    painter.end()
    return image


def _draw_structure(painter: QPainter) -> None:
    whole = _structure()
    upper = QPainterPath()
    upper.addPolygon([QPointF(0, 0), QPointF(128, 0), QPointF(128, 50), QPointF(0, 82)])
    painter.setPen(QPen(EDGE, 9, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
    painter.drawPath(whole)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.fillPath(whole, TAIL)
    painter.fillPath(whole.intersected(upper), HEAD)


def _structure() -> QPainterPath:
    """A bent body, thick above and tapering below, much as a hippocampus lies in a sagittal slice."""
    path = QPainterPath(QPointF(30, 52))
    path.cubicTo(30, 30, 52, 22, 70, 28)
    path.cubicTo(98, 37, 108, 66, 100, 100)
    path.cubicTo(98, 108, 88, 108, 86, 100)
    path.cubicTo(82, 80, 76, 74, 62, 74)
    path.cubicTo(44, 75, 30, 70, 30, 52)
    path.closeSubpath()
    return path


if __name__ == "__main__":
    application = QGuiApplication([])
    for target in TARGETS:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not draw().save(str(target)):
            raise OSError(f"{target} could not be written")
        print(target)
