#!/usr/bin/env bash
# Tests at the oldest and at the newest versions of transformers (and of what comes with it) that pyproject.toml
# allows, with warnings as errors. Makes an environment for each in .versions/; needs a package index.
#   tests/versions.sh [oldest | newest]
# PYTHON, TORCH_INDEX_URL and JOBS mean what they mean in the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(transformers huggingface-hub tokenizers safetensors)
tests=(
  tests/test_parity.py tests/test_model_loading.py tests/test_qwen_vl.py tests/test_tracker.py
  tests/test_batching.py tests/test_conversations.py tests/test_kv_cache.py tests/test_hub.py
)
runner=(pytest pytest-asyncio pytest-timeout pytest-xdist)
names=$(IFS='|'; echo "${packages[*]}")

oldest() {  # name>=1.2,<3 → name==1.2
  sed -nE "s/^ *\"($names)>=([0-9.]+).*/\1==\2/p" pyproject.toml
}

newest() {
  printf '%s\n' "${packages[@]}"
}

try() {
  local which=$1 python=".versions/$1/bin/python" pins=".versions/$1.txt"
  [ -x "$python" ] || "${PYTHON:-python3}" -m venv ".versions/$which"
  # All other packages as in every development environment.
  grep -vE "^($names)==" constraints.txt > "$pins"
  "$which" | sed -E '/==/!d' >> "$pins"
  local pip=("$python" -m pip --disable-pip-version-check install -q -c "$pins")
  "${pip[@]}" ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch
  "${pip[@]}" --upgrade --upgrade-strategy only-if-needed "${packages[@]}" "${runner[@]}" -e ".[engine]"
  echo "== $which: $("$python" -m pip freeze | tr _ - | grep -E "^($names|torch)==" | tr '\n' ' ')"
  "$python" -m pytest -q -p no:cacheprovider -n "${JOBS:-2}" --dist loadfile "${tests[@]}"
}

mkdir -p .versions
for which in ${1:-oldest newest}; do
  try "$which"
done
