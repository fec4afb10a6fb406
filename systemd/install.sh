#!/usr/bin/env bash
# Installs edged on this box: user, /opt/edged/venv, units, udev rules, a config to edit. Run again to upgrade.
#   sudo systemd/install.sh [--no-start] [--venv DIR] [--bridges]
#     --no-start  enable the service, start it yourself
#     --venv DIR  offline: use an environment that has edged in it already; /opt/edged/venv becomes a link to it
#     --bridges   also the packages of the bridges to other protocols; enable their units yourself
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
start=yes
prepared=
extra=
while [ $# -gt 0 ]; do
  case $1 in
    --no-start) start=no ;;
    --bridges) extra=bridges ;;
    --venv) prepared=${2:?install.sh: --venv needs a directory}; shift ;;
    *) echo "install.sh: unknown argument $1; known: --no-start, --venv DIR, --bridges" >&2; exit 2 ;;
  esac
  shift
done

if [ "$(id -u)" != 0 ]; then
  echo "install.sh: must run as root: sudo $0" >&2
  exit 2
fi
command -v systemctl >/dev/null || { echo "install.sh: this box has no systemd; run 'edged run --config F' from your own supervisor" >&2; exit 2; }

install -d -m 0755 /opt/edged
install -m 0644 "$here/README.md" /opt/edged/README.md
if [ -z "$prepared" ]; then
  bash "$here/.ci/setup" /opt/edged/venv --product $extra
else
  prepared=$(realpath -- "$prepared")
  [ -x "$prepared/bin/edged" ] || { echo "install.sh: $prepared has no bin/edged: install edged into that environment first" >&2; exit 2; }
  if [ -d /opt/edged/venv ] && [ ! -L /opt/edged/venv ] && [ "$prepared" != /opt/edged/venv ]; then
    echo "install.sh: /opt/edged/venv is an environment of its own: move it away, then run again with --venv" >&2
    exit 2
  fi
  [ "$prepared" = /opt/edged/venv ] || ln -sfnT "$prepared" /opt/edged/venv
fi
install -m 0644 "$here/systemd/sysusers.d-edged.conf" /usr/lib/sysusers.d/edged.conf
install -m 0644 "$here/systemd/tmpfiles.d-edged.conf" /usr/lib/tmpfiles.d/edged.conf
install -m 0644 "$here/systemd/60-edged.rules" /etc/udev/rules.d/60-edged.rules
install -m 0644 "$here/systemd/edged.service" /etc/systemd/system/edged.service
# Bridges: users and units are there, none is enabled.
install -m 0644 "$here/systemd/sysusers.d-edged-bridges.conf" /usr/lib/sysusers.d/edged-bridges.conf
for unit in "$here"/systemd/edged-bridge-*.service; do
  install -m 0644 "$unit" "/etc/systemd/system/$(basename "$unit")"
done
systemd-sysusers /usr/lib/sysusers.d/edged.conf /usr/lib/sysusers.d/edged-bridges.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/edged.conf
# Only edged and root may look in. Clients get theirs by 'edged keys new NAME --right verdict'.
install -d -m 0700 -o edged -g edged /var/lib/edged/keys
/opt/edged/venv/bin/edged keys server --keys /var/lib/edged/keys
if [ ! -e /etc/edged/edged.toml ]; then
  install -m 0640 -o root -g edged "$here/systemd/edged.toml" /etc/edged/edged.toml
  echo "install.sh: wrote /etc/edged/edged.toml; fill it in with 'edged devices', then 'edged check'"
fi
if [ -d /run/systemd/system ]; then
  udevadm control --reload || echo "install.sh: udev rules take effect after a reboot" >&2
  systemctl daemon-reload
  systemctl enable edged.service
  if [ "$start" = yes ] && grep -q CHANGE-ME /etc/edged/edged.toml; then
    echo "install.sh: /etc/edged/edged.toml still says CHANGE-ME" >&2
    start=no
  fi
  if [ "$start" = yes ] && /opt/edged/venv/bin/edged check --config /etc/edged/edged.toml; then
    systemctl restart edged.service
    echo "install.sh: edged runs; see 'systemctl status edged' and 'edged status'"
  else
    echo "install.sh: not started; once 'edged check --config /etc/edged/edged.toml' is clean: systemctl start edged"
  fi
fi
