#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# rootfs.sh PROGRAM FOLDER - makes FOLDER the root of the image: the program, the libraries it is linked with, and the few files that those
# read; no shell, no package manager, nothing to break out with. Runs on Debian 12, in the builder stage or on the machine itself.
#
# For each Debian package that something was taken from, its entry stays in /var/lib/dpkg/status.d (where scanners look for images without
# dpkg) and its copyright in /usr/share/doc.
set -euo pipefail
PROGRAM=$1
ROOT=$2
UID_GID=10001:10001 # no user of a host: shows in the node's ps, and memory locks are counted by it

mkdir -p "$ROOT"/{etc/penfold,etc/ssl/certs,usr/bin,usr/lib,usr/lib64,var/lib/penfold,var/lib/dpkg/status.d,tmp,run,proc,sys,dev}
for link in lib lib64 bin; do ln -sfn "usr/$link" "$ROOT/$link"; done

install -m 0755 "$PROGRAM" "$ROOT/usr/bin/penfold"
strip --strip-unneeded "$ROOT/usr/bin/penfold"

# /lib is /usr/lib on Debian 12, whichever of the two ldd says.
usr() { case $1 in /lib* | /bin*) echo "/usr$1" ;; *) echo "$1" ;; esac; }
files=() # whose packages are to be recorded
take() { # FILE: with its path; links are followed, and made again
	local from to
	from=$(usr "$1")
	to=$(usr "$(readlink -f "$1")")
	mkdir -p "$ROOT${from%/*}" "$ROOT${to%/*}"
	cp -p "$to" "$ROOT$to"
	[ "$from" = "$to" ] || ln -sfn "$(realpath -m --relative-to="${from%/*}" "$to")" "$ROOT$from"
	files+=("$to")
}
missing=$(ldd "$PROGRAM" | grep 'not found' || :)
[ -z "$missing" ] || { echo "rootfs.sh: $missing" >&2; exit 1; }
for library in $(ldd "$PROGRAM" | grep -o '/[^ ]*'); do take "$library"; done

# iconv's tables: IMAP SEARCH takes any charset that they know.
gconv=$(dirname "$(usr "$(ldd "$PROGRAM" | grep -o '/[^ ]*libc\.so\.6')")")/gconv
mkdir -p "$ROOT$gconv"
cp -p "$gconv"/* "$ROOT$gconv/" 2>/dev/null || :
[ -e "$ROOT$gconv/gconv-modules" ] || { echo "rootfs.sh: no tables in $gconv" >&2; exit 1; }
files+=("$gconv/gconv-modules")

# Who signs Redis's certificate, unless redis.tls_ca says.
cp -p /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/"

printf 'root:x:0:0:root:/:/nonexistent\npenfold:x:%s:Penfold:/var/lib/penfold:/nonexistent\n' "$UID_GID" >"$ROOT/etc/passwd"
printf 'root:x:0:\npenfold:x:%s:\n' "${UID_GID#*:}" >"$ROOT/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$ROOT/etc/nsswitch.conf"
printf 'PRETTY_NAME="Penfold on Debian 12 libraries"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n' >"$ROOT/etc/os-release"
install -m 0644 "$(dirname "$0")/penfold.yaml" "$ROOT/etc/penfold/penfold.yaml"

# dpkg knows a file by one of its two names.
packages=$(dpkg -S "${files[@]}" "${files[@]#/usr}" 2>/dev/null | sed 's/[:,].*//' | sort -u || :)
[ "$(echo "$packages" | wc -l)" -gt 5 ] || { echo "rootfs.sh: dpkg does not know where the libraries come from" >&2; exit 1; }
for package in $packages ca-certificates; do
	dpkg-query -s "$package" >"$ROOT/var/lib/dpkg/status.d/$package"
	mkdir -p "$ROOT/usr/share/doc/$package"
	cp -p "$(readlink -f "/usr/share/doc/$package/copyright")" "$ROOT/usr/share/doc/$package/copyright" || echo "rootfs.sh: $package has no copyright" >&2
done
mkdir -p "$ROOT/usr/share/doc/penfold"
install -m 0644 "$(dirname "$0")/../../LICENSE" "$ROOT/usr/share/doc/penfold/copyright"

chmod 1777 "$ROOT/tmp"
chmod 0700 "$ROOT/var/lib/penfold"
chown "$UID_GID" "$ROOT/var/lib/penfold"
find "$ROOT" -newermt "@${SOURCE_DATE_EPOCH:-0}" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
