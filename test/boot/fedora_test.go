package boot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
)

// fedoraMissing is what Debian has and Fedora does not, and what would only take time.
var fedoraMissing = []string{
	"etc/apt/", "etc/debian_version", "etc/dpkg/", "etc/hostname", "etc/machine-id", "etc/os-release", "etc/resolv.conf", "usr/lib/os-release", "usr/lib/apt/",
	"usr/lib/dpkg/", "usr/lib/git-core/", "usr/share/doc/", "usr/share/locale/", "usr/share/man/", "usr/share/perl/", "usr/share/vim/", "var/cache/", "var/lib/apt/", "var/lib/dpkg/", "var/log/",
}

// The folders of Debian's libraries and of Fedora's.
const (
	debianLib = "usr/lib/x86_64-linux-gnu"
	fedoraLib = "usr/lib64"
)

// selinuxLabel is the extended attribute that every file of a Fedora has; its value ends
// with a NUL.
func selinuxLabel(kind string) map[string]string {
	return map[string]string{"SCHILY.xattr.security.selinux": "system_u:object_r:" + kind + ":s0\x00"}
}

// likeFedora writes Debian's root file system, a tar, as a Fedora would have it: libraries
// in /usr/lib64, labels of SELinux on everything, a policy that demands it though the
// kernel has none, a list of packages of rpm's, a /root that not even root may write to,
// and a machine-id and a resolv.conf that nobody has filled.
func likeFedora(debian io.Reader, w *tar.Writer) error {
	for r := tar.NewReader(debian); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		move := func(p string) string {
			if p == debianLib || strings.HasPrefix(p, debianLib+"/") {
				return fedoraLib + strings.TrimPrefix(p, debianLib)
			}
			return p
		}
		missing := strings.HasPrefix(name, fedoraLib) // links to what will be there
		for _, m := range fedoraMissing {
			missing = missing || strings.HasPrefix(name+"/", m) || name == m
		}
		if missing {
			continue
		}
		kind := "usr_t"
		switch {
		case name == "root":
			h.Mode = 0o550
			fallthrough
		case strings.HasPrefix(name, "root/"):
			kind = "admin_home_t"
		case strings.HasPrefix(name, "etc"):
			kind = "etc_t"
		}
		label := selinuxLabel(kind)
		for key, value := range h.PAXRecords {
			if strings.HasPrefix(key, "SCHILY.xattr.") { // capabilities
				label[key] = value
			}
		}
		h.Name, h.PAXRecords, h.Format = move(name), label, tar.FormatPAX
		if h.Typeflag == tar.TypeLink {
			h.Linkname = move(path.Clean(h.Linkname))
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
	}
	f := tree{}
	f.link(debianLib, "../lib64") // where Debian's ld.so looks
	f.dir("etc/selinux", 0o755)
	f.dir("usr/lib/sysimage", 0o755)
	f.dir("usr/lib/sysimage/rpm", 0o755)
	f.dir("var/lib/rpm-state", 0o755)
	f.dir("var/cache", 0o755)
	f.dir("var/log", 0o755)
	f.link("var/lib/rpm", "../../usr/lib/sysimage/rpm")
	f.link("etc/os-release", "../usr/lib/os-release")
	f.link("etc/redhat-release", "fedora-release")
	f.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
	f.file("etc/fedora-release", 0o644, "Fedora release 41 (like)\n")
	f.file("etc/machine-id", 0o444, "uninitialized\n")
	f.file("etc/selinux/config", 0o644, "SELINUX=enforcing\nSELINUXTYPE=targeted\n")
	f.file("usr/lib/os-release", 0o644, "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=41\n")
	f.file("usr/lib/sysimage/rpm/rpmdb.sqlite", 0o644, "SQLite format 3\x00")
	f.file("etc/systemd/system/stamp.service", 0o644, `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo started >> /root/service'
ExecStop=/bin/sh -c 'echo stopped >> /root/service'
`)
	f.link("etc/systemd/system/multi-user.target.wants/stamp.service", "../stamp.service")
	for name, n := range f {
		n.header.PAXRecords, n.header.Format = selinuxLabel("etc_t"), tar.FormatPAX
		f[name] = n
	}
	return f.writeTo(w)
}

func TestLayoutOfFedora(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	export := shared.command(ctx, "image", "export", "--root", "debian-bookworm")
	var said bytes.Buffer
	export.Stderr = &said
	debian, err := export.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := export.Start(); err != nil {
		t.Fatal(err)
	}
	importTar(t, "fedora-like", func(w *tar.Writer) error {
		err := likeFedora(debian, w)
		if err == nil {
			_, err = io.Copy(io.Discard, debian) // what follows the end of the tar
		}
		return err
	})
	if err := export.Wait(); err != nil {
		t.Fatalf("image export: %v: %s", err, said.String())
	}
	lifeOf(t, "fed", "fedora-like", "systemd")
	// The labels of the image, of what was copied to the work disk, and of what the boot has
	// not written.
	out := shared.must(t, "vm", "exec", "fed", "--", "sh", "-ec", `
		. /etc/os-release; echo $ID $VERSION_ID; stat -c %a /root; readlink /etc/resolv.conf; grep -cx '[0-9a-f]*' /etc/machine-id; ls -d /lib64/libc.so.6
		python3 -c 'import os
for f in "/usr/bin/bash", "/root", "/root/.bashrc": print(os.getxattr(f, "security.selinux"))'`)
	want := "fedora 41\n550\n../run/systemd/resolve/stub-resolv.conf\n1\n/lib64/libc.so.6\n" +
		"b'system_u:object_r:usr_t:s0\\x00'\n" + strings.Repeat("b'system_u:object_r:admin_home_t:s0\\x00'\n", 2)
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	shared.must(t, "vm", "stop", "fed")
	if v := shared.show(t, "fed"); v.Reason != "stopped" {
		t.Errorf("reason %q, want an orderly stop", v.Reason)
	}
}
