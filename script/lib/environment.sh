# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # root comes from the script that sources this, packages go to it
# What script/lab and script/test share: packages and Python environments on a Debian 12 machine with nothing
# installed. Sourced; expects $root, the checkout.

# Always Debian's own interpreter: a version manager's first in PATH may be any version, or broken.
system_python=/usr/bin/python3

say() { printf '%s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  %s\n' "$2" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || fail "$1 needs root" "sudo $1"
}

# install_packages NAME...: those of the Debian packages that are missing, without a question asked.
install_packages() {
  local missing=() package
  command -v apt-get >/dev/null || fail "this machine has no apt-get" "the lab runs on Debian 12"
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)" = "ii " ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  local apt=(apt-get -q -o DPkg::Lock::Timeout=300)
  # A third-party source that fails must not stop us: what we need comes from Debian.
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" update </dev/null >&2 || say "apt-get update had errors; going on"
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" </dev/null >&2 ||
    fail "apt-get could not install: ${missing[*]}" "its own words are above"
}

# has_requirements FOLDER REQUIREMENTS: whether the virtual environment was made from these requirements as they are now.
has_requirements() {
  [ -x "$root/$1/bin/python" ] &&
    [ "$(cat "$root/$1/.requirements.sha256" 2>/dev/null)" = "$(sha256sum <"$root/requirements/$2")" ]
}

# environment FOLDER REQUIREMENTS: a virtual environment with exactly the hashed requirements, made or completed.
environment() {
  local folder=$root/$1 requirements=$root/requirements/$2 stamp wanted
  stamp=$folder/.requirements.sha256
  wanted=$(sha256sum <"$requirements")
  if has_requirements "$1" "$2"; then return 0; fi
  say "preparing $1 from requirements/$2"
  if ! "$folder/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' 2>/dev/null; then
    rm -rf "$folder"
    "$system_python" -m venv "$folder" || fail "cannot make $1" "it needs the Debian package python3-venv"
  fi
  install_requirements "$folder" "$requirements" || fail "cannot install requirements/$2 into $1"
  printf '%s\n' "$wanted" >"$stamp"
}

install_requirements() {
  local python=$1/bin/python uv=$root/.venv/bin/uv
  # The machine's own authorities count, not only those a package brings along (sites with a proxy of their own).
  export PIP_CERT=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt} UV_SYSTEM_CERTS=1
  if [ ! -x "$uv" ] && [ -x "$root/.venv/bin/python" ]; then
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
      -r "$root/script/lib/uv.txt" >&2 || true
  fi
  if [ -x "$uv" ] && "$uv" pip install --quiet --python "$python" --require-hashes -r "$2" >&2; then
    return 0
  fi
  say "uv is not there or failed; pip takes its place (slower)"
  "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$2" >&2
}

# Ansible, molecule and ansible-lint find one another through PATH.
enter_environment() {
  export PATH="$root/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
  export ANSIBLE_CONFIG="$root/ansible.cfg" CONTAINERS_CONF="$root/containers.conf"
  export LC_ALL=C.UTF-8
  # A Python of somebody else's must not answer for ours.
  unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PYENV_VERSION
}

lab_packages=(
  aardvark-dns ca-certificates clang conmon conntrack debootstrap ethtool iproute2 iptables libbpf-dev linux-libc-dev make netavark
  nftables openssh-client openssl podman procps python3 python3-venv runc tar util-linux
)
test_packages=(bpftool clang clang-format ethtool git libbpf-dev libfaketime linux-libc-dev make postgresql prometheus tcpdump xdp-tools)
