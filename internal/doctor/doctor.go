// Package doctor looks at the host and says what banger needs and does not find.
//
// Words: a check is one thing that banger needs or would be faster with; its fix
// is the command that provides it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/base/kvm"
	"banger/internal/base/paths"
	"banger/internal/vm"
)

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	// OK is as it should be.
	OK Status = "ok"
	// Warn costs speed or part of the features.
	Warn Status = "warn"
	// Fail keeps banger from making or running VMs.
	Fail Status = "fail"
)

// Check is what was found about one thing.
type Check struct {
	// Name is a short noun: "qemu".
	Name   string
	Status Status
	// Detail says what was found.
	Detail string
	// Fix is the command that mends it; empty if all is well or none is known.
	Fix string
}

const (
	// minSpace is the room that the first image, its kernel and a VM take.
	minSpace = 4 * vm.GiB
	// toolTimeout bounds each run of a tool of the host.
	toolTimeout = 5 * time.Second
)

// Run makes all checks, in order of importance. It changes nothing but makes
// banger's own folders. When ctx ends, checks that run tools fail.
func Run(ctx context.Context) []Check {
	dirs, noDirs := paths.FromEnv()
	own := ""
	if noDirs == nil {
		own = dirs.DebianSources()
	}
	checks := []Check{
		qemu(ctx),
		onKVM(kvm.Usable()),
		tool("mmdebstrap", "mmdebstrap", "mmdebstrap", "makes images"),
		mirror(own, "/"),
		keyring(),
	}
	if os.Getuid() != 0 {
		checks = append(checks, userNamespaces(ctx), subordinateIDs())
	}
	return append(checks, folders(dirs, noDirs)...)
}

// install is the command that installs a package.
func install(pkg string) string { return asRoot("apt-get install -y " + pkg) }

func asRoot(command string) string {
	if os.Getuid() == 0 {
		return command
	}
	return "sudo " + command
}

// find is exec.LookPath that also looks where Debian keeps administrators' tools,
// which an ordinary user's PATH leaves out.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", err
}

func tool(name, program, pkg, use string) Check {
	path, err := find(program)
	if err != nil {
		return Check{Name: name, Status: Fail, Detail: program + ", which " + use + ", is not installed", Fix: install(pkg)}
	}
	return Check{Name: name, Status: OK, Detail: path}
}

func qemu(ctx context.Context) Check {
	const program = "qemu-system-x86_64"
	c := tool("qemu", program, "qemu-system-x86", "runs VMs")
	if c.Status != OK {
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.Detail, "--version").Output()
	if err != nil {
		return Check{Name: c.Name, Status: Fail, Detail: fmt.Sprintf("%s does not run: %v", c.Detail, err), Fix: install("--reinstall qemu-system-x86")}
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return Check{Name: c.Name, Status: OK, Detail: c.Detail + ", " + first}
}

// onKVM says whether VMs run on the processor itself.
func onKVM(err error) Check {
	c := Check{Name: "kvm", Status: Warn}
	switch {
	case err == nil:
		return Check{Name: "kvm", Status: OK, Detail: kvm.Device + " is usable"}
	case errors.Is(err, os.ErrNotExist):
		c.Detail = kvm.Device + " does not exist: VMs run under emulation, several times slower"
		c.Fix = "switch virtualization on in the firmware, or nested virtualization in the hypervisor"
	case errors.Is(err, os.ErrPermission):
		c.Detail = kvm.Device + " is closed to you: VMs run under emulation, several times slower"
		c.Fix = "sudo setfacl -m u:" + userName() + ":rw " + kvm.Device
		if group, ok := groupOf(kvm.Device); ok {
			c.Fix = "sudo usermod -aG " + group + " " + userName() + ", then log in again"
		}
	case errors.Is(err, kvm.ErrNoHardware):
		c.Detail = kvm.Device + " is there, but " + err.Error() + ": VMs run under emulation, several times slower"
		c.Fix = "switch nested virtualization on in the hypervisor"
	default:
		c.Detail = fmt.Sprintf("%s is not usable: %v", kvm.Device, err)
	}
	return c
}

// groupOf returns the group that may write to a file, unless that is root's.
func groupOf(path string) (string, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Gid == 0 || st.Mode&0o060 != 0o060 {
		return "", false
	}
	g, err := user.LookupGroupId(fmt.Sprint(st.Gid))
	if err != nil {
		return "", false
	}
	return g.Name, true
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Getuid())
}

// userNamespaces tries one: of the settings that forbid them, distributions have
// at least three.
func userNamespaces(ctx context.Context) Check {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	if err := cmd.Run(); err != nil {
		fix := "sudo sysctl -w kernel.unprivileged_userns_clone=1"
		if _, err := os.Stat("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"); err == nil {
			fix = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
		}
		return Check{Name: "user namespaces", Status: Warn, Detail: fmt.Sprintf("an ordinary user cannot make one: %v", err), Fix: fix}
	}
	return Check{Name: "user namespaces", Status: OK, Detail: "an ordinary user can make them"}
}

// subordinateIDs says whether an ordinary user can build images.
func subordinateIDs() Check {
	c := Check{Name: "subordinate ids", Status: OK}
	name := userName()
	_, noTool := find("newuidmap")
	ranges := hasRange("/etc/subuid", name) && hasRange("/etc/subgid", name)
	switch {
	case noTool == nil && ranges:
		c.Detail = "newuidmap and ranges for " + name + " in /etc/subuid and /etc/subgid"
		return c
	case noTool != nil:
		c.Detail, c.Fix = "newuidmap, with which an ordinary user builds images, is not installed", install("uidmap")
	default:
		c.Detail = name + " has no range in /etc/subuid and /etc/subgid"
		c.Fix = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + name
	}
	c.Status = Fail
	_, noChroot := find("fakechroot")
	_, noRoot := find("fakeroot")
	if noChroot == nil && noRoot == nil {
		c.Status, c.Detail = Warn, c.Detail+"; fakechroot is there instead"
	}
	return c
}

// hasRange says whether a file in the format of subuid(5), "user:first:count",
// has a range for the current user, by name or number.
func hasRange(path, name string) bool {
	for line := range strings.Lines(readBounded(path)) {
		owner, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && (owner == name || owner == fmt.Sprint(os.Getuid())) {
			return true
		}
	}
	return false
}

// maxRanges bounds a file of subordinate ids, in bytes.
const maxRanges = 1 << 20

func readBounded(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRanges))
	if err != nil {
		return ""
	}
	return string(data)
}

// folders looks at banger's own folders, or why there are none, and the room in them.
func folders(dirs paths.Dirs, err error) []Check {
	if err != nil {
		return []Check{{Name: "folders", Status: Fail, Detail: err.Error(), Fix: "set HOME and XDG_RUNTIME_DIR to directories of your own"}}
	}
	runtime := Check{Name: "runtime folder", Status: OK, Detail: dirs.Runtime}
	if os.Getenv("XDG_RUNTIME_DIR") == "" {
		runtime.Detail += ", since XDG_RUNTIME_DIR is not set"
	}
	return []Check{runtime, space(dirs.State)}
}

func space(dir string) Check {
	c := Check{Name: "disk space", Status: OK}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		c.Status, c.Detail = Fail, fmt.Sprintf("cannot look at %s: %v", dir, err)
		return c
	}
	free := vm.Size(st.Bavail) * vm.Size(st.Bsize)
	c.Detail = fmt.Sprintf("%s free in %s", free.Approx(), dir)
	if free < minSpace {
		c.Status, c.Fix = Fail, "delete VMs and images you no longer need (banger vm list, banger image list), or set XDG_STATE_HOME to a larger disk"
		c.Detail += fmt.Sprintf("; %s are needed", minSpace)
	}
	return c
}
