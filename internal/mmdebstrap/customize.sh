# Runs at the end of a build, on the host, with the root file system as $1.
set -eu
root=$1
units=$root/etc/systemd/system

# What was the host's or the build's own, passwords of mirrors too.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/apt/apt.conf.d/99mmdebstrap"
sed -i -e 's/^deb \[[^]]*\] /deb /' -e 's#://[^/ ]*@#://#' "$root/etc/apt/sources.list"

printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
echo LANG=C.UTF-8 >"$root/etc/default/locale"

if [ -d "$units" ]; then
	# Nobody is there to answer firstboot's questions; the others work on disks and
	# archives, at times of their own choosing, for machines that live for months.
	for unit in systemd-firstboot.service apt-daily.timer apt-daily-upgrade.timer \
		e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
		rm -f "$units"/*.wants/"$unit"
		ln -sf /dev/null "$units/$unit"
	done

	# Whoever reaches the console owns the VM.
	mkdir -p "$units/serial-getty@ttyS0.service.d"
	cat >"$units/serial-getty@ttyS0.service.d/autologin.conf" <<-'END'
		[Service]
		ExecStart=
		ExecStart=-/sbin/agetty -o '-p -f -- \\u' --keep-baud 115200,57600,38400,9600 --autologin root - $TERM
	END

	# The caches that systemd makes anew after an update of /usr are fresh
	# (systemd.unit(5), ConditionNeedsUpdate): the first boot need not wait for them.
	touch "$root/etc/.updated" "$root/var/.updated"
fi
