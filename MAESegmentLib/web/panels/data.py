"""Data: which scan is open, from the sample, the user's disk, or folders of the machine that were chosen."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ... import mrml
from ...app.presenters.elements import Option, Question
from ...app.presenters.presenter import plain
from ...cases.case import case_id
from ...errors import MAESegmentError, VolumeReadError
from ...images.volume import Volume
from ...samples import SAMPLE, read_sample
from ...text import visible
from ...translation import tr as _
from .. import slicer_scene
from ..door import folders
from ..door.confined import confined
from ..unsaved import Kept
from ..view_decoration import SIDES
from ..workspace import Scan
from .open_segmentation import OpenSegmentation
from .panel import COMPACT, Page, Panel, bar, busy, options, shown
from .segment import SegmentPanel

if TYPE_CHECKING:
    from ...images.formats.dicom.series import SeriesInfo

_LONGEST_TITLE = 120


class DataPanel(Panel):
    prefix = "data"

    def __init__(self, app: Page, segment: SegmentPanel) -> None:
        super().__init__(app)
        self._segment, self._opening = segment, OpenSegmentation(app)
        #: By the scan's node, where its files are needed as long as it is open.
        self._upload_of: dict[str, str] = {}
        #: The scan that the user was asked about before it is closed, the one that was looked up, and what was found.
        self._closing: Scan | None = None
        self._looked: Scan | None = None
        self._kept: list[Kept] = []
        #: The series that the user was asked about, what opens one, and the upload that they are of.
        self._choosing: tuple[Sequence[SeriesInfo], Callable[[SeriesInfo], Awaitable[None]], str] | None = None
        self.put(closing=None, restoring=None, choosing=None)
        self.put(busy="", scans=[], scan=None, info="", files=[], range=[0, 1], window=[0, 1], step=1)
        app.state.update({"upload_limit": app.config.upload_bytes, "upload_percent": 0, "is_uploading": False})
        self.on_change("scan", self._on_choice)
        self.on_change("window", self._on_window)
        app.server.trigger("uploaded")(self._on_uploaded)
        app.server.trigger("upload_failed")(self._on_upload_failed)
        self.workspace.add_listener(self.update)

    def build(self) -> None:
        self._build_sources()
        low_high = self.name("range")
        with html.Div(v_if=(self.name("scan"),), classes="mt-3"):
            self.select("scan", "scans", label=_("Scan"), id="scan-select")
            html.Div(shown(self.name("info")), id="scan-info", classes="text-body-2 my-2 info-text")
            self._opening.build()
            html.Div(_("Brightness and contrast"), classes="text-caption mt-2")
            v3.VRangeSlider(
                v_model=(self.name("window"),),
                min=(f"{low_high}[0]",),
                max=(f"{low_high}[1]",),
                step=(self.name("step"),),
                id="window-slider",
                raw_attrs=[f'aria-label="{_("Grey values shown as black and white")}"'],
                **COMPACT,
            )
            with html.Div(classes="d-flex mt-1"):
                self.button(_("Automatic"), self._automatic_window, variant="text")
                v3.VSpacer()
                self.button(_("Close scan"), self._close, id="close-scan", variant="text")

    def build_questions(self) -> None:
        """What is asked whichever section is seen."""
        self.question(self.name("closing"), self._on_closing, "closing")
        self.question(self.name("restoring"), self._on_restoring, "restoring")
        self.question(self.name("choosing"), self._on_series, "choosing")

    def _build_sources(self) -> None:
        is_busy = (f"!!{self.name('busy')} || is_uploading",)
        self.main_button(
            _("Open the sample head"),
            self.open_sample,
            id="open-sample",
            prepend_icon="mdi-head-outline",
            disabled=is_busy,
            block=True,
            variant=("!data_scan ? 'flat' : 'tonal'",),
        )
        with html.Div(classes="d-flex ga-2 mt-2"):
            for kind, title, extra in (("files", _("Files"), "multiple"), ("folder", _("Folder"), "webkitdirectory")):
                v3.VBtn(
                    title,
                    prepend_icon=f"mdi-{kind.removesuffix('s')}-upload",
                    click=f"window.maesegment.choose('upload-{kind}')",
                    disabled=is_busy,
                    variant="tonal",
                    classes="flex-grow-1",
                )
                html.Input(
                    id=f"upload-{kind}",
                    type="file",
                    style="display: none",
                    change="window.maesegment.upload($event.target, trame)",
                    raw_attrs=[extra],
                )
        html.Div(_("NIfTI, NRRD, MetaImage, MGZ; DICOM as a folder or a zip"), classes="text-caption mt-1")
        bar("upload_percent", v_if=("is_uploading",), height=6, classes="mt-2")
        busy(self.name("busy"), id="data-busy")
        with v3.VList(v_if=(f"{self.name('files')}.length",), density="compact", id="server-scans", classes="mt-2"):
            v3.VListSubheader(_("On this server"))
            v3.VListItem(
                v_for=f"(title, number) in {self.name('files')}",
                key="number",
                title=("title",),
                click=(self.guarded(self._open_from_folder), "[number]"),
                prepend_icon="mdi-file-outline",
                disabled=is_busy,
            )

    # What happens -----------------------------------------------------------------------------------------------------

    async def look_for_files(self) -> None:
        """List the scans in the folders that were chosen."""
        scans = await asyncio.to_thread(self.app.folders.list)
        self.put(files=[scan.title for scan in scans])

    async def open_sample(self) -> None:
        """The head that comes with an installed package, with a box around each hippocampus."""
        await self._open(_("Opening the sample head"), SAMPLE, read_sample)
        self._segment.offer_sample_boxes()
        self.app.go_to("segment")

    async def _open_from_folder(self, number: int) -> None:
        await self.open_listed(self.app.folders.get(int(number)))

    async def open_listed(self, scan: folders.Scan, series: SeriesInfo | None = None) -> None:
        """Read a scan of the server's disk; ask which, where a folder has several."""
        name = scan.path.name
        text = _("Opening {name}").format(name=name)
        try:
            await self._open(text, _title(name, series), lambda: _read(scan.path, scan.root, series), scan.root)
        except VolumeReadError as error:
            if not await self._asked_which(error, lambda one: self.open_listed(scan, one)):
                raise

    async def _open(self, text: str, title: str, read: Callable[[], Volume], root: Path | None = None) -> Scan:
        self.put(busy=text)
        try:
            # Read in a thread, so that the views stay alive; only what is complete gets into the scene.
            prepared = await asyncio.to_thread(lambda: slicer_scene.prepare(read()))
            scan = self.workspace.add(prepared, title, root)
            self.app.say("")
            self.session.client.start()
            return scan
        finally:
            self.put(busy="")

    async def _on_uploaded(self, upload: str, name: str, series: SeriesInfo | None = None) -> None:
        upload, title, uploads = str(upload), _title(str(name), series), self.app.uploads
        is_kept = False
        try:
            root = uploads.folder(upload)
            text = _("Opening {name}").format(name=title)
            scan = await self._open(
                text, title, lambda: _read_upload(uploads.scan(upload), root, str(name), series), root
            )
            # Of DICOM the files stay: a DICOM SEG and an RTSTRUCT refer to them.
            is_kept = scan.source.source is not None
            if is_kept:
                self._upload_of[scan.node.GetID()] = upload
        except Exception as error:
            is_kept = await self._asked_which(error, lambda one: self._on_uploaded(upload, name, one), upload)
            if not is_kept:
                self.failed(error)
        finally:
            if not is_kept:
                await asyncio.to_thread(uploads.forget, upload)

    async def _on_upload_failed(self, upload: str, text: str) -> None:
        reason = visible(str(text))[:500]
        self.failed(MAESegmentError(_("The upload failed: {reason}").format(reason=reason)))
        await asyncio.to_thread(self.app.uploads.abandon, str(upload))

    async def _asked_which(
        self, error: Exception, open_one: Callable[[SeriesInfo], Awaitable[None]], upload: str = ""
    ) -> bool:
        """If it is that a folder holds several series, ask which one to open; else False."""
        series = error.details.get("series", ()) if isinstance(error, VolumeReadError) else ()
        usable = [one for one in series if not one.problem]
        if not usable:
            return False
        await self._on_series("")  # what was asked before
        self._choosing = (usable, open_one, upload)
        text = _("{series}, {n} files")
        choices = [Option(one.uid, text.format(series=_named(one), n=one.n_files)) for one in usable]
        lines = [_("There are {n} series. Which one is to be opened?").format(n=len(series))]
        lines += [f"{_named(one)}: {one.problem}" for one in series if one.problem]
        self.put(choosing=plain(Question(" ".join(lines), (*choices, Option("no-series", _("Cancel"))))))
        return True

    async def _on_series(self, uid: str) -> None:
        choosing, self._choosing = self._choosing, None
        self.put(choosing=None)
        series, open_one, upload = choosing or ((), None, "")
        chosen = next((one for one in series if one.uid == uid), None)
        if chosen is not None and open_one is not None:
            await open_one(chosen)
        elif upload:
            await asyncio.to_thread(self.app.uploads.forget, upload)

    # Closing ----------------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Ask first if that would lose what was drawn."""
        scan = self.workspace.scan
        if scan is None:
            return
        unsaved = self._unsaved_of(scan)
        if not unsaved:
            await self._remove(scan)
            return
        names = ", ".join(node.GetName() for node in unsaved)
        text = _("Edited and not exported: {segmentations}. Close {scan}?")
        choices = (
            Option("close-keep", _("Close and keep"), _("You are asked again when this scan is opened next.")),
            Option("close-discard", _("Close and discard"), _("What was drawn is lost.")),
            Option("close-cancel", _("Cancel")),
        )
        self._closing = scan
        question = Question(text.format(segmentations=names, scan=scan.node.GetName()), choices)
        self.put(closing=plain(question))

    async def _on_closing(self, key: str) -> None:
        scan, self._closing = self._closing, None
        self.put(closing=None)
        if scan in self.workspace.scans and key != "close-cancel":
            await self._remove(scan, keep=key == "close-keep")

    def _unsaved_of(self, scan: Scan) -> list[Any]:
        return [node for node in mrml.segmentations_of(scan.node) if self.app.unsaved.is_unsaved(node)]

    async def _remove(self, scan: Scan, *, keep: bool = False) -> None:
        kept = self._unsaved_of(scan) if keep else []
        for node in kept:
            await self.app.unsaved.keep(node, scan.node)
        if scan not in self.workspace.scans:  # closed meanwhile
            return
        nodes = mrml.segmentations_of(scan.node)
        upload = self._upload_of.pop(scan.node.GetID(), "")
        # First: a hand that comes to rest meanwhile would have written what is forgotten here.
        self.workspace.remove(scan)
        for node in nodes:
            if node not in kept:
                await self.app.unsaved.forget(node)
            self.app.unsaved.leave(node)
        self.app.unsaved.leave(scan.node)
        if upload:
            await asyncio.to_thread(self.app.uploads.forget, upload)

    # What was kept ----------------------------------------------------------------------------------------------------

    async def say_what_was_kept(self) -> None:
        """After a restart: of which scans there is something to restore."""
        kept = await self.app.unsaved.list()
        if kept and not self.get("restoring"):
            text = _("Segmentations that were not exported were kept: {scans}. Open the scan to restore them.")
            scans = ", ".join(f"{one.scan or _('damaged')} ({one.when})" for one in kept)
            self.app.say(f"{self.app.config.notice} {text.format(scans=scans)}".strip())

    async def _look_for_kept(self, scan: Scan) -> None:
        """Offer what was kept of the scan that is shown."""
        kept = await self.app.unsaved.found(scan.node)
        if scan is not self.workspace.scan or not kept:
            return
        self._kept = kept
        name, times = scan.node.GetName(), ", ".join(one.when for one in kept)
        text = _("Restore the unsaved segmentation of {scan} from {time}?").format(scan=name, time=times)
        if len(kept) > 1:
            text = _("Restore {n} unsaved segmentations of {scan} from {time}?").format(
                n=len(kept), scan=name, time=times
            )
        choices = (
            Option("restore-kept", _("Restore")),
            Option("discard-kept", _("Discard"), _("What was drawn is lost.")),
        )
        self.put(restoring=plain(Question(text, choices)))

    async def _on_restoring(self, key: str) -> None:
        scan, kept = self.workspace.scan, self._kept
        if key == "discard-kept":
            self.app.unsaved.discard(kept)
            self.put(restoring=None)
            return
        while kept and scan is not None:
            # One that is damaged stays in the question, to be discarded.
            self.workspace.offer(await self.app.unsaved.restore(kept[0], scan.node))
            kept.pop(0)
        self.put(restoring=None)
        self.app.say(_("Restored. Export it to have it as a file."), kind="success")

    def _on_choice(self, node_id: Any) -> None:
        scan = self.workspace.scan_of(str(node_id or ""))
        if scan is not None and scan is not self.workspace.scan:
            self.workspace.show(scan)

    def _on_window(self, window: Any) -> None:
        scan = self.workspace.scan
        if scan is not None and window and window[1] > window[0]:
            slicer_scene.set_window(scan.node, *window)

    def _automatic_window(self) -> None:
        scan = self.workspace.scan
        if scan is not None:
            self.put(window=[*slicer_scene.comfortable_window(slicer_scene.voxels_of(scan.node))])

    def update(self) -> None:
        """Show what is open now."""
        scan = self.workspace.scan
        if scan is not self._closing:
            self._closing = None
            self.put(closing=None)
        if scan is not self._looked:
            self._looked = scan
            self.put(restoring=None)
            if scan is not None:
                self.run(self._look_for_kept(scan))
        scans = options((one.node.GetID(), one.node.GetName()) for one in self.workspace.scans)
        if scan is None:
            self.put(scans=scans, scan=None, info="")
            return
        low, high = (float(value) for value in scan.node.GetImageData().GetScalarRange())
        display = scan.node.GetDisplayNode()
        window = [float(display.GetWindowLevelMin()), float(display.GetWindowLevelMax())]
        low, high = min(low, window[0]), max(high, window[1])
        self.put(
            scans=scans,
            scan=scan.node.GetID(),
            info=_info(scan.source, scan.notes),
            range=[low, high],
            step=1 if high - low > 50 else (high - low) / 200 or 1,
            window=window,
        )


def _read(path: Path, root: Path, series: SeriesInfo | None = None) -> Volume:
    """The scan at `path`, from files below `root` only; temporary ones are the session's own."""
    from ...images.reading import read_volume

    with confined(path.name, root, Path(tempfile.gettempdir())):
        return read_volume(path, series_uid=series.uid if series else None)


def _read_upload(path: Path, root: Path, name: str, series: SeriesInfo | None) -> Volume:
    """As `_read`; an error calls the upload by the user's `name`, not by that of our folder."""
    try:
        return _read(path, root, series)
    except MAESegmentError as error:
        error.message = error.message.replace(root.name, visible(name)[:_LONGEST_TITLE])
        raise


def _title(name: str, series: SeriesInfo | None = None) -> str:
    """What a scan is called after its file, and after its series if that had to be chosen."""
    name = visible(name)[-_LONGEST_TITLE:]
    title = case_id(Path(name)).removesuffix(".zip").removesuffix(".dcm") or name
    return title if series is None else f"{title} {_named(series)}"


def _named(series: SeriesInfo) -> str:
    return visible(f"{series.modality} {series.description or series.folder}".strip())[:_LONGEST_TITLE]


def _info(volume: Volume, notes: tuple[str, ...]) -> str:
    size = " \u00d7 ".join(map(str, volume.grid.shape))
    spacing = " \u00d7 ".join(f"{mm:.3g}" for mm in volume.grid.spacing)
    lines = [_("{size} voxels of {spacing} mm").format(size=size, spacing=spacing)]
    ends = {letter: words for letters, words in zip(("RL", "AP", "SI"), SIDES, strict=True) for letter in letters}
    runs = []
    for code in volume.grid.axis_codes:
        positive, negative = ends[code]
        to, start = (positive, negative) if code in "RAS" else (negative, positive)
        runs.append(_("{start} to {end}").format(start=start.lower(), end=to.lower()))
    lines.append(_("Voxels run {axes}").format(axes=", ".join(runs)))
    return "\n".join([*lines, *notes])
