#!/usr/bin/env bash
# The dashboard in headless Chromium, against the real binary with its built-in providers. One line: scripts/dashboard-test.sh
# Needs chromium (Debian: apt-get install chromium), python3 and PyPI; says so and skips without the first two. Nothing is
# installed outside DASHBOARD_TEST_DIR. With SHOTS=FOLDER it leaves pictures of every view there.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/.." && pwd)"
work="${DASHBOARD_TEST_DIR:-${TMPDIR:-/tmp}/arbstr-dashboard-test}"

skip() {
  echo "dashboard: skipped, $1"
  exit 0
}
chromium="${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}"
[ -n "$chromium" ] || skip "there is no chromium (Debian: apt-get install chromium)"
command -v python3 >/dev/null || skip "there is no python3"

cargo build --locked --manifest-path "$root/Cargo.toml"
mkdir -p "$work"
if [ ! -x "$work/venv/bin/python" ]; then python3 -m venv "$work/venv" || skip "python3 has no venv"; fi
# Drives the browser that is there; it brings none.
"$work/venv/bin/python" -c 'import playwright' 2>/dev/null || "$work/venv/bin/pip" install -q playwright

ARBSTR="${CARGO_TARGET_DIR:-$root/target}/debug/arbstr" CHROMIUM="$chromium" exec "$work/venv/bin/python" "$here/dashboard-test.py" "$@"
