package boot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/guestabi"
)

func TestParseConfig(t *testing.T) {
	got, err := parseConfig("banger.vm=0123 banger.hostname=dev console=ttyS0 quiet banger.link=vsock banger.poweroff=reset banger.hostname=last\n")
	if want := (config{"0123", "last", guestabi.LinkVsock, guestabi.PowerOffReset}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	got, err = parseConfig("quiet banger.vm= banger.hostname")
	if err == nil || got.PowerOff != guestabi.PowerOffACPI {
		t.Errorf("got %+v, %v; want an error, and ACPI for the power-off that follows it", got, err)
	}
	for _, key := range []string{guestabi.ArgVM, guestabi.ArgHostname, guestabi.ArgLink} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("the error %q does not name %s", err, key)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("banger.vm=1 banger.hostname=a banger.link=vsock")
	f.Add("= == banger.vm==")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parseConfig(line)
		if err == nil && (c.VM == "" || c.Hostname == "" || c.Link == "") {
			t.Errorf("parseConfig(%q) = %+v", line, c)
		}
	})
}

func TestHosts(t *testing.T) {
	for name, c := range map[string]struct{ old, want string }{
		"missing":   {"", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tdev\n"},
		"same":      {"127.0.0.1 localhost\n127.0.1.1 dev.example.com dev # mine\n", "127.0.0.1 localhost\n127.0.1.1 dev.example.com dev # mine\n"},
		"renamed":   {"# mine\n127.0.1.1 old\n10.0.0.1 db", "# mine\n127.0.1.1\tdev\n10.0.0.1 db\n"},
		"twice":     {"127.0.1.1 a\n127.0.1.1 b\n", "127.0.1.1\tdev\n"},
		"commented": {"#127.0.1.1 dev\n127.0.0.1 localhost # dev\n", "#127.0.1.1 dev\n127.0.0.1 localhost # dev\n127.0.1.1\tdev\n"},
	} {
		if got := hosts(c.old, "dev"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("127.0.1.1 a\n127.0.1.1\n")
	f.Add("\n\n\x00")
	f.Fuzz(func(t *testing.T, old string) {
		once := hosts(old, "dev")
		if again := hosts(once, "dev"); again != once {
			t.Errorf("not stable: %q becomes %q", once, again)
		}
		own := 0
		for line := range strings.Lines(once) {
			entry, _, _ := strings.Cut(line, "#")
			if fields := strings.Fields(entry); len(fields) > 0 && fields[0] == ownAddress {
				own++
				if !slices.Contains(fields, "dev") {
					t.Errorf("the line %q does not name the VM", line)
				}
			}
		}
		if own != 1 {
			t.Errorf("%d lines of our own in %q", own, once)
		}
	})
}

func TestMachineID(t *testing.T) {
	const valid = "0123456789abcdef0123456789abcdef\n"
	if got := machineID(valid, "x"); got != valid {
		t.Errorf("a valid id became %q", got)
	}
	seen := map[string]bool{}
	for _, old := range []string{"", "\n", "uninitialized\n", strings.Repeat("0", 32), strings.Repeat("g", 32), valid[:31], strings.ToUpper(valid)} {
		got := machineID(old, "vm-1")
		seen[got] = true
		if machineID(got, "vm-2") != got {
			t.Errorf("machineID(%q) = %q, which is not valid", old, got)
		}
	}
	if len(seen) != 1 || seen[machineID("", "vm-2")] {
		t.Errorf("ids %v: want one for one VM and another for another", seen)
	}
}

func TestEditReplacesAndKeeps(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "etc", "hostname")
	set := func(string) string { return "dev\n" }
	if err := edit(path, set); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := edit(path, set); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that needs no change was replaced: %v", err)
	}
	// A link that leads nowhere is replaced, not followed.
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/no/such/dir/file", link); err != nil {
		t.Fatal(err)
	}
	if err := edit(link, set); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(link); err != nil || string(got) != "dev\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := edit(dir, set); err == nil {
		t.Error("a directory was edited")
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "etc")); len(entries) != 1 {
		t.Errorf("%d files left, want 1", len(entries))
	}
}

func TestEnsureDirMakesOddImagesUsable(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"dangling": at("nowhere"), "good": dir, "loop": at("loop")} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "dangling", "good", "loop", "new/deep/er", "file/below", "good/inside"} {
		if err := ensureDir(at(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(at(name)); err != nil || !info.IsDir() {
			t.Errorf("%s is no directory: %v", name, err)
		}
	}
	if info, err := os.Lstat(at("good")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("a good link was replaced: %v", err)
	}
}

func TestEmptyTmp(t *testing.T) {
	dir := t.TempDir()
	tmp, other := filepath.Join(dir, "tmp"), filepath.Join(dir, "other")
	for _, d := range []string{filepath.Join(tmp, "a/b"), other} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{filepath.Join(tmp, "a/f"), filepath.Join(other, "keep")} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(other, filepath.Join(tmp, "link")); err != nil {
		t.Fatal(err)
	}
	if err := emptyTmp(tmp); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(tmp); len(entries) != 0 {
		t.Errorf("%d entries left", len(entries))
	}
	if info, _ := os.Stat(tmp); info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("mode %v", info.Mode())
	}
	// A /tmp that leads elsewhere is not emptied.
	if err := os.Symlink(other, filepath.Join(dir, "tmp2")); err != nil {
		t.Fatal(err)
	}
	if err := emptyTmp(filepath.Join(dir, "tmp2")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(other, "keep")); err != nil {
		t.Errorf("what a link leads to was emptied: %v", err)
	}
}

func TestLayersAreMadeOnceWithTheBasesMode(t *testing.T) {
	base, system := t.TempDir(), t.TempDir()
	if err := os.Chmod(base, 0o751); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := makeLayers(base, system); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(system, "upper")); err != nil || info.Mode().Perm() != 0o751 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

func TestParseStat(t *testing.T) {
	for line, want := range map[string]struct {
		state  byte
		parent int
	}{
		"42 (sh) S 7 42":          {'S', 7},
		"42 (a) b) R 2 x) Z 9 42": {'Z', 9},
		"42 (sh":                  {},
		"":                        {},
		"42 (sh) S":               {},
		"42 (sh) SS 1":            {},
		"42 (sh) S one":           {},
	} {
		if state, parent := parseStat([]byte(line)); state != want.state || parent != want.parent {
			t.Errorf("parseStat(%q) = %q, %d; want %q, %d", line, state, parent, want.state, want.parent)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 7 42"))
	f.Add([]byte(")"))
	f.Fuzz(func(_ *testing.T, line []byte) { parseStat(line) })
}

func TestProcessesCountsOnlyWhatLives(t *testing.T) {
	proc := t.TempDir()
	for pid, stat := range map[string]string{
		"1": "1 (init) S 0", "2": "2 (kthreadd) S 0", "3": "3 (kworker) I 2", "10": "10 (agent) S 1",
		"11": "11 (sh) S 10", "12": "12 (gone) Z 1", "13": "13 (cat) D 11", "uptime": "x",
	} {
		if err := os.Mkdir(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := processes(proc, 10); n != 2 {
		t.Errorf("%d processes beside the agent, want 2", n)
	}
	if n := processes(proc, 0); n != 3 {
		t.Errorf("%d processes, want 3", n)
	}
}

func TestMountPoints(t *testing.T) {
	got := mountPoints("overlay / overlay rw 0 0\n/dev/vdc /mnt/two\\040words\\134 ext4 rw 0 0\nbroken\n\n")
	if want := []string{"/", `/mnt/two words\`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIdleBusyboxIsNoInit(t *testing.T) {
	const alpine = "# /etc/inittab\n::sysinit:/sbin/openrc sysinit\n::sysinit:/sbin/openrc boot\n::wait:/sbin/openrc default\ntty1::respawn:/sbin/getty 38400 tty1\n::ctrlaltdel:/sbin/reboot\n"
	for name, c := range map[string]struct {
		inittab, program string
		want             bool
	}{
		"nothing at all":            {"", "", true},
		"its own script":            {"", "etc/init.d/rcS", false},
		"a table without services":  {alpine, "sbin/getty", true},
		"a table with its services": {alpine, "sbin/openrc", false},
		"a table of one's own":      {"::respawn:-/bin/sh\n", "", false},
		"a script of one's own":     {"::sysinit:-/etc/start now\n", "etc/start", false},
		"garbage":                   {"::sysinit:\n:\n\x00", "", false},
	} {
		root := t.TempDir()
		write := func(path, text string) {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		write("bin/busybox", "x")
		write("sbin/other", "x")
		if c.inittab != "" {
			write("etc/inittab", c.inittab)
		}
		if c.program != "" {
			write(c.program, "x")
		}
		init := filepath.Join(root, "sbin/init")
		if err := os.Symlink("../bin/busybox", init); err != nil {
			t.Fatal(err)
		}
		if got := isIdle(root, init); got != c.want {
			t.Errorf("%s: idle %v", name, got)
		}
		if isIdle(root, filepath.Join(root, "sbin/other")) {
			t.Errorf("%s: another init is idle", name)
		}
	}
}

func FuzzSysinit(f *testing.F) {
	f.Add("::sysinit:/a b\n")
	f.Add("#::sysinit:-\n:::")
	f.Fuzz(func(t *testing.T, table string) {
		for _, program := range sysinit(table) {
			if program == "" || strings.ContainsAny(program, " \n") {
				t.Errorf("the program %q of %q", program, table)
			}
		}
	})
}

func TestModulesAreOptional(t *testing.T) {
	if err := loadModules(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "000-bad.ko"), []byte("not a module"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := loadModules(dir); err == nil || !strings.Contains(err.Error(), "000-bad.ko") {
		t.Errorf("err = %v, want one that names the module", err)
	}
}
