#!/usr/bin/env bash
# The real sets judged whole, as the README tells them. Seconds are those of the whole command: start, reading, scoring,
# choosing, the questions of evidence, the check, and writing. Usage, from the repository:
#   bash benchmarks/real_sets.sh ../shared/data > benchmarks/results/real_sets.txt
set -euo pipefail
data=${1:?usage: bash benchmarks/real_sets.sh FOLDER, the folder of real data sets}
finsignal=${FINSIGNAL:-finsignal}
out=${OUT:-runs}

judge() {
  local name=$1 start=$SECONDS
  shift
  "$finsignal" evidence "$@" --out "$out/$name"
  printf '\n[%s: %d seconds]\n\n' "$name" $((SECONDS - start))
}

judge apple strategies/apple_hourly.toml \
  --news "$data/apple_hourly/massive_news_basic.csv" --prices "$data/apple_hourly/AAPL_1h_ohlcv.csv"
judge crypto strategies/crypto_hourly.toml --news "$data/crypto_hourly/cryptonews.csv" \
  --prices "BTCUSDT=$data/crypto_hourly/BTCUSDT_60_full.csv" \
  --prices "ETHUSDT=$data/crypto_hourly/ETHUSDT_60_full.csv"
judge stocknet strategies/stocknet_daily.toml \
  --news "$data/stocknet/tweets.parquet" --prices "$data/stocknet/yahoo_daily.parquet"
