"""Learning curves in Slicer's own plots: Dice on cases that are not trained on, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from MAESegmentLib.app.curves import Colour, Line, dice_lines, loss_lines, range_of
from MAESegmentLib.runs import Curves

_STEP = "Step"


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
        shown = (curves, steps, dict(colours))
        if self._shown == shown and self._dice.is_intact and self._loss.is_intact:
            return
        self._shown = shown
        for chart in (self._dice, self._loss):
            chart.make_view(self._container)
        at, lines = dice_lines(curves, colours, steps)
        self._container.visible = bool(lines or curves.loss)
        self._dice.show(at, lines, max(steps, *at, 1))
        at, lines = loss_lines(curves, steps)
        self._loss.show(at, lines, max(*at, 1))

    def clear(self) -> None:
        """Draw nothing; the nodes leave the scene."""
        self._shown = None
        self._container.visible = False
        self._dice.remove()
        self._loss.remove()


class _Chart:
    """One plot view and its nodes, hidden from lists of nodes and not saved; made again when the scene was closed."""

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
        for series, line in zip(self._series, lines, strict=True):
            series.SetColor([part / 255.0 for part in line.colour])
        low, high = range_of(lines)
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
