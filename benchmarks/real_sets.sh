#!/usr/bin/env bash
# The real sets judged by the command line, as the README shows them. Usage, from the repository:
#   bash benchmarks/real_sets.sh ../shared/data > benchmarks/results/real_sets.txt
set -euo pipefail
data=${1:?usage: bash benchmarks/real_sets.sh FOLDER, the folder of real data sets}
finsignal=${FINSIGNAL:-finsignal}
"$finsignal" backtest strategies/apple_hourly.toml \
  --news "$data/apple_hourly/massive_news_basic.csv" --prices "$data/apple_hourly/AAPL_1h_ohlcv.csv" --out runs/apple
echo
"$finsignal" backtest strategies/crypto_hourly.toml --news "$data/crypto_hourly/cryptonews.csv" \
  --prices "BTCUSDT=$data/crypto_hourly/BTCUSDT_60_full.csv" \
  --prices "ETHUSDT=$data/crypto_hourly/ETHUSDT_60_full.csv" --out runs/crypto
echo
"$finsignal" backtest strategies/stocknet_daily.toml \
  --news "$data/stocknet/tweets.parquet" --prices "$data/stocknet/yahoo_daily.parquet" --out runs/stocknet
