#!/usr/bin/env bash
# Runs every fuzz target of every crate for SECONDS each (60 by default) and keeps what it finds new in the corpus folder
# given as CORPUS, by default a temporary one: `scripts/fuzz.sh 600`.
# Needs cargo-fuzz (`cargo install cargo-fuzz`). A crash ends it with the input's path; make it a file of the committed
# corpus, which `cargo test` replays.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-60}"
corpus="${CORPUS:-$(mktemp -d)}"
# libFuzzer's coverage is wanted, the sanitizers of a nightly compiler are not: the crates forbid unsafe code.
export RUSTC_BOOTSTRAP=1
for manifest in crates/*/fuzz/Cargo.toml; do
  folder="$(dirname "$manifest")"
  crate="$(basename "$(dirname "$folder")")"
  for target in $(cargo fuzz list --fuzz-dir "$folder"); do
    new="$corpus/$crate/$target"
    mkdir -p "$new"
    echo "fuzz: $crate/$target for ${seconds}s, new inputs in $new"
    cargo fuzz run --fuzz-dir "$folder" --sanitizer none "$target" "$new" "$folder/corpus/$target" -- \
      -max_total_time="$seconds" -print_final_stats=1
  done
done
