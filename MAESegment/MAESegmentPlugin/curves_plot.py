"""Learning curves in Slicer's own plots: Dice on cases that are not trained on, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from MAESegmentLib.jobs.finetuning import Curves

Colour = tuple[int, ...]
_STEP = "Step"
#: With more labels, only the mean's past is drawn: lines that nobody can tell apart say nothing.
_MOST_DASHED = 3
_MEAN = "mean"
_BLACK: Colour = (40, 40, 40)
_LOSS_COLOUR: Colour = (70, 110, 170)
#: Colours of labels that nobody gave one.
_SPARE: tuple[Colour, ...] = ((200, 90, 60), (60, 140, 90), (110, 90, 180), (190, 150, 40), (40, 150, 170))


@dataclass(frozen=True)
class Line:
    """One curve: `values` at the steps of its chart; NaN where there is none."""

    name: str
    values: tuple[float, ...]
    colour: Colour
    width: float = 2.0
    is_dashed: bool = False
    has_points: bool = False


def dice_lines(curves: Curves, colours: Mapping[str, Colour], last_step: int) -> tuple[tuple[int, ...], list[Line]]:
    """(steps, curves): every label and the mean, from what the base could do (step 0); that also dashed, all along."""
    if not curves.dice:
        return (), []
    before = curves.before or {}
    steps = (0, *(step for step, _values in curves.dice), max(last_step, curves.dice[-1][0]))
    names = list(dict.fromkeys(name for _step, values in curves.dice for name in values if name != _MEAN))
    lines = []
    for name, colour in [*((name, colour_of(name, names, colours)) for name in names), (_MEAN, _BLACK)]:
        if name == _MEAN and len(names) == 1:
            continue  # the same curve
        values = (before.get(name, math.nan), *(row.get(name, math.nan) for _step, row in curves.dice), math.nan)
        lines.append(Line(name, values, colour, 3.0 if name == _MEAN else 1.5, has_points=True))
        if name in before and (name == _MEAN or len(names) <= _MOST_DASHED):
            text = _("{label} before").format(label=name)
            lines.append(Line(text, (before[name],) * len(steps), colour, 1.0, is_dashed=True))
    return steps, lines


def colour_of(name: str, names: Sequence[str], colours: Mapping[str, Colour]) -> Colour:
    return colours.get(name) or _SPARE[list(names).index(name) % len(_SPARE)]


class CurvesPlot:
    """The plots in the widget `container`, made when there is something to draw. Nothing of it is saved."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._shown: tuple[Any, ...] | None = None
        self._dice = _Chart("MAESegmentDice", _("Dice"), _("Training step (dashed: before)"), 190)
        self._loss = _Chart("MAESegmentLoss", _("Loss"), _("Training step"), 140)
        container.visible = False

    def show(self, curves: Curves, steps: int, colours: Mapping[str, Colour]) -> None:
        """Draw `curves` of a training of `steps` steps; costs nothing if they are drawn already."""
        if self._shown == (curves, steps) and self._dice.is_intact and self._loss.is_intact:
            return
        self._shown = (curves, steps)
        for chart in (self._dice, self._loss):
            chart.make_view(self._container)
        at, lines = dice_lines(curves, colours, steps)
        self._container.visible = bool(lines or curves.loss)
        self._dice.show(at, lines, max(steps, *at, 1))
        # A row without a value at the end: VTK complains about a line of one row.
        at = (*(step for step, _value in curves.loss), steps)
        loss = Line("loss", (*(value for _step, value in curves.loss), math.nan), _LOSS_COLOUR)
        self._loss.show(at, [loss] if curves.loss else [], max(*at, 1))

    def clear(self) -> None:
        """Draw nothing; the nodes leave the scene."""
        self._shown = None
        self._container.visible = False
        self._dice.remove()
        self._loss.remove()


class _Chart:
    """One plot view and its nodes, hidden from lists of nodes and not saved; made anew when the scene was closed."""

    def __init__(self, name: str, title: str, x_title: str, height: int) -> None:
        self._name = name
        self._titles = (x_title, title)
        self._height = height
        self._widget: Any = None
        self._view: Any = None
        self._chart: Any = None
        self._table: Any = None
        self._series: list[Any] = []

    @property
    def is_intact(self) -> bool:
        """Whether its nodes are in the scene still; also if it has none because there is nothing to draw."""
        return self._chart is None or all(node.GetScene() is not None for node in (self._chart, self._table))

    def make_view(self, container: Any) -> None:
        """Below those that are there; nothing if that was done."""
        if self._widget is None:
            self._widget = slicer.qMRMLPlotView()
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._widget.setFixedHeight(self._height)
            self._widget.visible = False
            container.layout().addWidget(self._widget)

    def show(self, steps: Sequence[int], lines: Sequence[Line], last_step: int) -> None:
        if not lines:
            self.remove()
            return
        self._widget.visible = True
        if self._chart is None or not self.is_intact:
            self._make_nodes()
        # The plot is drawn once for all that changes.
        was_modifying = self._chart.StartModify()
        self._table.SetAndObserveTable(_table(steps, lines))
        if [series.GetName() for series in self._series] != [line.name for line in lines]:
            self._make_series(lines)
        low, high = _range(lines)
        self._chart.SetXAxisRange(0.0, float(last_step))
        self._chart.SetYAxisRange(low, high)
        self._chart.EndModify(was_modifying)

    def remove(self) -> None:
        """Take the nodes out of the scene, first out of the view, which does not keep them alive."""
        if self._widget is not None:
            self._widget.setMRMLPlotViewNode(None)
            self._widget.visible = False
        for node in (*self._series, self._chart, self._table, self._view):
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self._chart = self._table = self._view = None
        self._series = []

    def _make_nodes(self) -> None:
        self.remove()
        self._widget.visible = True
        self._table = _add("vtkMRMLTableNode", self._name)
        chart = self._chart = _add("vtkMRMLPlotChartNode", self._name)
        chart.SetTitleVisibility(False)
        chart.SetLegendVisibility(False)
        chart.SetXAxisTitle(self._titles[0])
        chart.SetYAxisTitle(self._titles[1])
        chart.SetAxisTitleFontSize(13)
        chart.SetAxisLabelFontSize(11)
        chart.SetXAxisRangeAuto(False)
        chart.SetYAxisRangeAuto(False)
        self._view = _add("vtkMRMLPlotViewNode", self._name, self._set_up_view)
        # A view that had this name before is taken again: it knows nothing of the new chart.
        self._set_up_view(self._view)
        self._view.SetPlotChartNodeID(chart.GetID())
        self._widget.setMRMLPlotViewNode(self._view)

    def _set_up_view(self, view: Any) -> None:
        """Before it is in the scene, so that the layout manager lets it alone: the chart "owns" it."""
        view.SetLayoutName(self._name)
        view.SetAndObserveParentLayoutNodeID(self._chart.GetID())

    def _make_series(self, lines: Sequence[Line]) -> None:
        kind = slicer.vtkMRMLPlotSeriesNode
        self._chart.RemoveAllPlotSeriesNodeIDs()
        for series in self._series:
            slicer.mrmlScene.RemoveNode(series)
        self._series = []
        for line in lines:
            series = _add("vtkMRMLPlotSeriesNode", line.name)
            series.SetAndObserveTableNodeID(self._table.GetID())
            series.SetPlotType(kind.PlotTypeScatter)
            series.SetXColumnName(_STEP)
            series.SetYColumnName(line.name)
            series.SetColor([part / 255.0 for part in line.colour])
            series.SetLineWidth(line.width)
            series.SetLineStyle(kind.LineStyleDash if line.is_dashed else kind.LineStyleSolid)
            series.SetMarkerStyle(kind.MarkerStyleCircle if line.has_points else kind.MarkerStyleNone)
            series.SetMarkerSize(5.0)
            self._chart.AddAndObservePlotSeriesNodeID(series.GetID())
            self._series.append(series)


def _add(class_name: str, name: str, set_up: Callable[[Any], None] = lambda _node: None) -> Any:
    """A node that no list shows and no file gets."""
    node = getattr(slicer, class_name)()
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    set_up(node)
    return slicer.mrmlScene.AddNode(node)


def _table(steps: Sequence[int], lines: Sequence[Line]) -> Any:
    """A vtkTable of the steps and of each curve's values."""
    table = vtk.vtkTable()
    for name, values in ((_STEP, steps), *((line.name, line.values) for line in lines)):
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(float(value))
        table.AddColumn(column)
    return table


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """Of all curves, with room around them; at least 0.1, so that little does not look like much."""
    values = [value for line in lines for value in line.values if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.08 * (high - low), (0.1 - (high - low)) / 2, 0.01)
    return max(0.0, low - room), high + room
