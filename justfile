# One line each; `just --list` shows them. Without just, run the lines themselves.

# What the continuous integration runs.
ci:
    .ci/run

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

# The proxy with built-in providers on http://127.0.0.1:8080.
demo:
    cargo run --release -- serve --mock

# Parser and plan benchmarks; see crates/sse/README.md and benches/README.md.
bench:
    cargo bench -p arbstr-sse --features stream
    cargo bench -p arbstr-route

# The ledger: writing, and answers over ten million rows; see benches/README.md.
bench-store *ARGS:
    cargo bench -p arbstr-store --bench store -- {{ARGS}}

# The proxy against a bare forwarder and nginx; see benches/proxy/README.md.
bench-proxy *ARGS:
    cargo bench --bench proxy -- {{ARGS}}

# What routing costs beyond an oracle, in markets drawn by seed; see benches/README.md.
bench-market *ARGS:
    cargo bench --bench market -- {{ARGS}}

# How its cost grows with streams, providers, bodies and rows; see docs/scaling.md.
scale *ARGS:
    cargo bench --bench proxy -- --scale {{ARGS}}

# Thousands of requests while all providers flap; see benches/README.md.
soak *ARGS:
    cargo bench --bench soak -- {{ARGS}}

# Real client libraries against the binary (needs python3 and node); see tests/clients/run.sh.
clients:
    tests/clients/run.sh

# The dashboard in headless Chromium (needs chromium and python3; says so when they are missing).
dashboard *ARGS:
    scripts/dashboard-test.sh {{ARGS}}

# Every fuzz target for SECONDS each (needs cargo-fuzz).
fuzz SECONDS="60":
    scripts/fuzz.sh {{SECONDS}}

# Licences, sources and who may depend on what (needs cargo-deny).
deny:
    cargo deny check
