#!/usr/bin/env bash
# Runs all tests; a few that failed are run once more, alone.
#
# Many tests here are real programs, sockets and clocks on a machine that does other things too. One that fails beside the others
# and passes by itself has met that machine, or is a defect that shows rarely: the run goes on, and says at its end which to look
# into. What fails twice fails the run; so do more than RETRIED_MAX at once, and a test program that ended without a verdict.
set -uo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
RETRIED_MAX=3

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$CARGO" test --workspace --locked --no-fail-fast 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
[ "$status" -ne 0 ] || exit 0

# One line for each test program that failed: how cargo is told to run it, and its failed tests.
failed=$(awk '
    /^failures:$/ { names = ""; next }
    /^    [A-Za-z0-9_:]+$/ { names = names " " $1; next }
    /^error: test failed, to rerun pass `/ {
        sub(/^[^`]*`/, ""); sub(/`.*$/, "")
        print $0 "\t" names
        names = ""
    }' "$log")
count=$(cut -s -f 2 <<<"$failed" | wc -w)
if [ -z "$failed" ] || grep -q $'\t$' <<<"$failed" || [ "$count" -gt "$RETRIED_MAX" ]; then
    exit "$status"
fi

echo
echo "$count failed; once more, alone:"
while IFS=$'\t' read -r target names; do
    # shellcheck disable=SC2086 # several words each
    "$CARGO" test --locked $target -- --exact $names </dev/null 2>&1 | tee "$log"
    [ "${PIPESTATUS[0]}" -eq 0 ] && grep -q "^test result: ok. $(wc -w <<<"$names") passed" "$log" || exit "$status"
done <<<"$failed"
echo
echo "Flaky, passed when run alone; a defect of the test or of what it tests:"
echo "$failed"
