package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"banger/ext4"
)

// The aims are those of the project: our time divided by the other's.
func (b *bench) comparisons(m *material) ([]comparison, error) {
	out := filepath.Join(b.work, "out")
	remove := func() error { return os.RemoveAll(out) }
	seed := filepath.Join(b.work, "small.img") // an image to edit and read
	if err := buildTar(seed, m.small, 8<<30); err != nil {
		return nil, err
	}
	fresh := func(size int64) func() error {
		return func() error { return errors.Join(remove(), format(out, size)) }
	}
	copied := func() error {
		return errors.Join(remove(), command(context.Background(), "cp", "--sparse=always", seed, out))
	}
	script, err := b.debugfsScript()
	if err != nil {
		return nil, err
	}
	tool := func(name string, args ...string) contender {
		return contender{name + " " + strings.Join(short(args), " "), func(ctx context.Context) error { return command(ctx, name, args...) }}
	}
	return []comparison{
		{
			name: "root tar to a packed image", beforeEach: remove,
			ours: contender{"Builder.Tar", func(context.Context) error { return buildTar(out, m.big, 0) }},
			others: []rival{
				{contender{"cat", func(ctx context.Context) error { return command(ctx, "sh", "-c", "cat '"+m.big+"' > '"+out+"'") }}, 1.5, false},
				{contender{"tar2ext4", func(ctx context.Context) error { return command(ctx, m.tar2ext4, m.big, out) }}, 1. / 3, false},
				{contender{"mke2fs -d", func(ctx context.Context) error {
					return command(ctx, "mke2fs", "-t", "ext4", "-F", "-q", "-m0", "-d", m.tree, out, "4G")
				}}, 1. / 10, true},
			},
		},
		{
			name: "the same, 8 GiB with room to write", beforeEach: remove,
			ours: contender{"Builder.Tar", func(context.Context) error { return buildTar(out, m.big, 8<<30) }},
			others: []rival{
				{contender{"cat", func(ctx context.Context) error { return command(ctx, "sh", "-c", "cat '"+m.big+"' > '"+out+"'") }}, 1.5, false},
			},
		},
		{
			name: "one gzip layer", beforeEach: remove,
			ours: contender{"Builder.Layers", func(context.Context) error { return buildLayers(out, m.gz) }},
			others: []rival{
				{contender{"decompression alone", func(context.Context) error { return inflate(m.gz) }}, 1.05, false},
			},
		},
		{
			name: "four gzip layers", beforeEach: remove,
			ours: contender{"Builder.Layers", func(context.Context) error { return buildLayers(out, m.layers...) }},
			others: []rival{
				{contender{"decompression, in a row", func(context.Context) error {
					for _, l := range m.layers {
						if err := inflate(l); err != nil {
							return err
						}
					}
					return nil
				}}, 1.05, false},
				{contender{"decompression, in parallel", func(context.Context) error { return inflateAll(m.layers) }}, 0, false},
			},
		},
		{
			name: "200,000 files in one directory", beforeEach: remove,
			ours: contender{"Builder.Tar", func(context.Context) error { return buildTar(out, m.many, 0) }},
			others: []rival{
				{contender{"tar2ext4", func(ctx context.Context) error { return command(ctx, m.tar2ext4, m.many, out) }}, 1. / 10, true},
			},
		},
		{
			name: "ten edits, not durable", beforeEach: copied,
			ours:   contender{"Edit ... Commit, NoSync", func(context.Context) error { return edit(out, true) }},
			others: []rival{{contender{"debugfs -w -f", func(ctx context.Context) error { return command(ctx, "debugfs", "-w", "-f", script, out) }}, 1. / 25, false}},
		},
		{
			name: "ten edits, durable and atomic", beforeEach: copied,
			ours:   contender{"Edit ... Commit", func(context.Context) error { return edit(out, false) }},
			others: []rival{{contender{"debugfs -w -f", func(ctx context.Context) error { return command(ctx, "debugfs", "-w", "-f", script, out) }}, 1, false}},
		},
		{
			name: "an empty image of 8 GiB", beforeEach: remove,
			ours: contender{"Format", func(context.Context) error { return format(out, 8<<30) }},
			others: []rival{{contender{"mkfs.ext4", func(ctx context.Context) error {
				return errors.Join(truncate(out, 8<<30), command(ctx, "mkfs.ext4", "-F", "-q", out))
			}}, 1. / 75, false}},
		},
		{
			name: "growth from 64 MiB to 8 GiB", beforeEach: fresh(64 << 20),
			ours: contender{"Grow, NoSync", func(context.Context) error { return grow(out, 8<<30) }},
			others: []rival{{contender{"resize2fs", func(ctx context.Context) error {
				return errors.Join(truncate(out, 8<<30), command(ctx, "resize2fs", "-f", out))
			}}, 1. / 30, false}},
		},
		{
			name:   "stat of one file",
			ours:   contender{"Open, Stat", func(context.Context) error { return stat(seed, "usr/bin/env") }},
			others: []rival{{tool("debugfs", "-R", "stat /usr/bin/env", seed), 1. / 60, false}},
		},
		{
			name: "reading a whole tree", beforeEach: func() error { return errors.Join(remove(), os.Mkdir(out, 0o755)) },
			ours:   contender{"fs.WalkDir, io.Copy", func(context.Context) error { return readTree(seed) }},
			others: []rival{{tool("debugfs", "-R", "rdump / "+out, seed), 1. / 3, false}},
		},
		{
			name:   "a consistency check",
			ours:   contender{"Image.Check", func(ctx context.Context) error { return check(ctx, seed) }},
			others: []rival{{tool("e2fsck", "-fn", seed), 0, false}},
		},
		{
			name:   "the cost of a process",
			ours:   contender{"a call that does nothing", func(context.Context) error { return nil }},
			others: []rival{{tool("true"), 0, false}},
		},
	}, nil
}

// short leaves out the folders of arguments.
func short(args []string) []string {
	var list []string
	for _, a := range args {
		if filepath.IsAbs(a) {
			continue
		}
		list = append(list, strings.Fields(a)[0])
	}
	return list
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

func build(path string, size int64, fill func(*ext4.Builder) error) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := ext4.NewBuilder(f, &ext4.Options{Size: size})
	if err != nil {
		return err
	}
	if err := fill(b); err != nil {
		return err
	}
	return b.Finish()
}

func buildTar(path, from string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return build(path, size, func(b *ext4.Builder) error { return b.Tar(in) })
}

func buildLayers(path string, layers ...string) error {
	return build(path, 0, func(b *ext4.Builder) error {
		var readers []io.Reader
		for _, l := range layers {
			in, err := os.Open(l)
			if err != nil {
				return err
			}
			defer in.Close()
			z, err := gzip.NewReader(in)
			if err != nil {
				return err
			}
			readers = append(readers, z)
		}
		return b.Layers(readers...)
	})
}

func inflate(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{z}, make([]byte, 1<<20))
	return err
}

func inflateAll(paths []string) error {
	errs := make([]error, len(paths))
	var group sync.WaitGroup
	for i, p := range paths {
		group.Go(func() { errs[i] = inflate(p) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func format(path string, size int64) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	return errors.Join(ext4.Format(f, &ext4.Options{Size: size}), f.Close())
}

func truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func grow(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(ext4.Grow(f, size, &ext4.EditOptions{NoSync: true}), f.Close())
}

func open(path string) (*os.File, *ext4.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	im, err := ext4.Open(f, info.Size())
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, im, nil
}

func stat(path, name string) error {
	f, im, err := open(path)
	if err != nil {
		return err
	}
	_, err = im.Stat(name)
	return errors.Join(err, f.Close())
}

func readTree(path string) error {
	f, im, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	return fs.WalkDir(im, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		r, err := im.Open(name)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
		return errors.Join(err, r.Close())
	})
}

func check(ctx context.Context, path string) error {
	f, im, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := im.Check(ctx)
	if err == nil && !r.OK() {
		err = fmt.Errorf("%v", r)
	}
	return err
}

// edit is a session of ten steps: what a supervisor does to a disk before a start.
func edit(path string, noSync bool) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	t, err := ext4.Edit(f, info.Size(), &ext4.EditOptions{NoSync: noSync})
	if err != nil {
		return err
	}
	defer t.Close()
	return errors.Join(
		t.Mkdir("/root/.ssh", ext4.Attr{Mode: 0o755}),
		t.Chmod("/root/.ssh", 0o700), t.SetOwner("/root/.ssh", 1000, 1000), t.SetOwner("/root/.ssh", 0, 0),
		t.WriteFile("/root/.ssh/keys", strings.NewReader(strings.Repeat("k", 3000)), ext4.Attr{Mode: 0o644}),
		t.Chmod("/root/.ssh/keys", 0o600), t.SetOwner("/root/.ssh/keys", 1000, 1000), t.SetOwner("/root/.ssh/keys", 0, 0),
		t.WriteFile("/root/tool", strings.NewReader(strings.Repeat("t", 300_000)), ext4.Attr{Mode: 0o644}),
		t.Chmod("/root/tool", 0o755),
		t.Commit(),
	)
}

// debugfsScript is the same session for debugfs.
func (b *bench) debugfsScript() (string, error) {
	small, large, script := filepath.Join(b.work, "3k"), filepath.Join(b.work, "300k"), filepath.Join(b.work, "script")
	text := strings.Join([]string{
		"mkdir /root/.ssh",
		"sif /root/.ssh mode 040700", "sif /root/.ssh uid 0", "sif /root/.ssh gid 0",
		"write " + small + " /root/.ssh/keys",
		"sif /root/.ssh/keys mode 0100600", "sif /root/.ssh/keys uid 0", "sif /root/.ssh/keys gid 0",
		"write " + large + " /root/tool",
		"sif /root/tool mode 0100755", "",
	}, "\n")
	return script, errors.Join(
		os.WriteFile(small, []byte(strings.Repeat("k", 3000)), 0o600),
		os.WriteFile(large, []byte(strings.Repeat("t", 300_000)), 0o600),
		os.WriteFile(script, []byte(text), 0o600),
	)
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
