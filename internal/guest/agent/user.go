package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxAccounts bounds what is read of /etc/passwd and of /etc/group, in bytes.
	maxAccounts = 16 << 20
	// maxGroups is the kernel's bound of supplementary groups, NGROUPS_MAX.
	maxGroups = 65536
)

// account is one line of passwd(5).
type account struct {
	name, home, shell string
	uid, gid          uint32
}

// group is one line of group(5).
type group struct {
	name    string
	gid     uint32
	members []string
}

// user is who runs a command.
type user struct {
	account
	// groups are the supplementary ones.
	groups []uint32
}

// findUser returns the user that spec names, "name|uid[:group|gid]", from the
// image's own files; empty means root. A number needs no account. An explicit
// group replaces the account's groups, all of them.
func findUser(spec string) (user, error) {
	passwd, err := readAccounts("/etc/passwd")
	if err != nil {
		return user{}, err
	}
	groups, err := readAccounts("/etc/group")
	if err != nil {
		return user{}, err
	}
	return resolveUser(spec, parsePasswd(passwd), parseGroup(groups))
}

func readAccounts(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxAccounts))
}

func resolveUser(spec string, accounts []account, groups []group) (user, error) {
	name, groupName, explicit := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	u, err := resolveAccount(name, accounts)
	if err != nil {
		return user{}, err
	}
	if explicit {
		u.gid, err = resolveGroup(groupName, groups)
		u.groups = []uint32{u.gid}
		return u, err
	}
	u.groups = []uint32{u.gid}
	for _, g := range groups {
		if slices.Contains(g.members, u.name) && !slices.Contains(u.groups, g.gid) && len(u.groups) < maxGroups {
			u.groups = append(u.groups, g.gid)
		}
	}
	return u, nil
}

func resolveAccount(name string, accounts []account) (user, error) {
	for _, a := range accounts {
		if a.name == name {
			return user{account: a}, nil
		}
	}
	uid, err := parseID(name)
	if err != nil {
		if name == "root" { // an image without /etc/passwd
			return resolveAccount("0", nil)
		}
		return user{}, fmt.Errorf("there is no user %q in the VM", name)
	}
	for _, a := range accounts {
		if a.uid == uid {
			return user{account: a}, nil
		}
	}
	a := account{name: name, uid: uid, gid: uid, home: "/"}
	if uid == 0 {
		a.name, a.home = "root", "/root"
	}
	return user{account: a}, nil
}

func resolveGroup(name string, groups []group) (uint32, error) {
	for _, g := range groups {
		if g.name == name {
			return g.gid, nil
		}
	}
	gid, err := parseID(name)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q in the VM", name)
	}
	return gid, nil
}

// parseID reads a user's or group's number; the highest means "none" to the
// kernel (chown(2)).
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}

// parsePasswd reads passwd(5) and skips what is not a whole, valid line.
func parsePasswd(data []byte) []account {
	var all []account
	for line := range bytes.Lines(data) {
		f := strings.Split(strings.TrimSuffix(string(line), "\n"), ":")
		if len(f) != 7 || f[0] == "" {
			continue
		}
		uid, uidErr := parseID(f[2])
		gid, gidErr := parseID(f[3])
		if uidErr != nil || gidErr != nil {
			continue
		}
		all = append(all, account{name: f[0], uid: uid, gid: gid, home: f[5], shell: f[6]})
	}
	return all
}

// parseGroup reads group(5) and skips what is not a whole, valid line.
func parseGroup(data []byte) []group {
	var all []group
	for line := range bytes.Lines(data) {
		f := strings.Split(strings.TrimSuffix(string(line), "\n"), ":")
		if len(f) != 4 || f[0] == "" {
			continue
		}
		gid, err := parseID(f[2])
		if err != nil {
			continue
		}
		all = append(all, group{name: f[0], gid: gid, members: strings.Split(f[3], ",")})
	}
	return all
}
