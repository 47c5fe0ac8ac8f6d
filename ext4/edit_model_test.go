package ext4

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// editStep is a change that the image, the model and the kernel can make.
type editStep struct {
	op       string
	path, to string
	a        Attr
	n        int64 // a size, offset or device number
	data     []byte
}

func (s editStep) String() string {
	return fmt.Sprintf("%s %s %s mode=%o n=%d len=%d", s.op, s.path, s.to, s.a.Mode, s.n, len(s.data))
}

// stepper is what steps are made on.
type stepper interface {
	step(s editStep) error
}

// txSteps makes them in a transaction.
type txSteps struct{ *Tx }

func (x txSteps) step(s editStep) error {
	switch s.op {
	case "mkdir":
		return x.Mkdir(s.path, s.a)
	case "write":
		return x.WriteFile(s.path, bytes.NewReader(s.data), s.a)
	case "overwrite":
		w, err := x.Modify(s.path)
		if err != nil {
			return err
		}
		_, err = w.WriteAt(s.data, s.n)
		return errors.Join(err, w.Close())
	case "truncate":
		return x.Truncate(s.path, s.n)
	case "chmod":
		return x.Chmod(s.path, s.a.Mode)
	case "chown":
		return x.SetOwner(s.path, s.a.UID, s.a.GID)
	case "times":
		return x.SetTimes(s.path, time.Time{}, s.a.ModTime)
	case "symlink":
		return x.Symlink(s.to, s.path, s.a)
	case "link":
		return x.Link(s.path, s.to)
	case "mknod":
		return x.Mknod(s.path, fs.ModeDevice|fs.ModeCharDevice, 1, uint32(s.n), s.a)
	case "rename":
		return x.Rename(s.path, s.to)
	case "remove":
		return x.Remove(s.path)
	case "removeall":
		return x.RemoveAll(s.path)
	case "setxattr":
		return x.SetXattr(s.path, s.to, s.data)
	case "removexattr":
		return x.RemoveXattr(s.path, s.to)
	}
	panic(s.op)
}

// model is a file system in memory, the simplest that can say what must happen. Its
// paths have no links in them, but at the end.
type model struct{ names map[string]*modelFile }

type modelFile struct {
	line
	data []byte
	// stamped: the time is one that was set, and not that of a change.
	stamped bool
}

func newModel() *model {
	return &model{map[string]*modelFile{".": {line: line{mode: 0o040755}}}}
}

func (f *modelFile) isDir() bool { return f.mode&0xf000 == 0x4000 }
func (f *modelFile) isLnk() bool { return f.mode&0xf000 == 0xa000 }
func (f *modelFile) isReg() bool { return f.mode&0xf000 == 0x8000 }

// entry finds a file and what its parent is.
func (m *model) entry(p string) (f, parent *modelFile, err error) {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		d := m.names[dir]
		switch {
		case d != nil && !d.isDir():
			err = syscall.ENOTDIR // the highest fault counts
			if d.isLnk() {
				err = syscall.ENOENT // links lead nowhere
			}
		case d == nil:
			err = syscall.ENOENT
		}
		if dir == "." {
			break
		}
	}
	return m.names[p], m.names[path.Dir(p)], err
}

func (m *model) children(p string) (list []string) {
	for n := range m.names {
		if p == "." && n != "." || strings.HasPrefix(n, p+"/") {
			list = append(list, n)
		}
	}
	return list
}

func (m *model) add(p string, parent *modelFile, kind uint16, a *Attr) *modelFile {
	f := &modelFile{line: line{mode: kind | modeBits(a.Mode), uid: a.UID, gid: a.GID, attrs: map[string][]byte{}}}
	m.names[p] = f
	parent.stamped = false
	return f
}

func (m *model) step(s editStep) error {
	f, parent, err := m.entry(s.path)
	if err != nil {
		if s.op == "removeall" && err == syscall.ENOENT {
			return nil
		}
		return err
	}
	need := func() error {
		if f == nil {
			return syscall.ENOENT
		}
		return nil
	}
	isNew := func() error {
		if f != nil {
			return syscall.EEXIST
		}
		return nil
	}
	switch s.op {
	case "mkdir":
		if f == nil {
			m.add(s.path, parent, 0x4000, &s.a)
			return nil
		}
		if !f.isDir() {
			return syscall.EEXIST
		}
		f.mode, f.uid, f.gid = f.mode&0xf000|modeBits(s.a.Mode), s.a.UID, s.a.GID
	case "write":
		if f == nil {
			f = m.add(s.path, parent, 0x8000, &s.a)
		}
		if f.isDir() {
			return syscall.EISDIR
		}
		if !f.isReg() {
			return syscall.EINVAL
		}
		f.mode, f.uid, f.gid = f.mode&0xf000|modeBits(s.a.Mode), s.a.UID, s.a.GID
		f.data, f.stamped = s.data, false
	case "overwrite", "truncate":
		if err := need(); err != nil {
			return err
		}
		if f.isDir() {
			return syscall.EISDIR
		}
		if !f.isReg() {
			return syscall.EINVAL
		}
		size := max(int64(len(f.data)), s.n+int64(len(s.data)))
		if s.op == "truncate" {
			size = s.n
		}
		b := make([]byte, size)
		copy(b, f.data)
		if s.op == "overwrite" {
			copy(b[s.n:], s.data)
		}
		f.data, f.stamped = b, false
	case "chmod":
		if f == nil || f.isLnk() {
			return syscall.ENOENT
		}
		f.mode = f.mode&0xf000 | modeBits(s.a.Mode)
	case "chown":
		if err := need(); err != nil {
			return err
		}
		f.uid, f.gid = s.a.UID, s.a.GID
	case "times":
		if err := need(); err != nil {
			return err
		}
		f.mtime, f.stamped = s.a.ModTime.UnixNano(), true
	case "symlink":
		if err := isNew(); err != nil {
			return err
		}
		m.add(s.path, parent, 0xa000, &Attr{Mode: 0o777, UID: s.a.UID, GID: s.a.GID}).target = s.to
	case "mknod":
		if err := isNew(); err != nil {
			return err
		}
		d := m.add(s.path, parent, 0x2000, &s.a)
		d.major, d.minor = 1, uint32(s.n)
	case "link":
		if err := need(); err != nil {
			return err
		}
		if f.isDir() {
			return syscall.EPERM
		}
		to, toParent, err := m.entry(s.to)
		if err != nil {
			return err
		}
		if to != nil {
			return syscall.EEXIST
		}
		m.names[s.to] = f
		toParent.stamped = false
	case "remove", "removeall":
		if f == nil && s.op == "removeall" {
			return nil
		}
		if err := need(); err != nil {
			return err
		}
		below := m.children(s.path)
		if len(below) > 0 && s.op == "remove" {
			return syscall.ENOTEMPTY
		}
		for _, p := range append(below, s.path) {
			delete(m.names, p)
		}
		parent.stamped = false
	case "rename":
		return m.rename(s, f, parent)
	case "setxattr", "removexattr":
		if err := need(); err != nil {
			return err
		}
		if s.op == "removexattr" {
			if _, ok := f.attrs[s.to]; !ok {
				return syscall.ENODATA
			}
			delete(f.attrs, s.to)
			return nil
		}
		if !f.isDir() && !f.isReg() {
			return syscall.EPERM
		}
		f.attrs[s.to] = s.data
	default:
		panic(s.op)
	}
	return nil
}

func (m *model) rename(s editStep, f, parent *modelFile) error {
	if f == nil {
		return syscall.ENOENT
	}
	to, toParent, err := m.entry(s.to)
	switch {
	case err != nil:
		return err
	case f == to:
		return nil
	case f.isDir() && strings.HasPrefix(s.to, s.path+"/"):
		return syscall.EINVAL
	case to == nil:
	case f.isDir() && !to.isDir():
		return syscall.ENOTDIR
	case to.isDir() && len(m.children(s.to)) > 0:
		return syscall.ENOTEMPTY
	case to.isDir() && !f.isDir():
		return syscall.EISDIR
	}
	for _, p := range m.children(s.path) {
		m.names[s.to+p[len(s.path):]] = m.names[p]
		delete(m.names, p)
	}
	m.names[s.to] = f
	delete(m.names, s.path)
	parent.stamped, toParent.stamped = false, false
	return nil
}

// lines is the model's tree.
func (m *model) lines() treeLines {
	first, count := map[*modelFile]string{}, map[*modelFile]uint32{}
	for _, p := range slices.Sorted(maps.Keys(m.names)) {
		f := m.names[p]
		if count[f]++; count[f] == 1 {
			first[f] = p
		}
	}
	out := treeLines{}
	for p, f := range m.names {
		l := f.line
		l.links = count[f]
		if f.isDir() {
			l.links = 2
			for _, c := range m.children(p) {
				if path.Dir(c) == p && m.names[c].isDir() {
					l.links++
				}
			}
		} else if count[f] > 1 {
			l.same = first[f]
		}
		if f.isReg() {
			l.size, l.hash = int64(len(f.data)), sha256.Sum256(f.data)
		}
		if !f.stamped {
			l.mtime = 0
		}
		out[p] = l.String()
	}
	return out
}

// unstamped takes the times out of lines for files whose time the model does not know.
func (m *model) unstamped(l treeLines) treeLines {
	for p, f := range m.names {
		if !f.stamped {
			l[p] = noTime(l[p])
		}
	}
	return l
}

func noTime(s string) string {
	before, after, ok := strings.Cut(s, " at ")
	if !ok {
		return s
	}
	_, rest, more := strings.Cut(after, " ")
	if more {
		return before + " " + rest
	}
	return before
}

// randomStep makes up a step on a few names, so that most steps meet something.
func randomStep(rng *rand.Rand, oldInodes bool) editStep {
	names := []string{"a", "b", "c", "dd", "eee", "f f", "a name that is rather long, so that directories fill up"}
	pick := func() string {
		p := names[rng.IntN(len(names))]
		for rng.IntN(3) > 0 && len(p) < 200 {
			p += "/" + names[rng.IntN(len(names))]
		}
		return p
	}
	ops := []string{"mkdir", "mkdir", "mkdir", "mkdir", "write", "write", "write", "overwrite", "overwrite", "truncate", "chmod", "chown",
		"times", "symlink", "link", "mknod", "rename", "rename", "rename", "remove", "remove", "setxattr", "setxattr", "removexattr"}
	s := editStep{op: ops[rng.IntN(len(ops))], path: pick()}
	if rng.IntN(60) == 0 {
		s.op = "removeall"
	}
	s.a = Attr{Mode: fs.FileMode(rng.IntN(0o1000)), UID: rng.Uint32N(100000), GID: rng.Uint32N(100000)}
	if rng.IntN(4) == 0 {
		s.a.Mode |= fs.ModeSetuid
	}
	switch s.op {
	case "write":
		s.data = pattern(rng.IntN(256), rng.IntN(1<<rng.IntN(18)))
	case "overwrite":
		s.data, s.n = pattern(rng.IntN(256), 1+rng.IntN(20000)), rng.Int64N(1<<rng.IntN(20))
	case "truncate":
		s.n = rng.Int64N(1 << rng.IntN(20))
	case "times":
		s.a.ModTime = time.Unix(rng.Int64N(1<<33)-1<<31, rng.Int64N(1e9))
		if oldInodes {
			s.a.ModTime = time.Unix(rng.Int64N(1<<31), 0)
		}
	case "symlink":
		s.to = "nowhere/" + strings.Repeat("t", 1+rng.IntN(120))
	case "link", "rename":
		s.to = pick()
	case "mknod":
		s.n = rng.Int64N(1 << 20)
	case "setxattr", "removexattr":
		s.to = fmt.Sprint("user.", rng.IntN(4))
		s.data = pattern(rng.IntN(256), rng.IntN(100))
	}
	return s
}

// sameError says whether two errors of one step are the same, as far as the
// kernel's are to be expected: which of two faults is told first may differ.
func sameError(a, b error) bool { return (a == nil) == (b == nil) }

// TestEditModel makes random changes on images and on a model in memory, and compares
// the trees, also with the kernel's own result where it can mount.
func TestEditModel(t *testing.T) {
	steps := 250
	if testing.Short() {
		steps = 80
	}
	for i, im := range editImages {
		t.Run(im.name, func(t *testing.T) {
			t.Parallel()
			p := mkfsImage(t, im.args, im.mib)
			session(t, p, func(x *Tx) { must(t, x.RemoveAll("/lost+found")); must(t, x.Mkdir("/", Attr{Mode: 0o755})) })
			kernel := newKernel(t, im.args, im.mib)
			m := newModel()
			seed := uint64(7)
			if n, err := strconv.ParseUint(os.Getenv("BANGER_EXT4_SEED"), 10, 64); err == nil {
				seed = n // for a long run
			}
			rng := rand.New(rand.NewPCG(uint64(i), seed))
			oldInodes := strings.Contains(im.args, "-I 128") || strings.Contains(im.args, "ext3") || strings.Contains(im.args, "ext2")
			x := begin(t, p)
			defer func() { x.Close() }()
			for n := range steps {
				s := randomStep(rng, oldInodes)
				want := m.step(s)
				got := txSteps{x}.step(s)
				if errors.Is(got, syscall.ENOSPC) {
					t.Fatalf("%d: %v: %v", n, s, got)
				}
				if !sameError(got, want) {
					t.Fatalf("step %d: %v: %v, the model says %v", n, s, got, want)
				}
				if err := kernel.step(s); !sameError(err, want) {
					t.Fatalf("step %d: %v: the kernel says %v, the model %v", n, s, err, want)
				}
				if n%23 == 22 {
					if d := m.unstamped(mustManifest(t, x.FS())).diff(m.lines()); d != "" {
						t.Fatalf("after step %d, %v:\n%s", n, s, d)
					}
				}
				if rng.IntN(30) == 0 {
					must(t, x.Commit())
					quietAfter(t, p)
					x = begin(t, p)
				}
			}
			must(t, x.Commit())
			quietAfter(t, p)
			want := m.lines()
			f, im := opened(t, p)
			defer f.Close()
			ours := m.unstamped(mustManifest(t, im))
			if d := ours.diff(want); d != "" {
				t.Fatalf("after all: %s", d)
			}
			t.Logf("%d files; mounted: %v", len(want), kernel.root != "")
			kernel.compare(t, p, m, want)
		})
	}
}
