# Runs last, on the host, with the root file system as $1: writes down what it was made of,
# into the image and, for the one who builds it, into $BANGER_RECORD.
set -eu
root=$1
lists=$root/var/lib/apt/lists
mkdir -p "$root/usr/share/banger"
{
	echo '# What this image was made of. Fields are apart by tabs.'
	echo '# index: a suite, and the date of its signed list; package: name, version, architecture, suite.'
	for list in "$lists"/*_InRelease; do
		awk '/^Codename: / { name = substr($0, 11) } /^Date: / { date = substr($0, 7) } /^(SHA256|MD5Sum):/ { exit }
			END { printf "index\t%s\t%s\n", name, date }' "$list"
	done
	dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Package}\t${Version}\t${Architecture}\n' |
		awk -F '\t' '
			FNR == 1 { suite = FILENAME; sub(/.*_dists_/, "", suite); sub(/_[^_]*_binary-[^_]*_Packages$/, "", suite) }
			FILENAME == "-" { order[++n] = $0; have[$1 "\t" $2] = 1; next }
			/^Package: / { name = substr($0, 10) }
			/^Version: / { key = name "\t" substr($0, 10); if (key in have && !(key in from)) from[key] = suite }
			END { for (i = 1; i <= n; i++) { split(order[i], f, "\t"); printf "package\t%s\t%s\n", order[i], from[f[1] "\t" f[2]] } }
		' - "$lists"/*_Packages
} >"$root/usr/share/banger/packages"
chmod 644 "$root/usr/share/banger/packages"
cp "$root/usr/share/banger/packages" "$BANGER_RECORD"
