# Shared by the other scripts; source it. Needs ROOT, the repository's folder.

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# install_packages NAME...: with apt-get, as root or through sudo.
install_packages() {
    command -v apt-get >/dev/null || die "no apt-get here: please install $*"
    local as=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "please install as root: apt-get install $*"
        as=(sudo)
    fi
    say "installing $*"
    "${as[@]}" apt-get update -qq
    # RUNLEVEL: packages that bring a service (nginx) must not start it.
    "${as[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# find_python: sets PYTHON to a Python 3.11 or newer that can make virtual environments.
find_python() {
    command -v python3 >/dev/null || install_packages python3 python3-venv
    PYTHON=
    local name
    for name in ${VSPROXY_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_new_enough "$name"; then PYTHON=$(command -v "$name"); break; fi
    done
    [ -n "$PYTHON" ] || die "vsproxy needs Python 3.11 or newer; VSPROXY_PYTHON may name one"
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "$("$PYTHON" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')"
    fi
}

# make_venv FOLDER: a virtual environment there, kept if it already works.
make_venv() {
    "$1/bin/python" -m pip --version >/dev/null 2>&1 && is_new_enough "$1/bin/python" && return
    "$PYTHON" -m venv --clear "$1"
}

# can_compile: whether a C compiler and the headers of PYTHON are here.
can_compile() {
    command -v "${CC:-cc}" >/dev/null && "$PYTHON" - <<'EOF'
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
EOF
}

# has_openssl_headers: whether C that speaks TLS can be compiled here.
has_openssl_headers() { "${CC:-cc}" -E -x c -include openssl/ssl.h /dev/null >/dev/null 2>&1; }

# copy_sources FOLDER: what a build reads, away from the source tree, which then stays free of what a build
# leaves behind.
copy_sources() {
    cp "$ROOT"/{pyproject.toml,setup.py,README.md,LICENSE} "$1"
    cp -R "$ROOT/vsproxy" "$1/vsproxy"
}
