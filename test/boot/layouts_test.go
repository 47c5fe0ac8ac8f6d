package boot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// The guests of this file have what Debian packages, in the layout of others.

// bootTimeout bounds an image's own boot, all of its services with it, under emulation.
const bootTimeout = 10 * time.Minute

// lifeOf takes a VM of image through all that an image with an init has to stand: it
// boots into init beside our agent, its files in /root stay, and it stops in order. The
// image's own service writes "started" into /root/service when it starts, and "stopped"
// after that when it stops.
func lifeOf(t *testing.T, name, image, init string) {
	t.Helper()
	shared.start(t, name, image)
	if v := shared.show(t, name); v.Init != init {
		t.Errorf("init %q, want %s", v.Init, init)
	}
	in := func(script string) string {
		t.Helper()
		return shared.must(t, "vm", "exec", name, "--", "sh", "-ec", script)
	}
	// The init's own services start while commands run already.
	started := func(times string) {
		t.Helper()
		eventually(t, bootTimeout, "the image's service has started "+times+" times", func() bool {
			return shared.banger(t, "vm", "exec", name, "--", "grep", "-c", "started", "/root/service").stdout == times+"\n"
		})
	}
	started("1")
	if out := in("cat /etc/hostname; hostname; echo kept > /root/kept"); out != name+"\n"+name+"\n" {
		t.Errorf("its names: %q", out)
	}
	shared.must(t, "vm", "stop", name)
	if v := shared.show(t, name); v.Reason != "stopped" {
		t.Errorf("reason %q, want an orderly stop", v.Reason)
	}
	if out := shared.must(t, "disk", "cat", name+":work:/service"); out != "started\nstopped\n" {
		t.Errorf("its service has written %q", out)
	}
	shared.must(t, "vm", "start", name)
	started("2")
	if out := in("cat /root/kept"); out != "kept\n" {
		t.Errorf("after the restart: %q", out)
	}
}

// importTar imports the tar that write makes.
func importTar(t *testing.T, name string, write func(w *tar.Writer) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		out := tar.NewWriter(w)
		err := errors.Join(write(out), out.Close())
		w.CloseWithError(err)
		done <- err
	}()
	shared.atEnd(t, "image", "delete", name)
	got := shared.run(ctx, r, "image", "import", "-", "--name", name)
	r.CloseWithError(errors.New("the import has ended")) // a writer that is not done ends too
	if err := <-done; err != nil || got.code != 0 {
		t.Fatalf("image import: exit %d, %s; the tar: %v", got.code, got.stderr, err)
	}
}

// tree is a root file system that is made file by file.
type tree map[string]node

type node struct {
	header tar.Header
	data   []byte
}

func (f tree) dir(name string, mode int64) {
	f[name] = node{header: tar.Header{Typeflag: tar.TypeDir, Mode: mode}}
}

func (f tree) link(name, target string) {
	f[name] = node{header: tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}}
}

func (f tree) file(name string, mode int64, data string) {
	f[name] = node{tar.Header{Typeflag: tar.TypeReg, Mode: mode}, []byte(data)}
}

// writeTo writes all, folders before what is in them.
func (f tree) writeTo(w *tar.Writer) error {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := f[name]
		n.header.Name, n.header.Size = name, int64(len(n.data))
		if err := w.WriteHeader(&n.header); err != nil {
			return err
		}
		if _, err := w.Write(n.data); err != nil {
			return err
		}
	}
	return nil
}

// unpack adds the files of Debian packages, fetched as any user may.
func (f tree) unpack(t *testing.T, packages ...string) {
	t.Helper()
	dir := t.TempDir()
	apt := func(args ...string) error {
		get := exec.CommandContext(t.Context(), testneed.Tool(t, "apt-get", "apt"), args...)
		get.Dir = dir
		if out, err := get.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %q: %w: %s", args, err, out)
		}
		return nil
	}
	err := apt(append([]string{"download", "-qq"}, packages...)...)
	if err != nil { // the host's lists may be missing or old: then lists of our own
		for _, partial := range []string{"lists/partial", "cache/archives/partial"} {
			if err := os.MkdirAll(filepath.Join(dir, partial), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		own := []string{"-qq", "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache")}
		if err = apt(append(own, "update")...); err == nil {
			err = apt(slices.Concat(own, []string{"download"}, packages)...)
		}
	}
	if err != nil {
		testneed.Missing(t, testneed.Tools, "cannot fetch packages: %v", err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		t.Fatalf("packages %q, %v", debs, err)
	}
	for _, deb := range debs {
		data, err := exec.CommandContext(t.Context(), testneed.Tool(t, "dpkg-deb", "dpkg"), "--fsys-tarfile", deb).Output()
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			name := path.Clean(h.Name)
			// Alpine's folders are not merged, whatever Debian's are.
			for _, folder := range []string{"bin/", "sbin/", "lib/rc/"} {
				if rest, ok := strings.CutPrefix(name, "usr/"+folder); ok {
					name = folder + rest
				}
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(name, "usr/share/") && name != "." {
				f[name] = node{*h, data}
			}
		}
	}
}

// openrcService is a service in OpenRC's way, as lifeOf wants it.
const openrcService = `#!/sbin/openrc-run
start() { echo started >> /root/service; }
stop() { echo stopped >> /root/service; }
`

// alpineLike is busybox and OpenRC, where Alpine has them, and musl with a program that is
// linked with it. OpenRC itself is Debian's and brings the C library that it needs.
func alpineLike(t *testing.T) tree {
	t.Helper()
	f := tree{}
	f.unpack(t, "openrc", "librc1", "libeinfo1", "libc6", "libselinux1", "libpcre2-8-0", "libpam0g", "libaudit1", "libcap-ng0", "musl")
	busybox, err := os.ReadFile(testneed.Tool(t, "busybox", "busybox-static"))
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.CommandContext(t.Context(), testneed.Tool(t, "busybox", "busybox-static"), "--list-full").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "dev", "etc", "etc/init.d", "etc/runlevels", "lib", "proc", "run", "sbin", "sys", "usr", "usr/bin", "usr/lib", "usr/sbin", "var"} {
		f.dir(dir, 0o755)
	}
	f.dir("root", 0o700)
	f.dir("tmp", 0o1777)
	f.link("usr/lib/rc", "/lib/rc")
	f.file("bin/busybox", 0o755, string(busybox))
	for name := range strings.FieldsSeq(string(applets)) {
		if _, ok := f[name]; !ok {
			f.link(name, "/bin/busybox")
		}
	}
	f.link("sbin/init", "/bin/busybox")
	source, program := filepath.Join(t.TempDir(), "greet.c"), filepath.Join(t.TempDir(), "greet")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"hello from musl\") < 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), testneed.Tool(t, "musl-gcc", "musl-tools"), "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("musl-gcc: %v: %s", err, out)
	}
	greet, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	f.file("usr/bin/greet", 0o755, string(greet))
	f.file("etc/os-release", 0o644, "NAME=\"Alpine-like\"\nID=alpine\nVERSION_ID=3.20.0\n")
	f.file("etc/alpine-release", 0o644, "3.20.0\n")
	f.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/ash\n")
	f.file("etc/group", 0o644, "root:x:0:root\n")
	f.file("etc/inittab", 0o644, `::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
::ctrlaltdel:/sbin/reboot
::shutdown:/sbin/openrc shutdown
`)
	f.file("etc/init.d/stamp", 0o755, openrcService)
	for _, level := range []string{"sysinit", "boot", "default", "shutdown"} {
		f.dir("etc/runlevels/"+level, 0o755)
	}
	f.link("etc/runlevels/default/stamp", "/etc/init.d/stamp")
	return f
}

func TestLayoutOfAlpine(t *testing.T) {
	f := alpineLike(t)
	importTar(t, "alpine-like", f.writeTo)
	lifeOf(t, "alp", "alpine-like", "busybox")
	out := shared.must(t, "vm", "exec", "alp", "--", "sh", "-c", ". /etc/os-release; echo $ID; greet; echo /lib/ld-musl-*; rc-status default | grep -c 'stamp.*started'; stat -c %a /root")
	if want := "alpine\nhello from musl\n/lib/ld-musl-x86_64.so.1\n1\n700\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	if r := shared.run(ctx, strings.NewReader("echo $0 $HOME\n"), "vm", "exec", "alp"); r.stdout != "-ash /root\n" {
		t.Errorf("its shell: exit %d, %q, %s", r.code, r.stdout, r.stderr)
	}
	shared.must(t, "vm", "stop", "alp")
	if v := shared.show(t, "alp"); v.Reason != "stopped" {
		t.Errorf("reason %q, want an orderly stop", v.Reason)
	}
}

// TestInitOfOpenRC has OpenRC's own init as PID 1, which busybox's poweroff cannot stop.
func TestInitOfOpenRC(t *testing.T) {
	f := alpineLike(t)
	f.link("sbin/init", "/sbin/openrc-init")
	importTar(t, "openrc-like", f.writeTo)
	lifeOf(t, "orc", "openrc-like", "openrc-init")
}
