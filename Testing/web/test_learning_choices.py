"""What is chosen on the page before a fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

from Testing.web.browser import open_sample, screenshot, show


def test_time_and_scans_without_labels_are_chosen_and_the_time_is_kept(user, app_environment):
    zone = "return [trame.state.get('time_zone'), Intl.DateTimeFormat().resolvedOptions().timeZone]"
    assert len({*user.driver.execute_script(zone)}) == 1, "a training ends by the browser's clock"
    open_sample(user)
    show(user, "improve")
    user.choose("time-select", "Quick (2 min)")
    user.choose("more-select", "The open scans")
    user.until(lambda: "MNI152" in user.text("more-note"), "which scans, and what for")
    assert "its own confident predictions" in user.text("more-note")
    user.press("measured")
    user.until(lambda: "Left atrium (MR)" in user.panel(), "what was measured")
    screenshot(user, "app-learning-choices")
    kept = Path(app_environment["XDG_DATA_HOME"]).glob("maesegment/choices/*.json")  # one a browser, of other tests too
    assert "quick" in [json.loads(file.read_text()).get("FineTuneTime") for file in kept]
    assert user.problems() == []
