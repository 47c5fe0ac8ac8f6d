package agent

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testPasswd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

# a comment
broken:x:one:1::/:/bin/sh
short:x:5
dev:x:1000:1001:Dev,,,:/home/dev:
1234:x:77:77::/numeric:/bin/sh
none:x:4294967295:0::/:/bin/sh`

// handMade are lines as they are written into images from scratch.
const handMade = `nobody:x:65534:65534
app:x:1000:1000::/app
windows:x:5:5::/:/bin/sh` + "\r\n" + `extra:x:6:6::/e:/bin/sh:more:fields
:x:0:0::/:
nogid:x:7`

const testGroup = `root:x:0:
sudo:x:27:dev,other
docker:x:999:other,dev
dev:x:1001:
dup:x:27:dev
broken:x:-1:dev
`

func TestResolveUser(t *testing.T) {
	accounts, groups := parsePasswd([]byte(testPasswd)), parseGroup([]byte(testGroup))
	if len(accounts) != 4 || len(groups) != 5 {
		t.Errorf("%d accounts and %d groups", len(accounts), len(groups))
	}
	for spec, want := range map[string]user{
		"":             {account{"root", "/root", "/bin/bash", 0, 0}, []uint32{0}},
		"root":         {account{"root", "/root", "/bin/bash", 0, 0}, []uint32{0}},
		"dev":          {account{"dev", "/home/dev", "", 1000, 1001}, []uint32{1001, 27, 999}},
		"1000":         {account{"dev", "/home/dev", "", 1000, 1001}, []uint32{1001, 27, 999}},
		"dev:docker":   {account{"dev", "/home/dev", "", 1000, 999}, []uint32{999}},
		"dev:5":        {account{"dev", "/home/dev", "", 1000, 5}, []uint32{5}},
		"1234":         {account{"1234", "/", "", 1234, 0}, []uint32{0}}, // never a name
		"77":           {account{"1234", "/numeric", "/bin/sh", 77, 77}, []uint32{77}},
		"4711":         {account{"4711", "/", "", 4711, 0}, []uint32{0}},
		"dev:":         {account{"dev", "/home/dev", "", 1000, 1001}, []uint32{1001, 27, 999}},
		":":            {account{"root", "/root", "/bin/bash", 0, 0}, []uint32{0}},
		":docker":      {account{"root", "/root", "/bin/bash", 0, 999}, []uint32{999}},
		"4711:1001":    {account{"4711", "/", "", 4711, 1001}, []uint32{1001}},
		"4711:sudo":    {account{"4711", "/", "", 4711, 27}, []uint32{27}},
		"root:no":      {},
		"no":           {},
		"-1":           {},
		"4294967295":   {},
		"4294967296":   {},
		"dev:dev:dev":  {},
		"broken":       {},
		"none":         {},
		"dev ":         {},
		"\x00":         {},
		"root\nbroken": {},
	} {
		got, err := resolveUser(spec, accounts, groups)
		if want.name == "" {
			if err == nil {
				t.Errorf("resolveUser(%q) = %+v, want an error", spec, got)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("resolveUser(%q) = %+v, %v; want %+v", spec, got, err, want)
		}
	}
}

func TestImageWithoutAccounts(t *testing.T) {
	for _, spec := range []string{"", "root", "0"} {
		got, err := resolveUser(spec, nil, nil)
		if err != nil || got.uid != 0 || got.home != "/root" || got.name != "root" {
			t.Errorf("resolveUser(%q) = %+v, %v", spec, got, err)
		}
	}
}

func TestAccountsMadeByHand(t *testing.T) {
	accounts := parsePasswd([]byte(handMade))
	want := []account{
		{"nobody", "/", "", 65534, 65534}, {"app", "/app", "", 1000, 1000}, {"windows", "/", "/bin/sh", 5, 5}, {"extra", "/e", "/bin/sh", 6, 6},
	}
	if !slices.Equal(accounts, want) {
		t.Errorf("%+v, want %+v", accounts, want)
	}
	groups := parseGroup([]byte("app:x:1000\nadm:x:4:app,other\r\nbad:x\n"))
	if u, err := resolveUser("app", accounts, groups); err != nil || !slices.Equal(u.groups, []uint32{1000, 4}) || len(groups) != 2 {
		t.Errorf("%+v, %v, of the groups %+v", u, err, groups)
	}
}

func TestOddAccountFiles(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxAccounts+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, large, dir} {
		if data, err := readAccounts(path); err == nil {
			t.Errorf("%s was read: %d bytes", path, len(data))
		}
	}
	if data, err := readAccounts(filepath.Join(dir, "missing")); err != nil || len(data) != 0 {
		t.Errorf("a file that is missing: %d bytes, %v", len(data), err)
	}
}

func TestShell(t *testing.T) {
	for _, c := range []struct {
		shell string
		plain bool
		path  string
		name  string
	}{
		{"/no/such/shell", false, "/bin/sh", "-sh"},
		{"/no/such/shell", true, "/bin/sh", "sh"},
		{"/bin/false", false, "/bin/false", "-false"}, // as su does
		{"/bin/false", true, "/bin/sh", "sh"},
		{"/usr/sbin/nologin", true, "/bin/sh", "sh"},
		{"", true, "/bin/sh", "sh"},
	} {
		got := &command{user: user{account: account{name: "x", shell: c.shell}}}
		if err := got.shell(c.plain); err != nil || got.path != c.path || !slices.Equal(got.argv, []string{c.name}) {
			t.Errorf("%+v: %q %q, %v", c, got.path, got.argv, err)
		}
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte(testPasswd), []byte(testGroup), "dev:docker")
	f.Add([]byte("::::::"), []byte(":::"), ":")
	f.Add([]byte("a:b:0:0:c:d:e\r\n"), []byte("g:x:1:a,,a"), "a")
	f.Fuzz(func(t *testing.T, passwd, group []byte, spec string) {
		accounts, groups := parsePasswd(passwd), parseGroup(group)
		u, err := resolveUser(spec, accounts, groups)
		if err != nil {
			return
		}
		if !slices.Contains(u.groups, u.gid) || u.uid == 1<<32-1 || u.gid == 1<<32-1 {
			t.Errorf("resolveUser(%q) = %+v", spec, u)
		}
		if strings.ContainsAny(u.name+u.home+u.shell, "\n") && !strings.Contains(spec, "\n") {
			t.Errorf("a line's end in %+v", u)
		}
	})
}
