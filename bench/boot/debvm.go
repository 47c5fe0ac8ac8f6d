package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"banger/internal/base/kvm"
)

// debvm is a guest image of Debian's debvm-create, with an ssh key of ours in it.
type debvm struct {
	bench      *bench
	image, key string
}

// prepareDebvm makes the image once: bookworm with sshd, as debvm-create has it.
func (b *bench) prepareDebvm(ctx context.Context) (*debvm, error) {
	// debvm-run takes every /dev/kvm that it can open.
	if err := kvm.Usable(); errors.Is(err, kvm.ErrNoHardware) {
		return nil, fmt.Errorf("debvm-run would use a %s that does not work (%w): run this as a user who cannot open it, or with -no-debvm", kvm.Device, err)
	}
	d := &debvm{bench: b, image: filepath.Join(b.work, "debvm.ext4"), key: filepath.Join(b.work, "key")}
	if _, err := os.Stat(d.image); err == nil {
		return d, nil
	}
	_ = os.Remove(d.key)
	if err := command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d.key); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "preparing: debvm-create (some minutes)")
	partial := d.image + ".partial"
	_ = os.Remove(partial)
	if err := command(ctx, "debvm-create", "-r", "bookworm", "-k", d.key+".pub", "-o", partial); err != nil {
		return nil, err
	}
	return d, os.Rename(partial, d.image)
}

// ssh returns the arguments of a quiet ssh to root@host.
func (d *debvm) ssh(options ...string) []string {
	return append([]string{
		"-i", d.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-F", "none",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
	}, options...)
}

// bootAndSSH boots the image and ends when "true" has run in it over ssh.
func (d *debvm) bootAndSSH(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	// exec, so that killing it kills QEMU; -snapshot keeps the image as it is.
	vm := exec.CommandContext(ctx, "debvm-run", "-i", d.image, "-s", port, "--", "-snapshot", "-m", "512")
	vm.SysProcAttr = ownGroup()
	if err := vm.Start(); err != nil {
		return err
	}
	defer killGroup(vm)
	if err := command(ctx, "debvm-waitssh", "-q", "-t", "300", port); err != nil {
		return err
	}
	return command(ctx, "ssh", d.ssh("-p", port, "root@127.0.0.1", "true")...)
}

// sshInOurGuest puts Debian's sshd into the guest vmName and returns a run of
// ssh to it, over banger's own link, since that guest has no network.
func (d *debvm) sshInOurGuest(ctx context.Context) (func(context.Context) error, error) {
	fmt.Fprintln(os.Stderr, "preparing: sshd in the guest")
	debs := filepath.Join(d.bench.work, "sshd")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return nil, err
	}
	if found, _ := filepath.Glob(filepath.Join(debs, "*.deb")); len(found) == 0 {
		get := exec.CommandContext(ctx, "apt-get", "download", "openssh-server", "openssh-sftp-server", "libwrap0", "openssh-client",
			"libcbor0.8", "libedit2", "libnsl2", "libtirpc3", "libtirpc-common", "libfido2-1", "libbsd0", "libmd0", "runit-helper", "libproc2-0", "procps", "ucf", "sensible-utils")
		get.Dir = debs
		if out, err := get.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot download openssh-server: %w\n%s", err, out)
		}
	}
	install := exec.CommandContext(ctx, d.bench.banger, "vm", "exec", "-i", vmName, "--", "sh", "-ec",
		"mkdir -p /tmp/d && tar -C /tmp/d -x && dpkg --force-depends -i /tmp/d/*.deb && mkdir -p /run/sshd /root/.ssh && cat /tmp/d/key.pub > /root/.ssh/authorized_keys && systemctl disable --now ssh")
	pub, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(debs, "key.pub"), pub, 0o644); err != nil {
		return nil, err
	}
	tar := exec.CommandContext(ctx, "tar", "-C", debs, "-c", ".")
	if install.Stdin, err = tar.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := tar.Start(); err != nil {
		return nil, err
	}
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot install sshd in the guest: %w\n%s", err, out)
	}
	if err := tar.Wait(); err != nil {
		return nil, err
	}
	proxy := fmt.Sprintf("ProxyCommand=%s vm exec -i %s -- /usr/sbin/sshd -i", strconv.Quote(d.bench.banger), vmName)
	args := d.ssh("-o", proxy, "root@guest", "true")
	return func(ctx context.Context) error { return command(ctx, "ssh", args...) }, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
