#!/usr/bin/env bash
# Usage: system_packages.sh PYTHON
# Qt and VTK from PyPI need a few libraries of the system, and Qt a font; a bare container has neither.
# Asks PYTHON whether they load; where they do not, installs them (root on Debian or Ubuntu) or says what to run.
set -euo pipefail
python="$1"

read -r -d '' PROBE <<'PYTHON' || true
import sys

try:
    import slicer
    from PySide6 import QtGui, QtUiTools, QtWidgets

    application = QtWidgets.QApplication(["probe"])
    if not QtGui.QFontDatabase.families():
        sys.exit("Qt finds no font")
except ImportError as error:
    sys.exit(str(error))
PYTHON

# The last line says what is wrong.
probe() { QT_QPA_PLATFORM=offscreen "$python" -c "$PROBE" 2>&1 | tail -n 1; }

if reason="$(probe)"; then exit 0; fi
if [ "$(uname -s)" != Linux ] || ! command -v apt-get >/dev/null; then
  echo "The tests of the Slicer module cannot run here: $reason" >&2
  echo "They need the libraries EGL, GL, X11, xkbcommon, D-Bus, glib and fontconfig, and a font (DejaVu)." >&2
  exit 1
fi

packages=(libegl1 libgl1 libx11-6 libxkbcommon0 libdbus-1-3 libglib2.0-0 libfontconfig1 fontconfig fonts-dejavu-core)
if [ "$(id -u)" != 0 ]; then
  echo "The tests of the Slicer module cannot run yet: $reason" >&2
  echo "Run: sudo apt-get install ${packages[*]}" >&2
  exit 1
fi
echo "Installing system libraries for the tests of the Slicer module ($reason)"
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
if ! reason="$(probe)"; then
  echo "The tests of the Slicer module still cannot run: $reason" >&2
  exit 1
fi
