#!/bin/sh
# Fuzzes each target for some seconds: tests/fuzz/run.sh [SECONDS [TARGET...]]. What it needs: docs/testing.md.
# New inputs go to target/fuzz-corpus/, which may be thrown away; the stored seeds are only read.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(ls tests/fuzz/corpus)
# libFuzzer's instrumentation is behind unstable flags. No sanitizer: all unsafe code is in src/sys, which no target runs.
export RUSTC_BOOTSTRAP=1
for target; do
    mkdir -p "target/fuzz-corpus/$target"
    echo "$target:"
    cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" \
        "target/fuzz-corpus/$target" "tests/fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -print_final_stats=1 -verbosity=0
done
