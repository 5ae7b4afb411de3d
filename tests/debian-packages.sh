#!/bin/sh
# Installs the Debian packages listed in the files given (one name a line) that are missing here.
set -eu
missing=""
for package in $(grep -hv '^#' "$@"); do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "these Debian packages are needed:$missing (apt-get install$missing)" >&2; exit 1; }
  as_root="sudo"
fi
echo "installing Debian packages:$missing"
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
# shellcheck disable=SC2086  # a list of package names
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
