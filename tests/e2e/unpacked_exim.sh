#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# unpacked_exim.sh FOLDER - Debian's Exim without installing it (it and Postfix exclude each other): its packages are unpacked in FOLDER, and
# FOLDER/exim runs it, as root, with the user that it was built for added for that one process.
set -eu
mkdir -p "$1"
cd "$1"
top=$PWD
if [ ! -x root/usr/sbin/exim4 ]; then
	apt-get -q download exim4-daemon-light libgnutls-dane0 libunbound8 >/dev/null
	for package in *.deb; do dpkg -x "$package" root; done
fi
{ cat /etc/passwd; echo 'Debian-exim:x:10025:10025::/nonexistent:/usr/sbin/nologin'; } >passwd
{ cat /etc/group; echo 'Debian-exim:x:10025:'; } >group
cat >exim <<EOF
#!/bin/sh
exec unshare -m sh -c 'mount --bind $top/passwd /etc/passwd; mount --bind $top/group /etc/group; export LD_LIBRARY_PATH=$top/root/usr/lib/\$(uname -m)-linux-gnu; exec $top/root/usr/sbin/exim4 "\$@"' exim "\$@"
EOF
chmod +x exim
version=$(./exim -bV | head -1)
echo "$version" >&2
echo "$top/exim"
