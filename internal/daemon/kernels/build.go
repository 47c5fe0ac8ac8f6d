package kernels

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/base/undo"
	"banger/internal/debian"
	"banger/internal/kconfig"
	"banger/internal/kmod"
	"banger/internal/vm"
)

// staging begins the name of a folder that is not finished.
const staging = ".staging-"

// Result is what came of a Pull or an Import.
type Result struct {
	Kernel vm.Kernel
	// Already says that the kernel was here before.
	Already bool
	// Before is the name of the default kernel before this one, if it was another.
	Before string
}

// builder makes one kernel in a folder of its own.
type builder struct {
	s    *Service
	dir  string
	undo undo.Stack
	send func(format string, args ...any)
	// k is what is known of the kernel so far.
	k vm.Kernel
	// config is the text of its configuration, or empty.
	config []byte
	// tree is the folder with what becomes /lib/modules/<release>; it is made by
	// whoever has modules.
	tree string
}

// newBuilder makes the folder. The caller closes the builder.
func (s *Service) newBuilder(origin vm.Origin, p progress.Func) (*builder, error) {
	b := &builder{s: s, k: vm.Kernel{Origin: origin}, send: func(format string, args ...any) {
		p.Send(progress.Report{Phase: "kernel", Detail: fmt.Sprintf(format, args...)})
	}}
	if err := os.MkdirAll(s.o.Dirs.Kernels(), 0o700); err != nil {
		return nil, errs.New(errs.Unavailable, "cannot make the folder for kernels: %w", err)
	}
	dir, err := os.MkdirTemp(s.o.Dirs.Kernels(), staging)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "cannot make a folder for the kernel: %w", err)
	}
	b.dir, b.tree = dir, filepath.Join(dir, dirTree)
	b.undo.Add(func() error { return os.RemoveAll(dir) })
	return b, nil
}

// close removes what is left of the folder.
func (b *builder) close() {
	if err := b.undo.Run(); err != nil {
		b.s.o.Log.Warn("cannot remove an unfinished kernel", "err", err)
	}
}

// finish checks what has been unpacked, makes the disk of it, and puts the kernel in
// its place, under b.k.Name.
func (b *builder) finish(ctx context.Context) (r Result, err error) {
	fail := func(err error) (Result, error) {
		if errs.KindOf(err) == errs.Invalid {
			return r, invalid(err, "cannot use the kernel %q", b.k.Name)
		}
		return r, fmt.Errorf("cannot make the kernel %q: %w", b.k.Name, err)
	}
	if err := os.MkdirAll(b.tree, 0o700); err != nil { // a kernel may have no modules
		return fail(err)
	}
	b.send("checking %s", b.k.Name)
	set, err := kmod.Scan(ctx, os.DirFS(b.tree))
	if err != nil {
		return fail(b.blame(err))
	}
	parts := partsWith(b.s.o.Modules)
	if err := b.check(parts, set); err != nil {
		return fail(err)
	}
	b.send("indexing the modules of %s", b.k.Name)
	if err := b.makeModules(ctx, parts, set); err != nil {
		return fail(err)
	}
	return b.publish(ctx)
}

// blame makes the state of a user's modules the user's to mend. Those of Debian's
// packages are not.
func (b *builder) blame(err error) error {
	if b.k.Origin.Kind == vm.OriginDebian || notTheFiles(err) {
		return err
	}
	return errs.New(errs.Invalid, "%w", err)
}

// check compares modules with the kernel, and asks of both what a guest needs.
func (b *builder) check(parts []part, set *kmod.Set) error {
	for _, m := range set.Modules() {
		switch release := m.Release(); {
		case release == "":
		case b.k.Release == "":
			b.k.Release = release
		case release != b.k.Release:
			return errs.New(errs.Invalid, "its release is %q, and the module %q is for %q", b.k.Release, m.Name, release).
				WithHint("give the modules that were built with this kernel")
		}
	}
	if b.k.Release == "" {
		return errs.New(errs.Invalid, "it does not say which release it is: it is no Linux").WithHint("give a vmlinux or a bzImage")
	}
	var config kconfig.Config
	if len(b.config) > 0 {
		var err error
		if config, err = kconfig.Parse(b.config); err != nil {
			return errs.New(errs.Invalid, "its configuration cannot be read: %w", err).WithHint("give --config a file such as /boot/config-%s", b.k.Release)
		}
	}
	b.k.Options, b.k.Modules = examine(parts, config, set), len(set.Modules())
	return judge(b.k.Options, config)
}

// publish renames the folder to its final name, durably, and records the kernel. A
// name is for one content: that of another is an Exists error, except for Debian's
// kernels, whose version then is in the name.
func (b *builder) publish(ctx context.Context) (r Result, err error) {
	b.s.publishing.Lock()
	defer b.s.publishing.Unlock()
	for {
		old, err := b.s.record(ctx, b.k.Name)
		if errs.KindOf(err) == errs.NotFound || err == nil && onDisk(old) != nil {
			break
		}
		if err != nil {
			return r, err
		}
		if old.Digest == b.k.Digest && (old.ModulesDigest == b.k.ModulesDigest || old.ModulesDigest == "") {
			return Result{Kernel: old, Already: true}, nil
		}
		if name := b.k.Release + "_" + b.k.Version; b.k.Origin.Kind == vm.OriginDebian && b.k.Name != name {
			b.k.Name = name
			continue
		}
		return r, taken(b.k.Name)
	}
	final := filepath.Join(b.s.o.Dirs.Kernels(), b.k.Name)
	if err := b.place(final); err != nil {
		return r, fmt.Errorf("cannot put the kernel %q in place: %w", b.k.Name, err)
	}
	k := b.k
	k.Path, k.ModulesDisk, k.ModulesDir = filepath.Join(final, fileELF), filepath.Join(final, fileDisk), filepath.Join(final, dirModules)
	k.CreatedAt = time.Now()
	before, _, err := b.s.preferred(ctx)
	if err != nil {
		return r, err
	}
	if err := b.s.o.Store.PutKernel(ctx, k); err != nil {
		return r, err
	}
	b.s.o.Log.Info("made a kernel", "name", k.Name, "release", k.Release, "version", k.Version, "source", k.Source)
	return Result{Kernel: k, Before: before.Name}, nil
}

// taken is the error of a name that another kernel has.
func taken(name string) error {
	return errs.New(errs.Exists, "another kernel has the name %q", name).
		WithHint("choose another --name, or: banger kernel delete %s", name)
}

// place renames the folder to final. One that is there already has no record, or
// none that can be used.
func (b *builder) place(final string) error {
	if err := syncTree(b.dir); err != nil {
		return err
	}
	if exists(final) {
		old := b.dir + "-old"
		if err := os.Rename(final, old); err != nil {
			return err
		}
		b.undo.Add(func() error { return os.RemoveAll(old) })
	}
	if err := os.Rename(b.dir, final); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(final))
}

// syncTree makes all files and folders below dir durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return atomicfile.SyncDir(path) // fsync of a file opened for reading is as good
	})
}

// every returns f, called at most once in an interval.
func every(interval time.Duration, f func(int64)) func(int64) {
	var last time.Time
	return func(n int64) {
		if now := time.Now(); now.Sub(last) >= interval {
			last = now
			f(n)
		}
	}
}

// fetching reports the bytes of a download, of total or 0.
func fetching(p progress.Func, what string, total int64) func(int64) {
	return every(100*time.Millisecond, func(done int64) {
		p.Send(progress.Report{Phase: "kernel", Detail: "fetching " + what, Done: done, Total: total})
	})
}

func (s *Service) archive(ctx context.Context, allowOlder bool) (*debian.Archive, string, error) {
	root, host := s.o.AptRoot, debian.HostConfig{}
	if root == "" || root == "/" {
		root, host = "/", debian.ReadHostConfig(ctx)
	}
	sources, from, err := debian.Sources(s.o.Dirs.DebianSources(), root)
	if err != nil {
		return nil, from, err
	}
	if len(sources) == 0 {
		return nil, from, errs.New(errs.Unavailable, "the apt configuration of this host names no mirror of Debian").
			WithHint("name one in /etc/apt/sources.list.d, or in %s as apt's debian.sources does (docs/kernels.md)", s.o.Dirs.DebianSources())
	}
	var proxy func(*http.Request) (*url.URL, error)
	if s.o.Proxy != nil {
		proxy = s.o.Proxy()
	}
	a, err := debian.Open(debian.Options{
		Sources: sources, Keyring: s.o.Keyring, Cache: s.o.Dirs.Downloads(), Host: host, Proxy: proxy, Dates: s.o.Store, AllowOlder: allowOlder,
	})
	return a, from, err
}
