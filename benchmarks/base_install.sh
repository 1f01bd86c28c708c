#!/usr/bin/env bash
# Megabytes of a base install from pinned versions, without pip itself. Usage, from the repository:
#   bash benchmarks/base_install.sh > benchmarks/results/base_install.txt
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt . 2>/dev/null
"$folder/bin/python" -m pip uninstall --quiet --yes setuptools pip
packages=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
echo "base install, MB: $(du -sm "$packages" | cut -f1)"
echo "the largest:"
du -sm "$packages"/* | sort -rn | head -6 | awk '{n = split($2, part, "/"); print "  " $1, part[n]}'
