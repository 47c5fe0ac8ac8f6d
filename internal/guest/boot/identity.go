package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxIdentity bounds the files of /etc that this package reads, in bytes.
const maxIdentity = 1 << 20

// ownAddress is the address under which Debian's /etc/hosts has the host's own
// name.
const ownAddress = "127.0.1.1"

// identify gives the machine its names, limits and loopback interface. What fails
// is a warning only: an odd /etc must not keep the user out of the VM in which to
// mend it.
func (b *booter) identify() error {
	name := b.config.Hostname
	for _, step := range []struct {
		what string
		err  error
	}{
		{"set the host name", unix.Sethostname([]byte(name))},
		{"raise the limit of open files", raiseFileLimit()},
		{"bring the loopback interface up", loopbackUp()},
		{"write /etc/hostname", edit("/etc/hostname", func(string) string { return name + "\n" })},
		{"write /etc/hosts", edit("/etc/hosts", func(old string) string { return hosts(old, name) })},
		{"write /etc/machine-id", edit("/etc/machine-id", func(old string) string { return machineID(old, b.config.VM) })},
	} {
		if step.err != nil {
			warn(fmt.Errorf("cannot %s: %w", step.what, step.err))
		}
	}
	return nil
}

// edit replaces the file at path by what change makes of its content, if that
// differs. A crash in between may leave the file empty, which the next boot mends.
func edit(path string, change func(old string) string) error {
	old, err := readBounded(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text := change(string(old))
	if err == nil && text == string(old) {
		return nil
	}
	if err := ensureDir(filepath.Dir(path)); err != nil {
		return err
	}
	tmp := path + ".banger-tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func readBounded(path string) ([]byte, error) {
	// O_NONBLOCK: an odd image may have a pipe there.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%q is not a file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIdentity+1))
	if len(data) > maxIdentity {
		return nil, fmt.Errorf("%q has more than %d bytes", path, maxIdentity)
	}
	return data, err
}

// hosts returns the text of /etc/hosts with one line for name at ownAddress; all
// other lines stay as they are. A file without content gets the usual ones.
func hosts(old, name string) string {
	if strings.TrimSpace(old) == "" {
		old = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	}
	var lines []string
	found := false
	for line := range strings.Lines(old) {
		line = strings.TrimSuffix(line, "\n")
		entry, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(entry)
		if len(fields) > 0 && fields[0] == ownAddress {
			if found {
				continue
			}
			found = true
			if !slices.Contains(fields[1:], name) {
				line = ownAddress + "\t" + name
			}
		}
		lines = append(lines, line)
	}
	if !found {
		lines = append(lines, ownAddress+"\t"+name)
	}
	return strings.Join(lines, "\n") + "\n"
}

// machineID returns the text of /etc/machine-id (machine-id(5)): a valid old one,
// or one that follows from the VM's id, so that it stays the same for the VM's
// life and differs from that of all others.
func machineID(old, id string) string {
	have := strings.TrimSpace(old)
	if len(have) == 32 && strings.Trim(have, "0123456789abcdef") == "" && strings.Trim(have, "0") != "" {
		return old
	}
	sum := sha256.Sum256(append([]byte("banger machine-id "), id...))
	return hex.EncodeToString(sum[:16]) + "\n"
}

// raiseFileLimit gives PID 1 and all that it starts the limits of a Debian
// service: 1024 open files, which a program may raise to 512 Ki.
func raiseFileLimit() error {
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 512 << 10})
}

// loopbackUp sets IFF_UP on lo (netdevice(7)), which gives it its addresses too.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
