#!/usr/bin/env bash
# The model that ships beside TF-IDF on TFNS valid, with the trading figures of the demo: text, and the page into a folder.
#   bash benchmarks/evaluation.sh ../shared/data FOLDER > benchmarks/results/evaluation.txt
set -euo pipefail
data=$1 out=$2
finsignal data prepare "tfns=$data/tfns/sent_train.csv" --out "$out/prepared" --share 0.05 --seed 1 >&2
finsignal demo --out "$out/demo" >&2
finsignal evaluate default --data "tfns=$data/tfns/sent_valid.csv" --floor "$out/prepared/train.jsonl" \
  --run "$out/demo" --out "$out/page" | sed '$d' # without the path of the page
