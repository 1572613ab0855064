#!/bin/bash
# Every figure of a GPU in one command, without a network:
#
#     tests/benchmarks/gpu_run.sh [--budget 600] [other options of bench_gpu.py]
#
# Takes an interpreter that has the packages and a CUDA device (PYTHON=..., else that of .venv, else
# python3), and this checkout as it is: the package need not be installed. Weights are drawn on the
# device and clips are made. With WHEELS=FOLDER, packages that are missing or too old are installed
# from that folder alone into an environment that lasts as long as the call; on a machine with a
# network `pip download -d FOLDER trl peft av ...` fills it.
#
# Lines of JSON go to $OUT/bench_gpu.jsonl (default: gpu-results/) and to the screen as they come;
# the tables of docs/speed.md and docs/models.md go to table.md beside it.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    [ ! -x .venv/bin/python ] || python=$root/.venv/bin/python
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$python: no Python of 3.11 or newer; name one that has torch with CUDA: PYTHON=/path/to/python $0" >&2
    exit 2
fi

# What pyproject.toml asks for and is not there, one a line.
missing() {
    "$1" - <<'END'
import re, tomllib
from importlib.metadata import PackageNotFoundError, version

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
for line in sorted({*project["dependencies"], *extras["train"], *extras["eval"]}):
    name, _, least = line.partition(">=")
    if name in ("tensorboard", "openai"):  # nothing that is measured uses them
        continue
    numbers = lambda text: [int(one) for one in re.findall(r"\d+", text.partition("+")[0])][:3]
    try:
        if numbers(version(name)) < numbers(least):
            print(line)
    except PackageNotFoundError:
        print(line)
END
}

lacking=$(missing "$python")
if [ -n "$lacking" ] && [ -n "${WHEELS:-}" ]; then
    made=$(mktemp -d)
    trap 'rm -rf "$made"' EXIT
    if ! "$python" -m venv --system-site-packages "$made/venv" >"$made/said" 2>&1; then
        echo "$python makes no virtual environment: $(tail -1 "$made/said")" >&2
        exit 2
    fi
    # A virtual environment's own packages are no system's: of one made from it they are named.
    packages='import sysconfig; print(sysconfig.get_path("purelib"))'
    "$python" -c "$packages" > "$("$made/venv/bin/python" -c "$packages")/around.pth"
    # shellcheck disable=SC2086 # one word a package
    "$made/venv/bin/python" -m pip install -q --disable-pip-version-check --no-index \
        --find-links "$WHEELS" $lacking 2>"$made/said" ||
        grep -m1 ^ERROR "$made/said" >&2 || tail -1 "$made/said" >&2
    python=$made/venv/bin/python
    lacking=$(missing "$python")
fi
if [ -n "$lacking" ]; then
    echo "$python lacks $(echo $lacking); name another (PYTHON=...) or a folder of wheels (WHEELS=...)" >&2
    exit 2
fi
case " $* " in
*" --device cpu "*) ;;
*)
    if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        echo "$python: torch sees no CUDA device; --device cpu --shape tiny rehearses all of it" >&2
        exit 2
    fi
    ;;
esac

out=${OUT:-gpu-results}
mkdir -p "$out"
export TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1
"$python" tests/benchmarks/bench_gpu.py "$@" | tee "$out/bench_gpu.jsonl"
"$python" tests/benchmarks/bench_gpu.py --table "$out/bench_gpu.jsonl" > "$out/table.md"
echo "$out/bench_gpu.jsonl $out/table.md" >&2
