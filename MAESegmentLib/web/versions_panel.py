"""Versions of the chosen model: which is used, the way back, and how two of them differ on the scan."""

from __future__ import annotations

import asyncio
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..app.texts.learning import dice_text
from ..app.texts.messages import volume_text
from ..app.texts.model_cards import accuracy_of, name_of
from ..bundle import Bundle, export_bundle
from ..bundle.versions import family_of, parent_of
from ..errors import BundleError, Cancelled, NodeError
from .panel import Page, Panel


class VersionsPanel(Panel):
    prefix = "versions"

    def __init__(self, app: Page) -> None:
        super().__init__(app)
        self._job: Any = None
        defaults = {
            "rows": [], "previous": "", "comparing": False, "percent": 0, "titles": [], "table": [], "line": "",
            "removing": "", "url": "", "file": "",
        }  # fmt: skip
        app.state.update({self.name(key): value for key, value in defaults.items()})
        app.state.change("segment_model")(lambda **_state: self.update())

    def build(self) -> None:
        name = self.name
        with html.Div(v_for=f"row in {name('rows')}", key="row.name", classes="d-flex align-center my-1"):
            with html.Div(classes="flex-grow-1"):
                html.Div("{{ row.title }}", classes="text-body-2 font-weight-medium")
                html.Div("{{ row.text }}", classes="text-caption")
            for icon, title, act, shown in (
                ("mdi-check", "Use", self._use, "!row.used"),
                ("mdi-compare", "Compare with the one in use:", self._compare_with_used, "!row.used"),
                ("mdi-download", "Export", self._export, "true"),
                ("mdi-delete-outline", "Delete", self._remove, "row.removable"),
            ):
                v3.VBtn(
                    v_if=(shown,),
                    icon=icon,
                    click=(self.guarded(act), "[row.name]"),
                    title=title,
                    raw_attrs=[f":aria-label=\"'{title} ' + row.title\""],
                    variant="text",
                    density="compact",
                    size="small",
                )
        v3.VBtn(
            f"Go back to {{{{ {name('previous')} }}}}",
            v_if=(name("previous"),),
            id="go-back",
            click=self.guarded(self._go_back),
            size="small",
            variant="tonal",
            prepend_icon="mdi-undo",
        )
        with html.Div(v_if=(name("url"),), classes="mt-2"):
            v3.VBtn(
                "Save the model",
                href=(name("url"),),
                raw_attrs=[f':download="{name("file")}"'],
                size="small",
                color="primary",
            )
        with html.Div(v_if=(name("comparing"),), classes="mt-2"):
            v3.VProgressLinear(model_value=(name("percent"),), height=8, rounded=True)
            v3.VBtn("Cancel", click=self.guarded(self._cancel), size="small", variant="text")
        with html.Div(v_if=(f"{name('table')}.length",), id="comparison", classes="mt-2"):
            html.Div(f"{{{{ {name('line')} }}}}", classes="text-body-2 info-text")
            with v3.VTable(density="compact", classes="result-table"):
                with html.Thead(), html.Tr():
                    html.Th("{{ title }}", v_for=f"title in {name('titles')}", key="title")
                with html.Tbody(), html.Tr(v_for=f"row in {name('table')}", key="row[0]"):
                    html.Td("{{ cell }}", v_for="(cell, number) in row", key="number")

    def update(self) -> None:
        """List the versions that belong together with the one that is chosen."""
        bundle = self.app.segment.bundle
        if bundle is None:
            self.put(rows=[], previous="")
            return
        family = family_of(bundle, self.logic.models())
        rows = []
        for one in family:
            used = one.content_hash == bundle.content_hash
            rows.append(
                {
                    "name": name_of(one),
                    "title": f"{one.name} {one.version}" + (" (in use)" if used else ""),
                    "text": accuracy_of(one),
                    "used": used,
                    "removable": not self.logic.removableReason(one),
                }
            )
        previous = parent_of(bundle, family)
        self.put(rows=rows, previous=f"{previous.name} {previous.version}" if previous is not None else "")

    def _use(self, version: str) -> None:
        """From now on, here and in every other program of this person."""
        bundle = self.logic.useVersion(self._listed(version))
        self.app.segment.use_model(name_of(bundle))
        self.app.say(f"{bundle.name} {bundle.version} is used from now on.", kind="success")
        self.update()

    def _go_back(self) -> None:
        bundle = self.app.segment.bundle
        previous = parent_of(bundle, self.logic.models())
        if previous is not None:
            self._use(name_of(previous))

    def _remove(self, version: str) -> None:
        """At the second press only: it cannot be undone."""
        if self.get("removing") != version:
            self.put(removing=version)
            self.app.say(f"Press again to delete {version.replace('@', ' ')}; that cannot be undone.", kind="warning")
            return
        bundle = self._listed(version)
        parent = parent_of(bundle, self.logic.models())
        self.logic.removeVersion(bundle)
        self.put(removing="")
        self.app.say(f"{version.replace('@', ' ')} was deleted.")
        if parent is not None and self.get_used() == version:
            self.app.segment.use_model(name_of(parent))
        self.app.segment.refresh_models()
        self.update()

    def _listed(self, version: str) -> Bundle:
        """The model listed as name@version. The page sends the name; a path, which the logic also takes, is refused."""
        found = next((one for one in self.logic.models() if name_of(one) == version), None)
        if found is None:
            raise BundleError("This version is not in the list any more.", "Load the page again.")
        return found

    def get_used(self) -> str:
        """name@version of what is chosen."""
        return str(self.app.state.segment_model or "")

    async def _export(self, version: str) -> None:
        bundle = self._listed(version)
        # Its file goes when the next one is begun.
        self.put(url="", file="")
        path = self.app.downloads.folder("model") / f"{bundle.name}-{bundle.version}.zip"
        await asyncio.to_thread(export_bundle, bundle, path)
        self.put(url=self.app.downloads.offer(path), file=path.name)

    # Comparing --------------------------------------------------------------------------------------------------------

    def _compare_with_used(self, version: str) -> None:
        self.compare(version, self.get_used())

    def compare(self, first: str, second: str) -> None:
        """Segment the scan with both (name@version) and show where they differ."""
        scan = self.workspace.scan
        if scan is None:
            raise NodeError("There is no scan to compare on.", "Open a scan first.")
        if self._job is not None:
            return
        models = [self._listed(name) for name in (first, second)]
        segment = self.app.segment
        titles = ["Label", *(f"{name.partition('@')[2]} (ml)" for name in (first, second)), "Agreement"]
        self.put(comparing=True, percent=0, table=[], titles=titles)
        try:
            self._job = self.logic.compare(
                scan.node, *models, roi=segment.region, device=segment.device, wait=False, callback=self._on_job
            )
        except Exception:
            self.put(comparing=False)
            raise

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _on_job(self, job: Any) -> None:
        if not job.is_finished:
            self.put(percent=round(100 * job.fraction))
            return
        self._job = None
        self.put(comparing=False)
        if isinstance(job.error, Cancelled):
            return
        if job.error is not None:
            self.failed(job.error)
            return
        found = job.result()
        rows = [
            [row.label, _millilitres(row.first_ml), _millilitres(row.second_ml), dice_text(row.dice)]
            for row in found.rows
        ]
        line = f"Where they differ ({volume_text(found.disagreement_ml, fine=True)} ml) is shown in red."
        self.put(table=rows, line=line)
        self.workspace.choose(found.disagreement)


def _millilitres(volume: float | None) -> str:
    return "\u2013" if volume is None else volume_text(volume, fine=True)
