package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
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

// The files that users and groups are looked up in, of the guest's own root.
const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// findUser returns the user that spec names, "name|uid[:group|gid]", from the
// image's own files; empty means root. The rules are those of docker run --user
// (moby/sys/user, GetExecUser): a number is never a name and needs no account; one
// without has the group 0; an explicit group replaces the account's groups, all of
// them.
func findUser(spec string) (user, error) {
	passwd, passwdErr := readAccounts(passwdFile)
	groups, groupErr := readAccounts(groupFile)
	u, err := resolveUser(spec, parsePasswd(passwd), parseGroup(groups))
	if err != nil {
		// Files that cannot be read matter only to one who needs them: root gets in.
		err = errors.Join(err, passwdErr, groupErr)
	}
	return u, err
}

// readAccounts reads one of the files; one that is missing is empty.
func readAccounts(path string) ([]byte, error) {
	// O_NONBLOCK: an odd image may have a pipe there.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%q is not a file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxAccounts+1))
	if len(data) > maxAccounts {
		return nil, fmt.Errorf("%q has more than %d bytes", path, maxAccounts)
	}
	return data, err
}

func resolveUser(spec string, accounts []account, groups []group) (user, error) {
	name, groupName, _ := strings.Cut(spec, ":")
	u, err := resolveAccount(cmp.Or(name, "0"), accounts)
	if err != nil {
		return user{}, err
	}
	if groupName != "" {
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
	uid, err := parseID(name)
	if err != nil {
		for _, a := range accounts {
			if a.name == name {
				return user{account: a}, nil
			}
		}
		if name != "root" {
			return user{}, fmt.Errorf("there is no user %q in the VM's %s", name, passwdFile)
		}
	}
	for _, a := range accounts { // root of another name, with uid 0 as it is here
		if a.uid == uid {
			return user{account: a}, nil
		}
	}
	if uid == 0 {
		return user{account: account{name: "root", home: "/root"}}, nil
	}
	return user{account: account{name: name, uid: uid, home: "/"}}, nil
}

func resolveGroup(name string, groups []group) (uint32, error) {
	if gid, err := parseID(name); err == nil {
		return gid, nil
	}
	for _, g := range groups {
		if g.name == name {
			return g.gid, nil
		}
	}
	return 0, fmt.Errorf("there is no group %q in the VM's %s", name, groupFile)
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

// parsePasswd reads passwd(5) and skips lines without a name and numbers that are
// valid. The fields behind them are missing in images that were made by hand.
func parsePasswd(data []byte) []account {
	var all []account
	for line := range bytes.Lines(data) {
		f := fields(line, 7)
		uid, uidErr := parseID(f[2])
		gid, gidErr := parseID(f[3])
		if f[0] == "" || uidErr != nil || gidErr != nil {
			continue
		}
		all = append(all, account{name: f[0], uid: uid, gid: gid, home: cmp.Or(f[5], "/"), shell: f[6]})
	}
	return all
}

// fields cuts a line at its colons into n fields; those that are missing are empty.
func fields(line []byte, n int) []string {
	f := strings.SplitN(strings.TrimRight(string(line), "\r\n"), ":", n+1)
	return slices.Concat(f, make([]string, n))[:n]
}

// parseGroup reads group(5) and skips lines without a name and a valid number.
func parseGroup(data []byte) []group {
	var all []group
	for line := range bytes.Lines(data) {
		f := fields(line, 4)
		gid, err := parseID(f[2])
		if f[0] == "" || err != nil {
			continue
		}
		all = append(all, group{name: f[0], gid: gid, members: strings.Split(f[3], ",")})
	}
	return all
}
