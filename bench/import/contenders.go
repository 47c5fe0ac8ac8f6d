package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// contenders returns all, ours first. peak gets the most memory that ours has taken, in
// KiB.
func (b *bench) contenders(peak *int) []contender {
	disk, root := b.at("disk.ext4"), b.at("root")
	image := b.link + ":x"
	clean := func(context.Context) error { return errors.Join(os.RemoveAll(disk), os.RemoveAll(root)) }
	buildah := func(ctx context.Context, args ...string) error {
		return command(ctx, "buildah", append([]string{"--storage-driver", "overlay", "--root", b.at("buildah"), "--runroot", b.at("buildah-run")}, args...)...)
	}
	return []contender{
		{name: "ours", before: clean, once: func(ctx context.Context) error {
			said, err := b.part(ctx, "ours")
			if err != nil {
				return err
			}
			var took int
			if _, err := fmt.Sscanf(said, "VmHWM: %d kB", &took); err != nil {
				return fmt.Errorf("ours says %q: %w", said, err)
			}
			*peak = max(*peak, took)
			return nil
		}},
		{name: "decompress and write", aim: 1.3, before: clean, once: func(ctx context.Context) error {
			_, err := b.part(ctx, "floor")
			return err
		}},
		{name: "the same, and both digests", before: clean, once: func(ctx context.Context) error {
			_, err := b.part(ctx, "verified")
			return err
		}},
		{name: "umoci unpack, mke2fs -d", aim: 1. / 3, before: clean, once: func(ctx context.Context) error {
			return errors.Join(
				command(ctx, "umoci", "raw", "unpack", "--image", image, root),
				command(ctx, "mke2fs", "-t", "ext4", "-F", "-q", "-m0", "-O", "^has_journal", "-d", root, disk, "3G"),
			)
		}},
		{name: "flatten, tar2ext4", aim: 1. / 3, before: clean, once: func(ctx context.Context) error { return b.flattened(ctx, disk) }},
		{name: "buildah pull, from, mount", aim: 1. / 3, before: func(ctx context.Context) error {
			// It fails where there is nothing yet.
			_ = buildah(ctx, "umount", "--all")
			_ = buildah(ctx, "rm", "--all")
			return errors.Join(os.RemoveAll(b.at("buildah")), os.RemoveAll(b.at("buildah-run")))
		}, once: func(ctx context.Context) error {
			return errors.Join(
				buildah(ctx, "pull", "--quiet", "oci:"+image),
				buildah(ctx, "from", "--pull-never", "--name", "bench", "oci:"+image),
				buildah(ctx, "mount", "bench"),
			)
		}},
	}
}

// part runs a part of ours in a process of its own, and returns what it says.
func (b *bench) part(ctx context.Context, name string) (string, error) {
	cmd, err := b.partCommand(ctx, name)
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	return string(out), err
}

func (b *bench) partCommand(ctx context.Context, name string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-work", b.work, "-part", name)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// flattened streams the image as one tar into tar2ext4.
func (b *bench) flattened(ctx context.Context, disk string) error {
	flatten, err := b.partCommand(ctx, "flatten")
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	flatten.Stdout = w
	err = flatten.Start()
	if err = errors.Join(err, w.Close()); err != nil {
		return errors.Join(err, r.Close())
	}
	convert := exec.CommandContext(ctx, b.at("tar2ext4"), "/dev/stdin", disk)
	convert.Stdin = r
	said, err := convert.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("tar2ext4: %w: %s", err, said)
	}
	_, drained := io.Copy(io.Discard, r) // what is behind the end of the archive
	return errors.Join(err, drained, r.Close(), flatten.Wait())
}

// command runs a program, and shows what it said if it fails.
func command(ctx context.Context, name string, args ...string) error {
	path, err := findTool(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C.UTF-8")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said.Bytes())
	}
	return nil
}

// findTool also looks where an ordinary user's PATH does not.
func findTool(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s: make bench-import installs it", name)
}
