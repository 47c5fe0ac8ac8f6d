package kernels

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/initramfs"
	"banger/internal/kmod"
	"banger/internal/vm"
)

// Initramfs returns the path of an archive with the guest agent and the wanted
// modules of k, and what they depend on, in load order. Wanted modules that are
// built in are left out: wanted is what one VMM needs, and the archive has no more.
// Archives are kept in the cache, named by what they are made of; one that is there
// costs a stat.
func (s *Service) Initramfs(ctx context.Context, k vm.Kernel, wanted []string) (string, error) {
	agent, err := s.agentDigest()
	if err != nil {
		return "", err
	}
	// JSON, because it keeps the parts apart whatever is in them.
	parts, err := json.Marshal([]any{initramfs.Version, agent, k.Release, k.Digest, k.ModulesDigest, wanted})
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.o.Dirs.Initramfs(), fmt.Sprintf("%x.cpio.lz4", sha256.Sum256(parts)))
	if exists(path) {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // or it may be made again one day
		return path, nil
	}
	return s.initramfss.Do(ctx, path, nil, func(ctx context.Context, _ progress.Func) (string, error) {
		if exists(path) {
			return path, nil
		}
		return path, s.writeInitramfs(ctx, path, k, wanted)
	})
}

func (s *Service) writeInitramfs(ctx context.Context, path string, k vm.Kernel, wanted []string) error {
	tree := os.DirFS(k.ModulesDir)
	set, err := kmod.Scan(ctx, tree)
	if err != nil {
		return err
	}
	order, err := set.Order(wanted...)
	if err != nil {
		return fmt.Errorf("cannot make an initramfs for the kernel %q: %w", k.Release, err)
	}
	modules := make([]initramfs.Module, 0, len(order))
	for _, m := range order {
		data, err := kmod.Read(tree, m.Path)
		if err != nil {
			return fmt.Errorf("cannot read the kernel module %q: %w", m.Name, err)
		}
		modules = append(modules, initramfs.Module{Name: m.Name, Data: data})
	}
	agent, err := s.agent()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return errs.New(errs.Unavailable, "cannot make the folder for initramfs archives: %w", err)
	}
	s.pruneInitramfs()
	return atomicfile.WriteFrom(path, 0o600, func(w io.Writer) error { return initramfs.Build(w, agent, modules) })
}

// keepInitramfs is how long an archive that nobody asks for is kept: each new banger
// and each new kernel leaves some behind.
const keepInitramfs = 30 * 24 * time.Hour

func (s *Service) pruneInitramfs() {
	entries, err := os.ReadDir(s.o.Dirs.Initramfs())
	if err != nil {
		return // the archive that is about to be written says why
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < keepInitramfs {
			continue
		}
		if err := os.Remove(filepath.Join(s.o.Dirs.Initramfs(), e.Name())); err != nil {
			s.o.Log.Warn("cannot remove an old initramfs", "err", err)
		}
	}
}
