#!/usr/bin/env bash
# Real client libraries through the real binary, against its own mock and against a scripted provider: openai for Python
# and for Node, and the frameworks on top; then the code that README.md and docs/clients show. Needs python3, node, npm and the package registries; nothing is installed
# outside CLIENTS_DIR.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
work="${CLIENTS_DIR:-${TMPDIR:-/tmp}/arbstr-clients}"
mkdir -p "$work"

cargo build --locked --manifest-path "$root/Cargo.toml"
arbstr="${CARGO_TARGET_DIR:-$root/target}/debug/arbstr"

if [ ! -x "$work/venv/bin/python" ]; then python3 -m venv "$work/venv"; fi
"$work/venv/bin/python" -c 'import openai' 2>/dev/null || "$work/venv/bin/pip" install -q openai
# Each framework in an environment of its own: they do not agree on a version of openai.
frameworks=(langchain-openai litellm "pydantic-ai-slim[openai]" instructor)
for package in "${frameworks[@]}"; do
  env="$work/${package%%[*}"
  if [ ! -e "$env/installed" ]; then python3 -m venv "$env" && "$env/bin/pip" install -q "$package" && touch "$env/installed"; fi
done
packages=(openai ai @ai-sdk/openai @ai-sdk/openai-compatible @langchain/openai)
for package in "${packages[@]}"; do
  if [ ! -d "$work/node_modules/$package" ]; then (cd "$work" && npm install --silent --no-audit --no-fund "${packages[@]}"); fi
done
cp "$here"/*.mjs "$work/"

house="$(mktemp -d)"
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$house"
}
trap finish EXIT

# Waits until FILE has a line with WORD, ten seconds at most, and prints what stands behind the word.
after() {
  for _ in $(seq 100); do
    if grep -q "$2" "$1" 2>/dev/null; then
      sed -n "s|.*$2\([0-9.:]*\).*|\1|p" "$1" | head -1
      return
    fi
    sleep 0.1
  done
  echo "clients: no '$2' in:" >&2
  cat "$1" >&2
  return 1
}

python3 "$here/provider.py" >"$house/provider.log" 2>&1 &
started+=($!)
provider="$(after "$house/provider.log" 'provider on http://')"

cat >"$house/arbstr.toml" <<TOML
[server]
listen = "127.0.0.1:0"
[database]
path = "$house/arbstr.db"
[retry]
max_attempts = 1
[[providers]]
name = "scripted"
url = "http://$provider/v1"
api_key = "sk-of-provider"
models = ["plain", "tools", "cut", "bad-request", "two"]
input_rate = 1000
output_rate = 2000
TOML
chmod 600 "$house/arbstr.toml"
"$arbstr" serve -c "$house/arbstr.toml" >"$house/arbstr.log" 2>&1 &
started+=($!)
scripted="$(after "$house/arbstr.log" 'listening on http://')"

mkdir "$house/mock"
(cd "$house/mock" && exec "$arbstr" serve --mock --listen 127.0.0.1:0) >"$house/mock.log" 2>&1 &
started+=($!)
mock="$(after "$house/mock.log" 'listening on http://')"

export ARBSTR_URL="http://$scripted/v1" MOCK_URL="http://$mock/v1" PROVIDER_URL="http://$provider/v1" ARBSTR_DB="$house/arbstr.db"
"$work/venv/bin/python" "$here/drive.py"
(cd "$work" && node drive.mjs && node frameworks.mjs)
for package in "${frameworks[@]}"; do "$work/${package%%[*}/bin/python" "$here/frameworks.py" "${package%%[*}"; done

# What the pages show, as a reader would type it in: page, language, who runs it.
while read -r page language runner; do
  code="$work/page.${runner##*.}"
  python3 "$here/pages.py" "$root/$page" "$language" "$mock" >"$code"
  case "$runner" in
    node.mjs) (cd "$work" && node "$code" >"$house/shown") ;;
    *) "$work/${runner%.py}/bin/python" "$code" >"$house/shown" ;;
  esac
  grep -q 'built-in mock provider' "$house/shown" || { echo "clients: $page ($language) shows no answer" >&2; exit 1; }
done <<'PAGES'
README.md python venv.py
docs/clients/openai-python.md python venv.py
docs/clients/langchain.md python langchain-openai.py
docs/clients/litellm.md python litellm.py
docs/clients/openai-node.md js node.mjs
docs/clients/langchain.md js node.mjs
docs/clients/vercel-ai-sdk.md js node.mjs
PAGES
echo "clients: all good"
