#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# install-deps.sh PACKAGE... - sees to it that these Debian packages are installed.  Called by `make deps` and `make test-deps`.
#
# Does nothing when all are there.  Otherwise: as root apt-get, as a user sudo apt-get (without a password, or asking when
# there is a terminal); without either it says what is missing and how to install it, and fails.  Recommended packages are
# left out.  A service that a package would start for its own sake (redis-server, fetchmail, nginx) is stopped again and disabled
# if it came with this call: the tests start their own, on ports of their own.
set -eu

missing=
for package; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=
	[ "$status" = installed ] && continue
	# Two mail servers exclude each other: whoever has one keeps it, and the test with Postfix is skipped.
	[ "$package" = postfix ] && [ -x /usr/sbin/sendmail ] && continue
	missing="$missing $package"
done
[ -n "$missing" ] || exit 0

how="apt-get update && apt-get install --no-install-recommends$missing"
if ! command -v apt-get >/dev/null; then
	echo "Missing packages (named as in Debian 12):$missing" >&2
	echo "There is no apt-get here: install what corresponds to them, then call make all, make unit directly." >&2
	exit 1
fi
if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	as_root='sudo -n'
elif command -v sudo >/dev/null && [ -t 0 ]; then
	as_root=sudo
	echo "sudo may ask for your password, to install:$missing"
else
	echo "Missing packages:$missing" >&2
	echo "As root, run:  $how" >&2
	exit 1
fi

# Services of packages that are about to come.
services=
for package in $missing; do
	case $package in
	redis-server | haproxy | fetchmail | dovecot-core | postfix | nginx | prometheus | rspamd) services="$services $package" ;;
	esac
done

echo "Installing:$missing"
case $missing in
*postfix*) # no configuration, so that nothing starts
	echo 'postfix postfix/main_mailer_type select No configuration' | $as_root debconf-set-selections || :
	;;
esac
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }
if ! { apt update && apt install --no-install-recommends $missing; }; then
	echo "The installation failed. As root, try:  $how" >&2
	exit 1
fi

for package in $services; do
	service=${package%-core}
	if [ -d /run/systemd/system ]; then
		$as_root systemctl disable --now "$service.service" >/dev/null 2>&1 || :
	elif [ -x "/etc/init.d/$service" ]; then
		$as_root "/etc/init.d/$service" stop >/dev/null 2>&1 || :
		$as_root update-rc.d "$service" disable >/dev/null 2>&1 || :
	fi
done
