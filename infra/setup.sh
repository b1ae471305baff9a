#!/usr/bin/env bash
# Makes .venv from the locks: with uv where it is there, else with `python -m venv` and pip.
#   TORCH=cpu|cuda|auto   which build of torch (auto: the CPU build if its index answers, else the registry's default)
#   PYTHON=...            which interpreter (3.11 to 3.13)
#   PIP_FIND_LINKS=...    a folder of wheels; handed to uv as well
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=${TORCH:-auto}
stamp=.venv/.made-from
wanted=$(cat requirements/dev.txt requirements/torch.txt pyproject.toml | cksum; echo "torch=$TORCH")
if [ -x .venv/bin/shortlist ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then exit 0; fi

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
python=${PYTHON:-}
for candidate in $python python3.11 python3.12 python3.13 python3; do
  if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$fits" 2>/dev/null; then python=$candidate; break; fi
done
[ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS=${UV_FIND_LINKS:-$PIP_FIND_LINKS}

if command -v uv >/dev/null 2>&1; then
  echo "setup: making .venv with uv (about 200 packages; minutes on a slow line)"
  uv venv -q --clear --python "${python:-3.11}" .venv
  install() { uv pip install --python .venv "$@"; }
else
  [ -n "$python" ] || { echo "setup: Python 3.11, 3.12 or 3.13 is needed; install one or set PYTHON=" >&2; exit 1; }
  echo "setup: making .venv with $python and pip (uv would be several times quicker)"
  "$python" -m venv --clear .venv || { echo "setup: on Debian: apt install python3-venv" >&2; exit 1; }
  install() { .venv/bin/python -m pip install --disable-pip-version-check "$@"; }
fi
# The lock is whole, so nothing is resolved here (and pip would trip over extras in hash mode).
install -q --no-deps --require-hashes -r requirements/dev.txt

# uv is in the lock, so that both ways can ask for torch's CPU build.
torch() { .venv/bin/uv pip install -q --python .venv -r requirements/torch.txt "$@"; }
case $TORCH in
  cpu) torch --torch-backend cpu && took="the CPU build" ;;
  cuda) torch --torch-backend auto && took="the build for this machine's CUDA" ;;
  auto)
    if UV_HTTP_TIMEOUT=15 UV_HTTP_RETRIES=0 torch --torch-backend cpu 2>/dev/null; then took="the CPU build"
    else torch && took="the registry's default build (the index of CPU builds did not answer)"; fi ;;
  *) echo "setup: TORCH is '$TORCH', expected cpu, cuda or auto" >&2; exit 1 ;;
esac
echo "setup: torch $(.venv/bin/python -c 'from importlib.metadata import version; print(version("torch"))'), $took"
install -q --no-deps -e .
printf '%s\n' "$wanted" > $stamp
