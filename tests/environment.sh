# Sourced by tests/run, demo/run, docs/build and others, with $root set to the top of the
# checkout. It defines one function for them:
#
#     environment [EXTRA...]
#
# which makes $root/.venv if need be, installs the package there with the given
# extras of pyproject.toml, and sets $python to that environment's interpreter.
# What is in place already is left alone, so a second call takes no time.
#
# The Python to use is $PYTHON if that is set, else the first of python3,
# python3.14 ... python3.9 that is at least 3.9.

venv=$root/.venv
python=$venv/bin/python

say() {
    printf '%s\n' "amqplib: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

# Prints the version and the true path of the interpreter $1 if it will do.
describe_python() {
    "$1" -c '
import sys
if sys.version_info < (3, 9):
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], sys.version.split()[0], sys.executable)
' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        base_python=$PYTHON
        base_facts=$(describe_python "$PYTHON") ||
            fail "PYTHON=$PYTHON is not a Python of version 3.9 or newer"
        return
    fi
    for base_python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
        if base_facts=$(describe_python "$base_python"); then
            return
        fi
    done
    fail "found no Python 3.9 or newer; install one, or name it: PYTHON=/path/to/python3"
}

# Debian and Ubuntu ship Python without its venv module.
install_venv_module() {
    package=python${base_facts%% *}-venv
    if ! command -v apt-get >/dev/null; then
        fail "$base_python cannot make a virtual environment; install its venv and ensurepip modules"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        fail "$base_python has no venv module; run: sudo apt-get install $package"
    fi
    say "$base_python has no venv module: installing the package $package"
    export DEBIAN_FRONTEND=noninteractive
    log=$(
        { apt-get -q -o DPkg::Lock::Timeout=300 update &&
            apt-get -q -y -o DPkg::Lock::Timeout=300 install "$package"; } 2>&1
    ) || fail "could not install $package: $log"
}

make_venv() {
    say "making the environment .venv with Python $1"
    rm -rf "$venv"
    if ! "$base_python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_venv_module
    fi
    "$base_python" -m venv "$venv" || fail "could not make $venv"
}

# An editable install needs pip 21.3, which is newer than what some Pythons of
# version 3.9 bring along. Where pip is recent this asks nobody. The newest version
# of a package may be there as source only for an older Python, and there may be no
# compiler: an older version will do.
install_package() {
    extras=$(printf '%s,' "$@")
    say "installing the package${1:+ with: $*}"
    "$python" -m pip install --quiet --disable-pip-version-check 'pip>=21.3' &&
        "$python" -m pip install --quiet --disable-pip-version-check --prefer-binary \
            --editable "$root${1:+[${extras%,}]}" ||
        fail "could not install the package into $venv"
}

# Whether the file $1 holds the line $2.
holds() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

environment() {
    find_python
    # The path belongs to it: an environment does not survive being moved.
    base_stamp="$root $base_facts"
    if ! holds "$venv/amqplib-python" "$base_stamp" || ! [ -x "$python" ]; then
        make_venv "$(echo "$base_facts" | cut -d' ' -f2)"
        printf '%s\n' "$base_stamp" >"$venv/amqplib-python"
    fi
    wanted=$(cat "$root/pyproject.toml" "$root/setup.py" | cksum)
    for part in package "$@"; do
        if ! holds "$venv/amqplib-$part" "$wanted"; then
            install_package "$@"
            for done_part in package "$@"; do
                printf '%s\n' "$wanted" >"$venv/amqplib-$done_part"
            done
            break
        fi
    done
}
