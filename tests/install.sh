#!/bin/sh
# Installs the Debian packages that are missing: install.sh test | bench | venv PYTHON
# As root by apt-get, without starting or enabling their services; otherwise one line says what to install.
set -eu
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

fail() {
    echo "$*" >&2
    exit 1
}

have() {
    for file in "$@"; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

missing_for_tests() {
    have /usr/lib/dovecot/imap || echo dovecot-imapd
    have /usr/lib/postgresql/*/bin/initdb || echo postgresql
    command -v promtool >/dev/null || echo prometheus
    command -v systemd-analyze >/dev/null || echo systemd
    command -v chromium >/dev/null || echo chromium
}

missing_for_venv() {
    command -v "$1" >/dev/null || fail "$1 is not there: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$1 is $("$1" --version 2>&1); inboxd needs Python 3.11 or newer: make PYTHON=/path/to/python3"
    "$1" -c 'import ensurepip, venv' 2>/dev/null || "$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$log" 2>&1
}

install() {
    log=$(mktemp)
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        policy=
    else
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    echo "installing $*"
    apt "$@" || { apt-get update >>"$log" 2>&1 && apt "$@"; } || {
        cat "$log" >&2
        fail "apt-get could not install $* (its words are above)"
    }
    for unit in dovecot postgresql prometheus; do
        case " $* " in
        *" $unit"*) systemctl disable "$unit" >>"$log" 2>&1 || : ;;
        esac
    done
    rm -f "$log"
}

case "${1-}" in
test) missing=$(missing_for_tests) ;;
bench) missing=$(missing_for_tests && { command -v mbsync >/dev/null || echo isync; }) ;;
venv) missing=$(missing_for_venv "${2:-python3}") ;;
*) fail "usage: install.sh test | bench | venv PYTHON" ;;
esac
# shellcheck disable=SC2086 # one word a package
set -- $missing
[ $# -gt 0 ] || exit 0
command -v apt-get >/dev/null || fail "missing programs of the Debian packages $*: install them with this system's package tool"
[ "$(id -u)" = 0 ] || fail "missing Debian packages: sudo apt-get install --no-install-recommends $*"
install "$@"
