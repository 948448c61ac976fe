#!/bin/sh
# Makes or completes a Python environment, for make:  sh environment.sh FOLDER REQUIREMENTS
#
# It looks first and downloads afterwards: what is missing is said in one line, and nothing has been fetched.
#   Python  CPython 3.11, 3.12 or 3.13: PYTHON if it is given, else the one that FOLDER has, else the first on
#           the path that runs. An environment whose Python is gone, or is another version, is made anew.
#   torch   the version that requirements.txt pins. Where no NVIDIA GPU is seen, its CPU build, which saves
#           gigabytes of CUDA; if that is not to be had, the index's own. TORCH=cpu or TORCH=cuda decides for
#           a machine other than this one. A build that is already in FOLDER stays.
set -eu
cd "$(dirname "$0")"
folder=$1 requirements=$2
cpu_index=https://download.pytorch.org/whl/cpu

fail() { echo "$1" >&2; exit 1; }
pip() { "$folder/bin/python" -m pip "$@"; }
gb() { echo "$(($1 / 1000)).$(($1 % 1000 / 100)) GB"; }
need_disk() { [ "$disk" -ge "$1" ] || fail "$(gb "$1") of free disk are needed $2, there are $(gb "$disk")"; }

case "$(uname -s)-$(uname -m)" in
    Linux-* | Darwin-arm64) ;;
    Darwin-*) fail "torch is no longer built for Macs with Intel processors: take an Apple one, or Linux" ;;
    *) fail "Linux or macOS is needed; on Windows use WSL" ;;
esac
if [ -e "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
    fail "$folder is there and is no Python environment: rename it"
fi

# A command can be on the path and not run (pyenv's shims), so each is asked: its version, whether it has venv
# (Debian leaves a part of it out), free disk and memory in MB (a container has less than its machine).
question='
import os, shutil, sys
version = sys.version_info[:2]
if not (3, 11) <= version <= (3, 13) or sys.implementation.name != "cpython":
    sys.exit(1)
try:
    import ensurepip, venv
    complete = "yes"
except ImportError:
    complete = "no"
memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
for limit in "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes":
    try:
        memory = min(memory, int(open(limit).read()))
    except (OSError, ValueError):
        pass
print("%d.%d" % version, complete, shutil.disk_usage(".").free // 10**6, memory // 10**6)
'
there=$(pip --version 2>/dev/null) || there=
set -- python3.11 python3.12 python3.13 python3 python
[ -z "$there" ] || set -- "$folder/bin/python" "$@"
[ -z "${PYTHON:-}" ] || set -- "$PYTHON"
python= incomplete=
for candidate; do
    answer=$("$candidate" -c "$question" 2>/dev/null) || continue
    read -r version complete disk memory <<END
$answer
END
    if [ "$complete" = yes ]; then python=$candidate; break; fi
    incomplete=${incomplete:-$version}
done
if [ -z "$python" ] && [ -n "$incomplete" ]; then
    fail "Python $incomplete has no venv: install it (Debian and Ubuntu: apt install python$incomplete-venv)"
elif [ -z "$python" ]; then
    fail "No Python 3.11, 3.12 or 3.13 runs here (tried: $*): install one, or make PYTHON=/path/to/python"
fi

pin=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' requirements.txt)
case $there in *"(python $version)") keep=yes ;; *) keep=no ;; esac
if [ "$keep" = yes ] && "$folder/bin/python" -c "
from importlib.metadata import version
raise SystemExit(version('torch').partition('+')[0] != '$pin')" 2>/dev/null; then
    torch=there
elif [ -n "${TORCH:-}" ]; then
    torch=$TORCH
elif [ "$(uname -s)" = Darwin ]; then
    torch=ordinary
elif nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    torch=cuda
else
    torch=cpu
fi
all="for packages, runs and the book"
case $torch in
    there) set --; need_disk 2000 "for runs and the book" ;;
    ordinary) set --; need_disk 4000 "$all" ;;
    cpu) set -- --extra-index-url $cpu_index "torch==$pin+cpu"; need_disk 4000 "$all" ;;
    cuda) set -- "torch===$pin"; need_disk 9000 "$all" ;;   # three signs, or +cpu would do as well
    *) fail "TORCH=$torch: cpu or cuda is expected" ;;
esac
[ "$memory" -ge 3500 ] || fail "3.5 GB of memory are needed, there are $(gb "$memory")"

echo "Installing in $folder with Python $version (torch: $torch); this takes some minutes"
[ "$keep" = yes ] || "$python" -m venv --clear "$folder"
# Quiet down to errors: warnings about indexes would bury the lines that matter.
pip install -qq --upgrade pip
if [ $# -gt 0 ] && ! said=$(pip install -qq --no-deps --retries 1 --timeout 20 "$@" 2>&1); then
    # The second is what pip says of a missing build where the machine has a file of constraints.
    case $said in *"No matching distribution"* | *ResolutionImpossible*) ;; *) fail "$said" ;; esac
    if [ "$torch" = cuda ]; then
        echo "No CUDA build of torch $pin is to be had here: taking the build that is"
    else
        need_disk 9000 "$all, as no CPU build of torch $pin is to be had here"
        echo "No CPU build of torch $pin is to be had here: taking the one with CUDA, 2.7 GB to download"
    fi
fi
pip install -qq -r "$requirements"
pip install -qq --no-deps --editable .
