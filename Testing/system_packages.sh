#!/usr/bin/env bash
# Usage: system_packages.sh PYTHON PART...   with PART: views (Slicer's views), panel (Qt), browser (Chromium).
# VTK and Qt from PyPI need a few libraries of the system, and Qt a font; a bare container has neither.
# Asks PYTHON whether they load; where they do not, installs them (root on Debian or Ubuntu) or says what to run.
set -euo pipefail
python="$1"
shift

probe_views() { "$python" -c 'import slicer, trame_slicer.core'; }
probe_panel() {
  QT_QPA_PLATFORM=offscreen "$python" -c '
import sys
from PySide6 import QtGui, QtUiTools, QtWidgets
application = QtWidgets.QApplication(["probe"])
if not QtGui.QFontDatabase.families():
    sys.exit("Qt finds no font")'
}
probe_browser() {
  if ! command -v chromedriver || ! { command -v chromium || command -v chromium-browser; }; then
    echo "there is no Chromium with its driver"
    return 1
  fi
}
packages_views=(libegl1 libgl1 libx11-6 libglib2.0-0)
packages_panel=(libegl1 libgl1 libxkbcommon0 libdbus-1-3 libglib2.0-0 libfontconfig1 fontconfig fonts-dejavu-core)
packages_browser=(chromium chromium-driver)

# The last line says what is wrong.
probe() { { "probe_$1" 2>&1 || return 1; } | tail -n 1; }

wanted=()
reason=""
for part in "$@"; do
  if ! said="$(probe "$part")"; then
    reason="$said"
    declare -n packages="packages_$part"
    wanted+=("${packages[@]}")
  fi
done
if [ "${#wanted[@]}" = 0 ]; then exit 0; fi

if [ "$(uname -s)" != Linux ] || ! command -v apt-get >/dev/null; then
  echo "Something of the system is missing: $reason" >&2
  echo "Needed are (as Debian calls them): ${wanted[*]}" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "Something of the system is missing: $reason" >&2
  echo "Run: sudo apt-get install ${wanted[*]}" >&2
  exit 1
fi
echo "Installing ${wanted[*]} ($reason)"
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${wanted[@]}"
for part in "$@"; do
  if ! reason="$(probe "$part")"; then
    echo "Still not to be had ($part): $reason" >&2
    exit 1
  fi
done
