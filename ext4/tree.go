package ext4

import (
	"fmt"
	"hash/maphash"
	"io/fs"
	"math/bits"
	"slices"
	"strings"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// The tree of an image that is being built is kept in memory, about 120 bytes a
// file and its name; what files contain is on the disk already.

// node is an inode to be.
type node struct {
	mode     uint16
	links    uint32
	uid, gid uint32
	ino      uint32 // 0 before finish
	blocks   uint32 // of the contents, if they lie in one run from start
	start    uint64
	size     uint64 // for devices: the number
	mtime    disk.Time
	more     *nodeMore
}

// nodeMore is what few inodes have.
type nodeMore struct {
	atime, ctime disk.Time
	times        bool          // whether they are set; else they are mtime
	extents      []disk.Extent // where the contents are not one run
	attrs        []byte        // the area of attributes in the inode
	attrBlock    []byte        // and the block of them
	link         string        // the target of a symbolic link
	dir          *directory

	// What finish finds out.
	indexed   bool      // a directory with an index
	attrAt    uint64    // where attrBlock has gone
	tree      *[60]byte // i_block of extents that are more than one run
	treeNodes uint32    // the blocks that the tree takes
}

func (n *node) rest() *nodeMore {
	if n.more == nil {
		n.more = new(nodeMore)
	}
	return n.more
}

func (n *node) isDir() bool { return n.mode&disk.ModeFmt == disk.ModeDir }

// dir and link are those of a directory or a symbolic link; else nil and "".
func (n *node) dir() *directory {
	if n.more == nil {
		return nil
	}
	return n.more.dir
}

func (n *node) link() string {
	if n.more == nil {
		return ""
	}
	return n.more.link
}

// setMeta takes over all of m but what it is and holds.
func (n *node) setMeta(m *node) {
	n.mode = n.mode&disk.ModeFmt | m.mode&^disk.ModeFmt
	n.uid, n.gid, n.mtime = m.uid, m.gid, m.mtime
	if m.more == nil && n.more == nil {
		return
	}
	to, from := n.rest(), m.rest()
	to.atime, to.ctime, to.times = from.atime, from.ctime, from.times
	to.attrs, to.attrBlock = from.attrs, from.attrBlock
}

// eachExtent yields where the contents lie.
func (n *node) eachExtent(yield func(disk.Extent)) {
	if n.blocks > 0 {
		yield(disk.Extent{Len: n.blocks, Physical: n.start})
	}
	if n.more != nil {
		for _, e := range n.more.extents {
			yield(e)
		}
	}
}

// directory is a directory's contents.
type directory struct {
	self, parent *node
	entries      []dirent
	// index finds names once there are more than a few: a hash table of 1 + the place in
	// entries, 0 where it is free, of which a power of two are. A name is in the first
	// such place from its hash on. Removed entries keep theirs until it is made anew.
	index   []int32
	indexed int   // places that are taken
	live    int   // entries that are not removed
	cleared int32 // the last layer that has hidden all from before it
}

// dirent is a name; node is nil once it is removed.
type dirent struct {
	name  string
	node  *node
	layer int32 // the layer that has put it there, or said it again
	hash  uint32
}

// fewEntries is up to how many names a directory is searched without an index.
const fewEntries = 8

// hashSeed differs in each process, so that nobody can choose names that collide.
var hashSeed = maphash.MakeSeed()

func hashOf(name string) uint32 { return uint32(maphash.String(hashSeed, name)) }

func (d *directory) find(name string) *dirent {
	if d.index != nil {
		hash, mask := hashOf(name), uint32(len(d.index)-1)
		for i := hash & mask; d.index[i] != 0; i = (i + 1) & mask {
			if e := &d.entries[d.index[i]-1]; e.hash == hash && e.node != nil && e.name == name {
				return e
			}
		}
		return nil
	}
	for i := range d.entries {
		if e := &d.entries[i]; e.node != nil && e.name == name {
			return e
		}
	}
	return nil
}

// add puts a name there that is not yet, and which nobody changes.
func (d *directory) add(name string, n *node, layer int32) {
	d.entries = append(d.entries, dirent{name, n, layer, hashOf(name)})
	d.live++
	switch {
	case len(d.entries) <= fewEntries:
	case 4*(d.indexed+1) > 3*len(d.index): // also where there is none yet
		d.makeIndex()
	default:
		d.enter(len(d.entries) - 1)
	}
}

// makeIndex makes the index anew, without the entries that are removed: else a name that is
// replaced time and again would make each time take longer.
func (d *directory) makeIndex() {
	d.entries = slices.DeleteFunc(d.entries, func(e dirent) bool { return e.node == nil })
	d.index, d.indexed = nil, 0
	if len(d.entries) <= fewEntries {
		return
	}
	d.index = make([]int32, 1<<bits.Len(uint(2*len(d.entries))))
	for i := range d.entries {
		d.enter(i)
	}
}

// enter puts an entry into the index, which has room.
func (d *directory) enter(entry int) {
	mask := uint32(len(d.index) - 1)
	i := d.entries[entry].hash & mask
	for d.index[i] != 0 {
		i = (i + 1) & mask
	}
	d.index[i] = int32(entry) + 1
	d.indexed++
}

func (d *directory) drop(e *dirent) {
	e.name, e.node = "", nil
	d.live--
}

// nameChunk is how many bytes of names share one allocation.
const nameChunk = 32 << 10

// keep returns a copy of a name. Many lie in one string, which takes half of what a
// string for each would.
func (b *Builder) keep(name string) string {
	if b.names.Cap()-b.names.Len() < len(name) {
		b.names = new(strings.Builder)
		b.names.Grow(max(nameChunk, len(name)))
	}
	at := b.names.Len()
	b.names.WriteString(name) // does not move what is there: there is room
	return b.names.String()[at:]
}

// newNode gives an inode; they come from larger pieces, which are kinder to the
// garbage collector.
func (b *Builder) newNode() *node {
	if len(b.slab) == 0 {
		b.slab = make([]node, 256)
	}
	n := &b.slab[0]
	b.slab = b.slab[1:]
	return n
}

// impliedMode is that of directories that nothing is said about.
const impliedMode = 0o755

func (b *Builder) newDir(parent *node, mode uint16) *node {
	n := b.newNode()
	n.mode, n.links, n.mtime = disk.ModeDir|mode, 1, diskTime(b.opts.Time)
	n.more = &nodeMore{dir: &directory{self: n, parent: parent}}
	return n
}

// put adds a name to a directory, in place of what was there.
func (b *Builder) put(d *directory, name string, n *node) error {
	if len(name) > dir.MaxName {
		return errTooLong
	}
	if n.links > disk.MaxLinks {
		return fmt.Errorf("more than %d hard links to one file", disk.MaxLinks)
	}
	if e := d.find(name); e != nil {
		b.remove(d, e)
	}
	d.add(b.keep(name), n, b.layer)
	return nil
}

// remove takes an entry away, and all below it.
func (b *Builder) remove(d *directory, e *dirent) {
	n := e.node
	if n.isDir() || n.link() != "" {
		b.lastDir = nil // paths may lead elsewhere now
	}
	d.drop(e)
	b.release(n)
}

// release ends one name of an inode; with the last one its blocks are free.
func (b *Builder) release(n *node) {
	if c := n.dir(); c != nil {
		for i := range c.entries {
			if below := c.entries[i].node; below != nil {
				b.release(below)
			}
		}
		c.entries, c.index, c.indexed, c.live = nil, nil, 0, 0
	}
	if n.links--; n.links == 0 {
		n.eachExtent(func(e disk.Extent) { b.space.give(span{e.Physical, e.Physical + uint64(e.Len)}) })
	}
}

// walk finds the directory that a path names, from at on. Links are followed
// inside the image; ".." does not lead above the root. Directories that are
// missing are made if create is set; else the error is fs.ErrNotExist.
func (b *Builder) walk(path string, at *directory, hops *int, create bool) (*directory, error) {
	for path != "" {
		part, rest, _ := strings.Cut(path, "/")
		path = rest
		switch part {
		case "", ".":
			continue
		case "..":
			at = at.parent.dir()
			continue
		}
		e := at.find(part)
		switch {
		case e == nil && !create:
			return nil, fs.ErrNotExist
		case e == nil:
			if err := b.charge(nodeMemory + dirMemory + len(part)); err != nil {
				return nil, err
			}
			n := b.newDir(at.self, impliedMode)
			if err := b.put(at, part, n); err != nil {
				return nil, err
			}
			at = n.dir()
		case e.node.isDir():
			at = e.node.dir()
		case e.node.mode&disk.ModeFmt == disk.ModeSymlink:
			if *hops++; *hops > maxHops {
				return nil, errLoop
			}
			target := e.node.link()
			if strings.HasPrefix(target, "/") {
				at = b.root.dir()
			}
			var err error
			if at, err = b.walk(target, at, hops, create); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%q is %w", part, errNotDir)
		}
	}
	return at, nil
}

// parent finds the directory that an entry of an archive goes into. The directory
// of the entry before is remembered.
func (b *Builder) parent(head string) (*directory, error) {
	if b.lastDir != nil && head == b.lastHead {
		return b.lastDir, nil
	}
	if len(head) > maxPath {
		return nil, errTooLong
	}
	hops := 0
	d, err := b.walk(head, b.root.dir(), &hops, true)
	if err == nil {
		b.lastHead, b.lastDir = head, d
	}
	return d, err
}
