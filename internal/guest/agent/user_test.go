package agent

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

const testPasswd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

# a comment
broken:x:one:1::/:/bin/sh
short:x:5
dev:x:1000:1001:Dev,,,:/home/dev:
1234:x:77:77::/numeric:/bin/sh
none:x:4294967295:0::/:/bin/sh`

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
		"1234":         {account{"1234", "/numeric", "/bin/sh", 77, 77}, []uint32{77}},
		"4711":         {account{"4711", "/", "", 4711, 4711}, []uint32{4711}},
		":docker":      {account{"root", "/root", "/bin/bash", 0, 999}, []uint32{999}},
		"4711:1001":    {account{"4711", "/", "", 4711, 1001}, []uint32{1001}},
		"4711:sudo":    {account{"4711", "/", "", 4711, 27}, []uint32{27}},
		"root:no":      {},
		"no":           {},
		"-1":           {},
		"4294967295":   {},
		"4294967296":   {},
		"dev:":         {},
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

func TestLoginShell(t *testing.T) {
	c := &command{user: user{account: account{name: "x", shell: "/no/such/shell"}}}
	if err := c.loginShell(); err != nil || c.path != "/bin/sh" || !slices.Equal(c.argv, []string{"-sh"}) {
		t.Errorf("%q %q, %v; want /bin/sh as a login shell", c.path, c.argv, err)
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
