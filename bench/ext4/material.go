package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
)

// material is what the contenders work on. All of it is made once and kept.
type material struct {
	big, small, many string // tars: a developer's root file system, a minimal one, 200,000 files
	tree             string // big, unpacked
	gz               string // big, compressed
	layers           []string
	tar2ext4         string // the program
}

// developer is what the large root file system has, as the reference figures had it.
const developer = "python3,git,gcc,g++,golang,nodejs,gdb,cmake,systemd,perl,vim,dbus,udev"

func (b *bench) prepare(ctx context.Context) (*material, error) {
	at := func(name string) string { return filepath.Join(b.work, name) }
	m := &material{
		big: at("big.tar"), small: at("small.tar"), many: at("many.tar"), tree: at("tree"), gz: at("big.tar.gz"), tar2ext4: at("tar2ext4"),
	}
	for _, step := range []struct {
		path string
		make func(path string) error
	}{
		{m.small, func(p string) error { return command(ctx, "mmdebstrap", "--variant=minbase", "bookworm", p) }},
		{m.big, func(p string) error {
			return command(ctx, "mmdebstrap", "--variant=minbase", "--include="+developer, "bookworm", p)
		}},
		{m.many, manyFiles},
		{m.gz, func(p string) error { return compress(m.big, p) }},
		{m.tree, func(p string) error {
			if err := os.Mkdir(p, 0o755); err != nil {
				return err
			}
			return command(ctx, "tar", "--numeric-owner", "-xpf", m.big, "-C", p)
		}},
		{m.tar2ext4, func(p string) error { return command(ctx, "go", "build", "-C", "bench/ext4/tar2ext4", "-o", p, ".") }},
	} {
		if _, err := os.Lstat(step.path); err == nil {
			continue
		}
		fmt.Fprintln(os.Stderr, "preparing", filepath.Base(step.path))
		part := step.path + ".part.tar"
		if err := errors.Join(os.RemoveAll(part), step.make(part), os.Rename(part, step.path)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(part))
		}
	}
	return m, b.split(m)
}

// manyFiles writes an archive of 200,000 empty files in one directory.
func manyFiles(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	for i := range 200_000 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("dir/file-with-a-name-%06d", i), Mode: 0o644}); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), f.Close())
}

func compress(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close(), out.Close())
}

// layerCount is into how many layers the large archive is cut.
const layerCount = 4

// split cuts the large archive into compressed layers of about the same size.
func (b *bench) split(m *material) error {
	for i := range layerCount {
		m.layers = append(m.layers, filepath.Join(b.work, fmt.Sprintf("layer%d.tar.gz", i)))
	}
	if _, err := os.Lstat(m.layers[layerCount-1]); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "preparing layers")
	in, err := os.Open(m.big)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	r := tar.NewReader(in)
	for _, path := range m.layers {
		out, err := os.Create(path)
		if err != nil {
			return err
		}
		z := gzip.NewWriter(out)
		w := tar.NewWriter(z)
		for part := int64(0); part < info.Size()/layerCount+1; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			h.Format = tar.FormatPAX
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			n, err := io.Copy(w, r)
			if err != nil {
				return err
			}
			part += n + 1024
		}
		if err := errors.Join(w.Close(), z.Close(), out.Close()); err != nil {
			return err
		}
	}
	return nil
}
