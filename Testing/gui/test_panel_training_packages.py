"""What learning needs to be installed, offered in the section Improve."""

from __future__ import annotations

import pytest


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def lacking(plugin):
    """A report that nibabel is missing for training."""
    dependencies = plugin("dependencies")
    problem = dependencies.Problem("nibabel", "missing", "nibabel is missing", "nibabel>=5", 3.0, purpose="train")
    return dependencies.DependencyReport("/opt/PythonSlicer", version="3.12.1", problems=(problem,), purpose="train")


def test_packages_for_learning_are_offered_in_this_section_only(fake_logic, dependencies, panel, ui, lacking, volume):
    assert dependencies.purposes.count("train") == 1
    assert not ui.trainPackagesFrame.visible
    dependencies.training = lacking
    panel.improve.packages.check()
    assert ui.trainPackagesFrame.visible
    assert "nibabel" in ui.trainPackagesLabel.text
    assert not ui.dependencyFrame.visible
    assert not ui.addCaseButton.enabled
    assert "nibabel" in ui.addCaseButton.toolTip
    assert ui.segmentButton.enabled
    assert fake_logic is not None
    assert volume is not None


def test_nothing_is_looked_for_while_the_section_is_closed(dependencies, panel):
    panel.enter()
    assert "train" not in dependencies.purposes


def test_installing_for_learning(dependencies, panel, ui, lacking, plugin, volume):  # noqa: ARG001
    dependencies.training = lacking
    packages = panel.improve.packages
    packages.check()
    asked = []

    class Installer:
        def install(self, report, progress, done):
            asked.append((report, progress, done))

    packages.installer = Installer()
    ui.trainPackages1Button.click()
    report, progress, done = asked[0]
    assert report is lacking
    progress("Downloading nibabel")
    assert "Downloading nibabel" in ui.trainPackagesLabel.text
    assert not ui.trainPackages1Button.visible
    done(plugin("dependencies").DependencyReport("/opt/PythonSlicer", version="3.12.1", purpose="train"), None)
    assert not ui.trainPackagesFrame.visible
