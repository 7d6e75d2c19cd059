"""Data: which scan is open, from the sample, the user's disk, or folders of the machine that were chosen."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ...errors import MAESegmentError
from ...images.volume import Volume
from ...samples import SAMPLE, read_sample
from ...text import visible
from .. import slicer_scene
from ..door import folders
from ..door.confined import confined
from ..workspace import Scan
from .panel import Page, Panel

_LONGEST_TITLE = 120


class DataPanel(Panel):
    prefix = "data"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._busy = 0
        #: By the scan's node, where its files are needed as long as it is open.
        self._upload_of: dict[str, str] = {}
        app.state.update(
            {
                self.name("busy"): "",
                self.name("scans"): [],
                self.name("scan"): None,
                self.name("info"): "",
                self.name("files"): [],
                self.name("range"): [0, 1],
                self.name("window"): [0, 1],
                self.name("step"): 1,
                "upload_limit": app.config.upload_bytes,
                "upload_percent": 0,
                "is_uploading": False,
            }
        )
        self.on_change("scan", self._on_choice)
        self.on_change("window", self._on_window)
        app.server.trigger("uploaded")(self._on_uploaded)
        app.server.trigger("upload_failed")(self._on_upload_failed)
        self.workspace.add_listener(self.update)

    def build(self) -> None:
        self._build_sources()
        with html.Div(v_if=(f"{self.name('scan')}",), classes="mt-3"):
            v3.VSelect(
                v_model=(self.name("scan"),),
                items=(self.name("scans"),),
                label="Scan",
                id="scan-select",
                density="compact",
                hide_details=True,
            )
            html.Div(f"{{{{ {self.name('info')} }}}}", id="scan-info", classes="text-body-2 my-2 info-text")
            html.Div("Brightness and contrast", classes="text-caption")
            v3.VRangeSlider(
                v_model=(self.name("window"),),
                min=(f"{self.name('range')}[0]",),
                max=(f"{self.name('range')}[1]",),
                step=(self.name("step"),),
                id="window-slider",
                density="compact",
                hide_details=True,
                raw_attrs=['aria-label="Grey values shown as black and white"'],
            )
            with html.Div(classes="d-flex mt-1"):
                v3.VBtn("Automatic", click=self.guarded(self._automatic_window), size="small", variant="text")
                v3.VSpacer()
                v3.VBtn("Close scan", id="close-scan", click=self.guarded(self._close), size="small", variant="text")

    def _build_sources(self) -> None:
        busy = f"!!{self.name('busy')} || is_uploading"
        v3.VBtn(
            "Open the sample head",
            id="open-sample",
            prepend_icon="mdi-head-outline",
            click=self.guarded(self.open_sample),
            disabled=(busy,),
            block=True,
            color="primary",
            variant=("!data_scan ? 'flat' : 'tonal'",),
        )
        with html.Div(classes="d-flex ga-2 mt-2"):
            for kind, title, icon in (("files", "Files", "mdi-file-upload"), ("folder", "Folder", "mdi-folder-upload")):
                v3.VBtn(
                    title,
                    prepend_icon=icon,
                    click=f"window.maesegment.choose('upload-{kind}')",
                    disabled=(busy,),
                    variant="tonal",
                    classes="flex-grow-1",
                )
                html.Input(
                    id=f"upload-{kind}",
                    type="file",
                    style="display: none",
                    change="window.maesegment.upload($event.target, trame)",
                    raw_attrs=["multiple" if kind == "files" else "webkitdirectory"],
                )
        html.Div("NIfTI, NRRD, MetaImage, MGZ; DICOM as a folder or a zip", classes="text-caption mt-1")
        v3.VProgressLinear(v_if=("is_uploading",), model_value=("upload_percent",), height=6, classes="mt-2")
        with html.Div(v_if=(self.name("busy"),), classes="d-flex align-center mt-2"):
            v3.VProgressCircular(indeterminate=True, size=18, width=2, classes="mr-2")
            html.Span(f"{{{{ {self.name('busy')} }}}}", id="data-busy")
        with v3.VList(v_if=(f"{self.name('files')}.length",), density="compact", id="server-scans", classes="mt-2"):
            v3.VListSubheader("On this server")
            v3.VListItem(
                v_for=f"(title, number) in {self.name('files')}",
                key="number",
                title=("title",),
                click=(self.guarded(self._open_from_folder), "[number]"),
                prepend_icon="mdi-file-outline",
                disabled=(busy,),
            )

    # What happens -----------------------------------------------------------------------------------------------------

    async def look_for_files(self) -> None:
        """List the scans in the folders that were chosen."""
        scans = await asyncio.to_thread(self.app.folders.list)
        self.put(files=[scan.title for scan in scans])

    async def open_sample(self) -> None:
        """The head that comes with an installed package, with a box around each hippocampus."""
        await self._open("Opening the sample head", SAMPLE, read_sample)
        self.app.segment.offer_sample_boxes()
        self.app.go_to("segment")

    async def _open_from_folder(self, number: int) -> None:
        await self.open_listed(self.app.folders.get(int(number)))

    async def open_listed(self, scan: folders.Scan) -> None:
        """Read a scan of the server's disk."""
        name = scan.path.name
        await self._open(f"Opening {name}", _title(name), lambda: _read(scan.path, scan.root), scan.root)

    async def _open(self, text: str, title: str, read: Any, root: Path | None = None) -> Scan:
        self._busy += 1
        self.put(busy=text)
        try:
            # Read in a thread, so that the views stay alive; only what is complete gets into the scene.
            prepared = await asyncio.to_thread(lambda: slicer_scene.prepare(read()))
            scan = self.workspace.add(prepared, title, root)
            self.app.say("")
            self.session.client.start()
            return scan
        finally:
            self._busy -= 1
            self.put(busy="")

    async def _on_uploaded(self, upload: str, name: str) -> None:
        upload, name, uploads = str(upload), str(name), self.app.uploads
        is_kept = False
        try:
            root = uploads.folder(upload)
            scan = await self._open(
                f"Opening {_title(name)}", _title(name), lambda: _read(uploads.scan(upload), root), root
            )
            # Of DICOM the files stay: a DICOM SEG refers to them.
            is_kept = scan.source.source is not None
            if is_kept:
                self._upload_of[scan.node.GetID()] = upload
        except Exception as error:
            self.failed(error)
        finally:
            if not is_kept:
                await asyncio.to_thread(uploads.forget, upload)

    async def _on_upload_failed(self, upload: str, text: str) -> None:
        self.failed(MAESegmentError(f"The upload failed: {visible(str(text))[:500]}", "Try again."))
        await asyncio.to_thread(self.app.uploads.abandon, str(upload))

    async def _close(self) -> None:
        scan = self.workspace.scan
        if scan is not None:
            upload = self._upload_of.pop(scan.node.GetID(), "")
            self.workspace.remove(scan)
            if upload:
                await asyncio.to_thread(self.app.uploads.forget, upload)

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
        scans = [{"title": one.node.GetName(), "value": one.node.GetID()} for one in self.workspace.scans]
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


def _read(path: Path, root: Path) -> Volume:
    """The scan at `path`, from files below `root` only; temporary ones are the session's own."""
    from ...images.reading import read_volume

    with confined(path.name, root, Path(tempfile.gettempdir())):
        return read_volume(path)


def _title(name: str) -> str:
    """What a scan is called after its file."""
    name = visible(name)[-_LONGEST_TITLE:]
    for ending in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".zip", ".dcm"):
        if name.lower().endswith(ending):
            return name[: -len(ending)] or name
    return name


def _info(volume: Volume, notes: tuple[str, ...]) -> str:
    size = " \u00d7 ".join(map(str, volume.grid.shape))
    spacing = " \u00d7 ".join(f"{mm:.3g}" for mm in volume.grid.spacing)
    return "\n".join([f"{size} voxels of {spacing} mm, {volume.grid.axis_codes}", *notes])
