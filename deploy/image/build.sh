#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# build.sh [--from-host PROGRAM] [--tag NAME] [--out FOLDER] - the container image, without a Docker daemon: FOLDER/penfold.tar (an OCI
# archive) and FOLDER/rootfs (what is in it).  As root, or as a user with sub-ids (buildah unshare deploy/image/build.sh).
#
#   stage 1  a Debian 12 with compiler and headers (mmdebstrap; kept as FOLDER/builder-*.tar), in which this tree is built
#   stage 2  from nothing: the program and the libraries it is linked with (rootfs.sh)
#
# --from-host takes a program built on this Debian 12 instead of stage 1: seconds instead of minutes, the same result.
# Needs: buildah, and mmdebstrap for stage 1.  PENFOLD_DEBIAN_MIRROR names another mirror than deb.debian.org.
# The same commit and the same packages give the same image: times are the commit's.
set -euo pipefail
cd "$(dirname "$0")/../.."
PROGRAM=
TAG=penfold
OUT=build/image
while [ $# -gt 0 ]; do
	case $1 in
	--from-host) PROGRAM=$2 ;;
	--tag) TAG=$2 ;;
	--out) OUT=$2 ;;
	*) echo "usage: build.sh [--from-host PROGRAM] [--tag NAME] [--out FOLDER]" >&2; exit 2 ;;
	esac
	shift 2
done
for tool in buildah $([ -n "$PROGRAM" ] || echo mmdebstrap); do
	command -v "$tool" >/dev/null || { echo "$tool is needed: apt-get install $tool" >&2; exit 1; }
done
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)

# A store of our own, without an overlay (which is not to be had everywhere), and chroot instead of a runtime: nothing of the machine's is touched.
B() { buildah --root "$OUT/store" --runroot "$OUT/run" --storage-driver vfs "$@"; }
containers=()
clean_up() {
	for c in "${containers[@]}"; do B rm "$c" >/dev/null 2>&1 || :; done
	B rmi --all --force >/dev/null 2>&1 || :
	rm -rf "$OUT/store" "$OUT/run"
}
trap clean_up EXIT
rm -rf "$OUT/rootfs"

if [ -n "$PROGRAM" ]; then
	deploy/image/rootfs.sh "$PROGRAM" "$OUT/rootfs"
else
	packages=$(make -s print-deps)
	mirror=${PENFOLD_DEBIAN_MIRROR:-http://deb.debian.org}
	builder=$OUT/builder-$(echo "$mirror $packages" | sha256sum | cut -c1-12).tar
	if [ ! -e "$builder" ]; then
		printf 'deb %s/debian bookworm main\ndeb %s/debian bookworm-updates main\ndeb %s/debian-security bookworm-security main\n' \
			"$mirror" "$mirror" "$mirror" |
			mmdebstrap --quiet --variant=apt --include="$packages ca-certificates" bookworm "$OUT/part.tar" -
		mv "$OUT/part.tar" "$builder"
	fi
	c=$(B from scratch)
	containers+=("$c")
	B add --quiet "$c" "$builder" / >/dev/null
	# What is committed, and what is not yet: not what is built.
	git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read --files-from=- -cf "$OUT/source.tar"
	B add --quiet "$c" "$OUT/source.tar" /src >/dev/null
	B run --isolation chroot --workingdir /src --env SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$c" -- \
		make -j"$(nproc)" BUILD=/build all
	B run --isolation chroot --workingdir /src --env SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$c" -- \
		deploy/image/rootfs.sh /build/penfold /rootfs
	mount=$(B mount "$c")
	cp -a "$mount/rootfs" "$OUT/rootfs"
	B umount "$c" >/dev/null
	rm -f "$OUT/source.tar"
fi

c=$(B from scratch)
containers+=("$c")
tar --sort=name --numeric-owner -C "$OUT/rootfs" -cf "$OUT/rootfs.tar" . # a folder would lose its owners
B add --quiet "$c" "$OUT/rootfs.tar" / >/dev/null
rm -f "$OUT/rootfs.tar"
B config --entrypoint '["/usr/bin/penfold", "--config", "/etc/penfold/penfold.yaml"]' --cmd serve --user 10001:10001 --workingdir / \
	--env PATH=/usr/bin --stop-signal SIGTERM --volume /var/lib/penfold \
	--port 1110/tcp --port 1143/tcp --port 1995/tcp --port 1993/tcp --port 1024/tcp --port 8080/tcp \
	--label org.opencontainers.image.title=Penfold --label org.opencontainers.image.licenses=Apache-2.0 \
	--label org.opencontainers.image.revision="$REVISION" "$c"
rm -f "$OUT/penfold.tar"
B commit --quiet --format oci --timestamp "$SOURCE_DATE_EPOCH" "$c" "oci-archive:$OUT/penfold.tar:$TAG" >/dev/null
echo "$OUT/penfold.tar: $(du -k "$OUT/penfold.tar" | cut -f1) KiB, unpacked $(du -sk "$OUT/rootfs" | cut -f1) KiB"
