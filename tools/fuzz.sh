#!/bin/sh
# Coverage-guided fuzzing (libFuzzer) of the wire parsers and of whole sessions, for SECONDS each; stable Rust and a C++
# compiler are all it needs. A finding fails, and is printed with the command that repeats it.
#   tools/fuzz.sh [SECONDS [TARGET...]]
# Targets that are named keep what they found for the next run, in target/fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds="${1:-5}"
[ $# -gt 0 ] && shift
targets="${*:-rtp rtcp gre keepalive eapol lqm null_deletion tunnel session login bond extension}"

host="$(rustc -vV | sed -n 's/^host: //p')"
build=target/fuzz
# What `cargo fuzz` sets, without the sanitizer (our code has no `unsafe`), which only a nightly compiler knows. With
# --target these flags do not reach build scripts.
RUSTFLAGS='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares' \
    ${CARGO:-cargo} build --quiet --release --locked --manifest-path crates/rist/fuzz/Cargo.toml --target-dir "$build" --target "$host"

binaries="$build/$host/release"
mkdir -p "$build/found"

# One target; its report appears only when it found something.
fuzz() {
    corpus="$build/corpus/$1"
    [ -n "$named" ] || rm -rf "$corpus"
    mkdir -p "$corpus" "$build/seeds/$1"
    log="$build/$1.log"
    if FUZZ_SEEDS="$build/seeds/$1" "$binaries/$1" -max_total_time="$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=512 -print_final_stats=1 \
        -artifact_prefix="$build/found/$1-" "$corpus" "$build/seeds/$1" >"$log" 2>&1; then
        runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
        cover="$(grep -o 'cov: [0-9]*' "$log" | tail -1)"
        echo "fuzz $1: ${runs:-0} inputs in $seconds s, $cover"
        [ "${runs:-0}" -gt 0 ] && return 0
        echo "fuzz $1: nothing was tried, see $log" >&2
        return 1
    fi
    tail -60 "$log"
    for found in "$build/found/$1-"*; do
        [ -f "$found" ] || continue
        echo "FUZZ FINDING in $1. To repeat it:"
        echo "  echo '$(base64 -w0 "$found")' | base64 -d >found && $binaries/$1 found"
    done
    return 1
}

named="$*"
rm -f "$build/found/"*
failed=0
pids=''
cores="$(nproc)"
running=0
for target in $targets; do
    fuzz "$target" &
    pids="$pids $!"
    running=$((running + 1))
    if [ "$running" -ge "$cores" ]; then
        for pid in $pids; do wait "$pid" || failed=1; done
        pids=''
        running=0
    fi
done
for pid in $pids; do wait "$pid" || failed=1; done
[ -n "$named" ] || rm -rf "$build/corpus"
exit "$failed"
