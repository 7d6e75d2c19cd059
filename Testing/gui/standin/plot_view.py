"""`qMRMLPlotView` on real plot nodes: drawn by the chart of VTK that Slicer draws it with, into a picture.

What a plot series with an X column says (type Scatter, which Slicer draws as lines with or without points), titles,
fonts, ranges, legend and grid are taken over from the nodes. Bars, labels of points and the mouse are not there.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from vtk.util.numpy_support import vtk_to_numpy

_LINE_STYLES = {"solid": vtk.vtkPen.SOLID_LINE, "dash": vtk.vtkPen.DASH_LINE, "dot": vtk.vtkPen.DOT_LINE}
_MARKERS = {"none": vtk.VTK_MARKER_NONE, "circle": vtk.VTK_MARKER_CIRCLE, "cross": vtk.VTK_MARKER_CROSS}


class PlotView(QtWidgets.QWidget):
    """Shows the chart of its plot view node, and follows every change of it."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._context: Any = None
        self._title = ""
        self._drawn = 0

    title = Property(str, lambda self: self._title, lambda self, text: setattr(self, "_title", text))

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._node = node
        self._observe()
        self.update()

    def fitToContent(self) -> None:
        self.update()

    def _chart_node(self) -> Any:
        """For tests: what is shown."""
        node, scene = self._node, self._scene
        if node is None or scene is None or not node.GetPlotChartNodeID():
            return None
        return scene.GetNodeByID(node.GetPlotChartNodeID())

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        chart = self._chart_node()
        if chart is None:
            painter.fillRect(self.rect(), QtGui.QColor("white"))
            return
        painter.drawImage(0, 0, self._picture(chart))
        self._drawn += 1

    def _observe(self) -> None:
        """As in Slicer: the view node, and the chart, which reports changes of its series and their tables."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        for node in (self._node, self._chart_node()):
            if node is not None:
                self._observed.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_modified)))

    def _on_modified(self, _caller: Any, _event: Any) -> None:
        if self._chart_node() not in [node for node, _tag in self._observed]:
            self._observe()
        self.update()

    def _picture(self, node: Any) -> QtGui.QImage:
        if self._context is None:
            self._context = vtk.vtkContextView()
            self._context.GetRenderWindow().SetOffScreenRendering(1)
            self._context.GetRenderWindow().SetMultiSamples(4)
        context = self._context
        context.GetRenderWindow().SetSize(self.width(), self.height())
        context.GetScene().ClearItems()
        context.GetScene().AddItem(chart_of(node))
        context.GetRenderWindow().Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(context.GetRenderWindow())
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _depth = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()
        return QtGui.QImage(pixels.data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888).copy()


def chart_of(node: Any) -> Any:
    """A vtkChartXY that looks as a vtkMRMLPlotChartNode says."""
    chart = vtk.vtkChartXY()
    chart.GetBackgroundBrush().SetColor(255, 253, 246, 255)
    chart.SetTitle(node.GetTitle() or "" if node.GetTitleVisibility() else "")
    chart.SetShowLegend(node.GetLegendVisibility())
    for number in range(node.GetNumberOfPlotSeriesNodes()):
        plot = plot_of(node.GetNthPlotSeriesNode(number))
        if plot is not None:
            chart.AddPlot(plot)
    for place, title, is_auto, limits in (
        (vtk.vtkAxis.BOTTOM, node.GetXAxisTitle(), node.GetXAxisRangeAuto(), node.GetXAxisRange()),
        (vtk.vtkAxis.LEFT, node.GetYAxisTitle(), node.GetYAxisRangeAuto(), node.GetYAxisRange()),
    ):
        axis = chart.GetAxis(place)
        axis.SetTitle(title or "")
        axis.SetGridVisible(node.GetGridVisibility())
        axis.GetTitleProperties().SetFontSize(node.GetAxisTitleFontSize())
        axis.GetTitleProperties().SetBold(False)
        axis.GetLabelProperties().SetFontSize(node.GetAxisLabelFontSize())
        if not is_auto:
            axis.SetBehavior(vtk.vtkAxis.FIXED)
            axis.SetUnscaledRange(*limits)
    return chart


def plot_of(series: Any) -> Any:
    """None as long as its columns are not there."""
    node = series.GetTableNode()
    table = node.GetTable() if node is not None else None
    names = (series.GetXColumnName(), series.GetYColumnName())
    if table is None or any(table.GetColumnByName(name) is None for name in names):
        return None
    if series.GetPlotType() != slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter:
        raise NotImplementedError("The stand-in draws series with an X column as lines only.")
    plot = vtk.vtkPlotLine()
    plot.SetInputData(table, *names)
    plot.SetColorF(*series.GetColor())
    plot.SetWidth(series.GetLineWidth())
    plot.GetPen().SetLineType(_LINE_STYLES[series.GetLineStyleAsString(series.GetLineStyle())])
    plot.SetMarkerStyle(_MARKERS[series.GetMarkerStyleAsString(series.GetMarkerStyle())])
    plot.SetMarkerSize(series.GetMarkerSize())
    plot.SetLabel(series.GetName())
    return plot
