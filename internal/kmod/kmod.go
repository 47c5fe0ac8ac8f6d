// Package kmod knows the loadable modules of a Linux kernel: what each needs,
// in which order to load them, and the index files by which modprobe finds them.
//
// Words: a module's name has underscores where its file may have hyphens; a
// built-in module is part of the kernel and has no file; a dependency must be
// loaded before the module; a soft dependency should be. A tree is the content
// of /lib/modules/<release>.
package kmod

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"banger/internal/base/errs"
)

// Bounds of a tree. Debian's cloud kernel has 1138 modules, the largest of 20 MB.
const (
	maxModules = 1 << 16
	maxModule  = 256 << 20
	maxText    = 16 << 20
	// maxWindow bounds the memory of a decoder.
	maxWindow = 64 << 20
)

// Module is one loadable module.
type Module struct {
	// Name has underscores only.
	Name string
	// Path is the file's place in the tree, with slashes.
	Path string
	info modinfo
}

// Release is that of the kernel which the module was built for, or "" if it does not
// say.
func (m Module) Release() string { return m.info.release }

// Set is the modules of a tree. It does not change.
type Set struct {
	// modules is in the order of modules.order, the rest by path.
	modules []Module
	byName  map[string]int
	builtin []string // names, sorted
	// builtinAliases are pairs of an alias and a module's name.
	builtinAliases [][2]string
}

// Normalize returns a module's name as the kernel prints it.
func Normalize(name string) string { return strings.ReplaceAll(name, "-", "_") }

// extensions of module files, each with what undoes its compression.
var extensions = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}

// NameOf returns the name of the module in a file, or "" if it is none.
func NameOf(file string) string {
	for _, ext := range extensions {
		if stem, ok := strings.CutSuffix(path.Base(file), ext); ok && stem != "" {
			return Normalize(stem)
		}
	}
	return ""
}

// Scan reads the modules below tree, with modules.order, modules.builtin and
// modules.builtin.modinfo where they exist. Of two files with one module the
// first by path counts.
func Scan(ctx context.Context, tree fs.FS) (*Set, error) {
	s := &Set{byName: map[string]int{}}
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name := NameOf(file)
		if _, twice := s.byName[name]; name == "" || twice {
			return nil
		}
		if len(s.modules) == maxModules {
			return fmt.Errorf("there are more than %d", maxModules)
		}
		s.byName[name] = len(s.modules)
		s.modules = append(s.modules, Module{Name: name, Path: file})
		return nil
	})
	if err == nil {
		err = s.readLists(tree)
	}
	if err == nil {
		err = s.readModinfo(ctx, tree)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the kernel modules: %w", err)
	}
	return s, nil
}

// readLists reads the text files that come with a kernel.
func (s *Set) readLists(tree fs.FS) error {
	order, err := readText(tree, "modules.order")
	if err != nil {
		return err
	}
	// By name, for modules.order says ".ko" whatever the compression; negative, so
	// that modules it does not list come last.
	rank := map[string]int{}
	for line := range strings.Lines(order) {
		if name := NameOf(strings.TrimSpace(line)); name != "" {
			rank[name] = len(rank) - len(order)
		}
	}
	slices.SortStableFunc(s.modules, func(a, b Module) int { return rank[a.Name] - rank[b.Name] })
	for i, m := range s.modules {
		s.byName[m.Name] = i
	}
	builtin, err := readText(tree, "modules.builtin")
	if err != nil {
		return err
	}
	for line := range strings.Lines(builtin) {
		if name := NameOf(strings.TrimSpace(line)); name != "" {
			s.builtin = append(s.builtin, name)
		}
	}
	slices.Sort(s.builtin)
	s.builtin = slices.Compact(s.builtin)
	info, err := readText(tree, "modules.builtin.modinfo")
	if err != nil {
		return err
	}
	for entry := range strings.SplitSeq(info, "\x00") {
		name, field, _ := strings.Cut(entry, ".")
		if alias, ok := strings.CutPrefix(field, "alias="); ok {
			s.builtinAliases = append(s.builtinAliases, [2]string{alias, Normalize(name)})
		}
	}
	return nil
}

// readText returns a file of the tree; one that is missing is empty.
func readText(tree fs.FS, name string) (string, error) {
	f, err := tree.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxText)
	}
	return string(text), err
}

// readModinfo fills every module's info, on all CPUs: nearly all of the time goes
// into decompression.
func (s *Set) readModinfo(ctx context.Context, tree fs.FS) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *Module)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(s.modules)) {
		workers.Go(func() {
			for m := range next {
				data, err := Read(tree, m.Path)
				if err == nil {
					m.info, err = readInfo(data)
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", m.Path, err))
				}
			}
		})
	}
	for i := range s.modules {
		select {
		case next <- &s.modules[i]:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// Read returns the module in a file of the tree, uncompressed.
func Read(tree fs.FS, file string) ([]byte, error) {
	f, err := tree.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var plain io.Reader = f
	switch path.Ext(file) {
	case ".xz":
		plain, err = xz.NewReader(f, maxWindow)
	case ".gz":
		plain, err = gzip.NewReader(f)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			defer z.Close()
			plain = z
		}
	}
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	n, err := io.Copy(&data, io.LimitReader(plain, maxModule+1))
	if err == nil && n > maxModule {
		err = fmt.Errorf("the module is larger than %d MiB", maxModule>>20)
	}
	return data.Bytes(), err
}

// Modules returns all loadable modules. The caller must not change the slice.
func (s *Set) Modules() []Module { return s.modules }

// Known says whether a module is in the tree or built in.
func (s *Set) Known(name string) bool {
	name = Normalize(name)
	_, ok := s.byName[name]
	return ok || s.isBuiltin(name)
}

// Builtin says whether modules.builtin lists a module.
func (s *Set) Builtin(name string) bool { return s.isBuiltin(Normalize(name)) }

// Lists says whether the tree has a list of the built-in modules: without it nothing
// is known of them.
func (s *Set) Lists() bool { return len(s.builtin) > 0 }

func (s *Set) isBuiltin(name string) bool {
	_, ok := slices.BinarySearch(s.builtin, name)
	return ok
}

// Order returns the modules to load so that all of wanted work, each after what
// it depends on, and otherwise in the order of wanted. Built-in modules are left
// out. Soft dependencies that come before a module are included if the tree has
// them by name; those that come after it are not. An unknown module is a
// NotFound error.
func (s *Set) Order(wanted ...string) ([]Module, error) {
	o := ordering{set: s, state: map[string]visit{}}
	for _, name := range wanted {
		if err := o.add(Normalize(name)); err != nil {
			return nil, err
		}
	}
	return o.list, nil
}

type visit int

const (
	unseen visit = iota
	entered
	done
)

// ordering is a walk in depth, with state for each name.
type ordering struct {
	set   *Set
	state map[string]visit
	list  []Module
	// hardOnly leaves soft dependencies out.
	hardOnly bool
}

func (o *ordering) add(name string) (err error) {
	i, ok := o.set.byName[name]
	switch {
	case o.state[name] == done || o.set.isBuiltin(name):
		return nil
	case o.state[name] == entered:
		return fmt.Errorf("cannot order the kernel modules: %q depends on itself", name)
	case !ok:
		return errs.New(errs.NotFound, "cannot find the kernel module %q", name)
	}
	o.state[name] = entered
	defer func() {
		if err != nil {
			o.state[name] = unseen // a soft dependency that failed may be wanted by another
		}
	}()
	m := o.set.modules[i]
	if !o.hardOnly {
		for _, soft := range m.info.pre {
			_ = o.add(soft) // unknown or circular: it was but a wish
		}
	}
	for _, dep := range m.info.depends {
		if err := o.add(dep); err != nil {
			return fmt.Errorf("%w (needed by %q)", err, name)
		}
	}
	o.state[name] = done
	o.list = append(o.list, m)
	return nil
}
