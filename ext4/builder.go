package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"

	"banger/ext4/internal/tarfile"
)

// Builder makes an image out of a tree: NewBuilder, then any of Tar, Layers and FS,
// then Finish. What files contain goes straight to its place; the tree itself is
// kept in memory, at about 250 bytes a file. What comes later replaces what came
// before. After an error, or without Finish, the file holds no file system.
//
// A Builder is not safe for concurrent use.
type Builder struct {
	f     ResizableFile
	opts  Options
	plan  *layout // nil for a packed image
	space space
	stage stage
	err   error // what made the image useless
	root  *node
	slab  []node
	names *strings.Builder // the names of entries

	layer     int32 // counts calls of Tar and FS, and layers
	whiteouts bool  // of this layer
	lastHead  string
	lastDir   *directory
	deferred  []record // hard links whose target has not come yet
	charged   atomic.Int64
}

// charge counts memory against MaxMemory.
func (b *Builder) charge(bytes int) error {
	if n := b.charged.Add(int64(bytes)); b.opts.MaxMemory > 0 && n > b.opts.MaxMemory {
		return fmt.Errorf("%w: describing them takes more than %d MiB of memory", ErrTooMany, b.opts.MaxMemory>>20)
	}
	return nil
}

// nodeMemory is what an entry takes besides its name: node, place in the directory, in its
// index and in the list of inodes, and half as much again for what is not collected yet.
// moreMemory is nodeMore, and dirMemory that and a directory, with what finish makes of it.
const (
	nodeMemory = 250
	moreMemory = 176
	dirMemory  = moreMemory + 320
)

// memory is roughly what a record keeps in memory.
func (r *record) memory() int {
	n := nodeMemory + len(r.name) + len(r.link)
	if r.node != nil && r.node.more != nil {
		m := r.node.more
		n += moreMemory + len(m.link) + (len(m.attrs)+len(m.attrBlock)+16*len(m.extents))*3/2
		if m.dir != nil {
			n += dirMemory - moreMemory
		}
	}
	return n
}

// packedHead is how many blocks a packed image keeps for its superblock and group
// descriptors: enough for 1 TiB of content. What is left over holds directories.
const packedHead = 1 + 128

// NewBuilder begins an image in f, of which it takes possession: what f held is
// gone. o may be nil.
func NewBuilder(f ResizableFile, o *Options) (*Builder, error) {
	b := &Builder{f: f, stage: stage{f: f}, names: new(strings.Builder)}
	if o != nil {
		b.opts = *o
	}
	if err := b.opts.check(); err != nil {
		return nil, err
	}
	if b.opts.Size == 0 {
		b.space.next = packedHead
	} else {
		plan, err := planLayout(&b.opts)
		if err != nil {
			return nil, err
		}
		b.plan = plan
		b.space.taken, b.space.end = plan.taken, plan.sb.Blocks()
	}
	if err := empty(f); err != nil {
		return nil, err
	}
	if b.opts.Size > 0 {
		if err := f.Truncate(b.opts.Size); err != nil {
			return nil, err
		}
	}
	b.root = b.newDir(nil, 0o755)
	b.root.more.dir.parent = b.root
	return b, nil
}

// empty takes away what f holds. A file that holds nothing is left as it is: of one that
// was cut to nothing, ext4 on the host writes everything out when it is closed
// (auto_da_alloc, in ext4(5)).
func empty(f ResizableFile) error {
	var b [1]byte
	if n, err := f.ReadAt(b[:], 0); n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return f.Truncate(0)
}

// Format makes an empty file system of o.Size bytes in f: Builder without content.
func Format(f ResizableFile, o *Options) error {
	if o == nil || o.Size == 0 {
		return errors.New("ext4: Format needs a size")
	}
	b, err := NewBuilder(f, o)
	if err != nil {
		return err
	}
	return b.Finish()
}

// ErrTooMany says that content has more names, attributes or pieces than
// [Options].MaxMemory allows.
var ErrTooMany = errors.New("there is too much in it")

// record is one entry on its way into the tree.
type record struct {
	kind byte // as in tarfile
	name string
	link string
	node *node // nil for hard links
}

// entryError names the entry that could not be taken.
func entryError(name string, err error) error {
	if len(name) > 300 {
		name = name[:300] + "…"
	}
	return fmt.Errorf("entry %q: %w", name, err)
}

// errDotDot is the error of names that try to lead up.
var errDotDot = errors.New(`its name contains ".."`)

func hasDotDot(name string) bool {
	if !strings.Contains(name, "..") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// add puts a record into the tree.
func (b *Builder) add(r *record) error {
	if hasDotDot(r.name) {
		return errDotDot
	}
	head, base := splitPath(r.name)
	if base == "" { // the root itself
		if r.kind != tarfile.TypeDir {
			return errors.New("the root must be a directory")
		}
		b.root.setMeta(r.node)
		return nil
	}
	if b.whiteouts && strings.HasPrefix(base, whiteoutPrefix) && !(isMeta(base) && isRoot(head)) {
		if r.node != nil {
			b.release(r.node) // a marker may be of any type, and what it holds is nobody's
		}
		return b.whiteout(head, base)
	}
	d, err := b.parent(head)
	if err != nil {
		return err
	}
	switch r.kind {
	case tarfile.TypeDir:
		if e := d.find(base); e != nil && e.node.isDir() {
			e.node.setMeta(r.node)
			e.layer = b.layer
			return nil
		}
		r.node.more.dir.parent = d.self
		return b.put(d, base, r.node)
	case tarfile.TypeLink:
		return b.hardLink(d, base, r)
	}
	return b.put(d, base, r.node)
}

// hardLink adds a name to a file. One that is not there yet may come later in the
// same layer.
func (b *Builder) hardLink(d *directory, base string, r *record) error {
	if hasDotDot(r.link) {
		return errors.New(`the name that it links to contains ".."`)
	}
	target, err := b.lookup(r.link)
	if errors.Is(err, fs.ErrNotExist) && !r.isLate() {
		b.deferred = append(b.deferred, record{kind: lateLink, name: r.name, link: r.link})
		return nil
	}
	if err != nil {
		return fmt.Errorf("its target %q: %w", r.link, err)
	}
	if target.isDir() {
		return fmt.Errorf("it is a hard link to the directory %q", r.link)
	}
	if e := d.find(base); e != nil && e.node == target {
		e.layer = b.layer
		return nil
	}
	target.links++ // before what stands in its place, and may hold the target, goes
	if err := b.put(d, base, target); err != nil {
		target.links--
		return err
	}
	return nil
}

// lateLink is the kind of a hard link that was put off.
const lateLink = 0

func (r *record) isLate() bool { return r.kind == lateLink }

// lookup finds what a path names; a link at its end is not followed.
func (b *Builder) lookup(path string) (*node, error) {
	if len(path) > maxPath {
		return nil, errTooLong
	}
	head, base := splitPath(path)
	hops := 0
	d, err := b.walk(head, b.root.dir(), &hops, false)
	if err != nil {
		return nil, err
	}
	if base == "" {
		return d.self, nil
	}
	if e := d.find(base); e != nil {
		return e.node, nil
	}
	return nil, fs.ErrNotExist
}

// begin starts a layer; end finishes it.
func (b *Builder) begin(whiteouts bool) {
	b.layer++
	b.whiteouts, b.lastDir = whiteouts, nil
}

func (b *Builder) end() error {
	late := b.deferred
	b.deferred = nil
	// A late link may be the target of another: the last one is tried first, since
	// its target is likely the file, and then all again while that helps.
	for range maxLatePasses {
		var left []record
		var failed error
		for _, r := range slices.Backward(late) {
			head, base := splitPath(r.name)
			d, err := b.parent(head)
			if err == nil {
				err = b.hardLink(d, base, &r)
			}
			if errors.Is(err, fs.ErrNotExist) {
				left = append(left, r)
			} else if err != nil {
				return entryError(r.name, err)
			}
			if err != nil {
				failed = entryError(r.name, err)
			}
		}
		if len(left) == 0 {
			b.removeMeta()
			return nil
		}
		if len(left) == len(late) {
			return failed
		}
		late = left
	}
	return entryError(late[0].name, errors.New("its target is a hard link to a hard link, too many times"))
}

// maxLatePasses bounds how often late links are tried.
const maxLatePasses = 40

// fail remembers the first error: the image is of no use from then on.
func (b *Builder) fail(err error) error {
	if b.err == nil && err != nil {
		b.err = err
	}
	return err
}

// Whiteouts of the OCI image specification (layer.md): a name with this prefix
// removes the one behind it as earlier layers have it; an opaque marker all that
// they have in its directory.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // AUFS's own files, in the root of a layer
)

// isMeta says whether a name is one of AUFS's own. They are in layers that Docker made
// on it: nobody is to see them, but hard links of their layer may lead to them.
func isMeta(base string) bool { return strings.HasPrefix(base, whiteoutMeta) && base != opaqueMarker }

func isRoot(path string) bool {
	path = strings.Trim(path, "/")
	return path == "" || path == "."
}

// removeMeta removes them at the end of their layer.
func (b *Builder) removeMeta() {
	if !b.whiteouts {
		return
	}
	root := b.root.dir()
	for i := range root.entries {
		if e := &root.entries[i]; e.node != nil && isMeta(e.name) {
			b.remove(root, e)
		}
	}
}

// whiteout hides what a marker in the directory head names. Where that is no directory,
// there is nothing to hide: umoci marks also what was below a directory that has become
// a file.
func (b *Builder) whiteout(head, base string) error {
	name := base[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("a whiteout of the name %q", name)
	}
	if len(head) > maxPath {
		return errTooLong
	}
	hops := 0
	d, err := b.walk(head, b.root.dir(), &hops, false)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDir):
		return nil
	case err != nil:
		return err
	case base == opaqueMarker:
		b.hideBelow(d)
	case !isMeta(base):
		if e := d.find(name); e != nil {
			b.hide(d, e)
		}
	}
	return nil
}

// hideBelow removes what earlier layers have put into a directory. Once is enough for
// a layer, however often it asks for it.
func (b *Builder) hideBelow(d *directory) {
	if d.cleared == b.layer {
		return
	}
	d.cleared = b.layer
	for i := range d.entries {
		if e := &d.entries[i]; e.node != nil {
			b.hide(d, e)
		}
	}
}

// hide removes an entry of earlier layers. Entries of this layer stay, whichever
// came first in its archive. A directory above them that this layer has no entry of
// is as if it had been made for them: nothing of it is from the earlier layer.
func (b *Builder) hide(d *directory, e *dirent) {
	if c := e.node.dir(); c != nil {
		b.hideBelow(c)
		if c.live > 0 && e.layer != b.layer {
			e.node.setMeta(b.newDir(nil, impliedMode))
			e.layer = b.layer
		}
	}
	if e.layer != b.layer {
		b.remove(d, e)
	}
}
