#!/usr/bin/env bash
# Boots Debian bookworm in a container, installs edged with systemd/install.sh and lets systemd run it (checks.py says what is
# looked at). Needs root, mmdebstrap, systemd-nspawn (package systemd-container), and the network for the first run's packages.
#   VENV=.venv systemd/test/boot-test.sh [WORK]     WORK keeps the Debian base for the next run; default build/boot-test
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
venv=$(realpath -- "${VENV:-$here/.venv}")
work=${1:-$here/build/boot-test}
limit_s=${LIMIT_S:-600}

problem() { echo "boot-test.sh: $1" >&2; exit 2; }
[ "$(id -u)" = 0 ] || problem "must run as root"
for tool in mmdebstrap systemd-nspawn; do
  command -v "$tool" >/dev/null || problem "$tool is missing: apt-get install mmdebstrap systemd-container"
done
[ "$("$venv/bin/python" -c 'import sys; print(*sys.version_info[:2], sep=".")')" = 3.11 ] ||
  problem "$venv must be of Python 3.11, which is what bookworm has: its compiled packages are used inside"
deps=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

mkdir -p "$work"
work=$(cd "$work" && pwd)
base=$work/bookworm.tar
if [ ! -e "$base" ]; then
  mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,udev,dbus,python3,libportaudio2,procps bookworm "$base.part"
  mv "$base.part" "$base"
fi
root=$work/rootfs
rm -rf "$root" "$work/wheel" "$work/source"
mkdir "$root"
tar -xf "$base" -C "$root"

# The environment that install.sh is given: Debian's Python, edged's own wheel, and the dependencies mounted read-only.
# Built from a copy: a build/ of before in the checkout would bring back modules that are gone.
mkdir "$work/source"
cp -r "$here"/{edged,drivers,pipelines,calibration,pyproject.toml,README.md} "$work/source/"
"$venv/bin/python" -m pip wheel "$work/source" --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/wheel"
site=$root/srv/venv/lib/python3.11/site-packages
mkdir -p "$site" "$root/srv/venv/bin" "$root/srv/deps" "$root/srv/edged"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > "$root/srv/venv/pyvenv.cfg"
ln -s /usr/bin/python3.11 "$root/srv/venv/bin/python"
"$venv/bin/python" -m zipfile -e "$work"/wheel/edged-*.whl "$site"
echo /srv/deps > "$site/dependencies.pth"
printf '#!/srv/venv/bin/python\nfrom edged.cli import app\napp()\n' > "$root/srv/venv/bin/edged"
chmod 0755 "$root/srv/venv/bin/edged"
cp -r "$here/systemd" "$here/README.md" "$root/srv/edged/"

cp "$here/systemd/test/boot-test.service" "$root/etc/systemd/system/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../boot-test.service "$root/etc/systemd/system/multi-user.target.wants/boot-test.service"
started=$SECONDS
# No --register: there need be no machined on this host. --keep-unit: nor a systemd at all.
timeout --kill-after=10 "$limit_s" systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network \
  --bind-ro="$deps":/srv/deps --boot > "$work/console.log" 2>&1 || echo "boot-test.sh: the container ended with $?" >&2
result=$root/var/log/boot-test.txt
[ -s "$result" ] || { tail -n 30 "$work/console.log"; problem "no result after $((SECONDS - started)) s; the console is in $work/console.log"; }
cat "$result"
echo "boot to poweroff: $((SECONDS - started)) s"
tail -n 1 "$result" | grep -q '^all passed' || { echo "edged's journal: $root/var/log/edged-journal.txt" >&2; exit 1; }
