#!/usr/bin/env bash
# Parity on the sample and on both real sets: a backtest of each, then its test period walked again pass by pass, each pass
# knowing only what was known at its decision; the ledger of the passes against the decisions in the run folder.
#   bash benchmarks/parity.sh ../shared/data > benchmarks/results/parity.txt
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"the folder of real data sets, such as ../shared/data"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

walk() { # run file, options of its files
  local run=strategies/$1.toml folder=$work/$1
  shift
  finsignal backtest "$run" "$@" --out "$folder" --json >/dev/null 2>&1
  local period
  period=$(python3 -c 'import json, sys; p = json.load(open(sys.argv[1]))["period"]; print(p["start"], p["end"])' "$folder/summary.json")
  # shellcheck disable=SC2086  # two words
  finsignal run "$run" "$@" --replay $period --folder "$folder" 2>/dev/null
}

echo "# bash benchmarks/parity.sh ../shared/data"
walk news_sentiment
walk apple_hourly --news "$data/apple_hourly/massive_news_basic.csv" --prices "AAPL=$data/apple_hourly/AAPL_1h_ohlcv.csv"
walk crypto_hourly --news "$data/crypto_hourly/cryptonews.csv" \
  --prices "BTCUSDT=$data/crypto_hourly/BTCUSDT_60_full.csv" --prices "ETHUSDT=$data/crypto_hourly/ETHUSDT_60_full.csv"
