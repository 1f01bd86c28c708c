#!/usr/bin/env bash
# The real sets judged whole, as the README tells them: does the run look ahead, and is its signal real.
# Seconds are those of the whole command: start, reading, scoring, choosing, judging and writing. Usage:
#   bash benchmarks/real_sets.sh ../shared/data > benchmarks/results/real_sets.txt
set -euo pipefail
data=${1:?usage: bash benchmarks/real_sets.sh FOLDER, the folder of real data sets}
finsignal=${FINSIGNAL:-finsignal}
out=${OUT:-runs}

judge() {
  local name=$1 start
  shift
  for verb in check evidence; do
    start=$SECONDS
    if [ "$verb" = check ]; then
      "$finsignal" check "$@" 2>/dev/null || true
    else
      "$finsignal" evidence "$@" --out "$out/$name" 2>/dev/null
    fi
    printf '\n[%s of %s: %d seconds]\n\n' "$verb" "$name" $((SECONDS - start))
  done
}

judge apple strategies/apple_hourly.toml \
  --news "$data/apple_hourly/massive_news_basic.csv" --prices "$data/apple_hourly/AAPL_1h_ohlcv.csv"
judge crypto strategies/crypto_hourly.toml --news "$data/crypto_hourly/cryptonews.csv" \
  --prices "BTCUSDT=$data/crypto_hourly/BTCUSDT_60_full.csv" \
  --prices "ETHUSDT=$data/crypto_hourly/ETHUSDT_60_full.csv"
judge stocknet strategies/stocknet_daily.toml \
  --news "$data/stocknet/tweets.parquet" --prices "$data/stocknet/yahoo_daily.parquet"
