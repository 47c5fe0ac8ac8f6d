package ext4

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"syscall"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
	"banger/ext4/internal/jbd2"
	"banger/ext4/internal/xattr"
)

// Finish writes all metadata, the superblock last. f then holds the image, which is
// durable once the caller has synced f. The Builder is of no use any more.
func (b *Builder) Finish() error {
	if b.err != nil {
		return b.err
	}
	fin := &finisher{Builder: b, digest: sha256.New()}
	if err := fin.run(); err != nil {
		return b.fail(err)
	}
	b.err = ErrClosed
	return nil
}

// finisher turns the tree into the metadata of an image.
type finisher struct {
	*Builder
	sb     *disk.Superblock
	nodes  []*node              // by inode number, from disk.FirstIno on
	plans  map[*node]*placedDir // of directories
	digest hash.Hash            // of all metadata, where the UUID comes from
	// lastIno is the highest inode in use.
	lastIno uint32
	groups  []groupPlace
	table   uint64 // a packed image's blocks for group descriptors, at most
}

// placedDir is a directory with its blocks.
type placedDir struct {
	plan    *dir.Plan
	extents []disk.Extent
	subdirs uint32
}

const lostFound = "lost+found"

func (f *finisher) run() error {
	f.sb = f.opts.superblock()
	if f.plan != nil {
		f.sb = f.plan.sb
	}
	if err := f.addLostFound(); err != nil {
		return err
	}
	f.number()
	f.space.settle()
	if f.plan == nil {
		// Blocks of the head that no descriptor needs are the first to be used.
		f.table = f.packedTable()
		f.space.freed = joinSpans(append(f.space.freed, span{1 + f.table, packedHead}))
	}
	if err := f.layDirectories(); err != nil {
		return err
	}
	if err := f.layNodes(); err != nil {
		return err
	}
	if f.plan == nil {
		if err := f.planPacked(); err != nil {
			return err
		}
	}
	if n := f.sb.InodesCount; f.lastIno > n {
		return fmt.Errorf("the image has %d inodes, and the tree wants %d: %w", n, f.lastIno, syscall.ENOSPC)
	}
	return f.write()
}

// addLostFound makes sure that e2fsck has a place for what it finds.
func (f *finisher) addLostFound() error {
	root := f.root.dir()
	if e := root.find(lostFound); e != nil && e.node.isDir() {
		return nil
	}
	return f.put(root, lostFound, f.newDir(f.root, 0o700))
}

// number gives all inodes their numbers: directory after directory, each with its
// files, so that what is read together lies together.
func (f *finisher) number() {
	f.root.ino, f.root.links = disk.RootIno, 2
	f.lastIno = disk.FirstIno - 1
	dirs, names := f.count()
	f.plans, f.nodes = make(map[*node]*placedDir, dirs), make([]*node, 0, names)
	give := func(n *node) {
		if n.ino == 0 {
			f.lastIno++
			n.ino = f.lastIno
			f.nodes = append(f.nodes, n)
		}
	}
	give(f.root.dir().find(lostFound).node)
	for queue := []*directory{f.root.dir()}; len(queue) > 0; {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		l := &placedDir{}
		f.plans[d.self] = l
		for i := range d.entries {
			n := d.entries[i].node
			if n == nil {
				continue
			}
			give(n)
			if n.isDir() {
				l.subdirs++
				queue = append(queue, n.dir())
			}
		}
	}
}

// count returns how many directories and names there are.
func (f *finisher) count() (dirs, names int) {
	for queue := []*directory{f.root.dir()}; len(queue) > 0; dirs++ {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		names += d.live
		for i := range d.entries {
			if n := d.entries[i].node; n != nil && n.isDir() {
				queue = append(queue, n.dir())
			}
		}
	}
	return dirs, names
}

// layDirectories gives directories their blocks and writes them.
func (f *finisher) layDirectories() error {
	if err := f.layDirectory(f.root); err != nil {
		return err
	}
	for _, n := range f.nodes {
		if n.isDir() {
			if err := f.layDirectory(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// writableFill is how full, in percent, the blocks of a directory are that will
// get more names.
const writableFill = 80

func (f *finisher) layDirectory(n *node) error {
	d, l := n.dir(), f.plans[n]
	entries := make([]dir.Entry, 0, d.live)
	for i := range d.entries {
		if c := d.entries[i].node; c != nil {
			entries = append(entries, dir.Entry{Ino: c.ino, Type: disk.FileType(c.mode), Name: d.entries[i].name})
		}
	}
	d.entries, d.index = nil, nil // in a large directory they are much, and needed no more
	fill := 100
	if f.plan != nil {
		fill = writableFill
	}
	params := dir.Params{
		BlockSize: blockSize, FileType: true, Checksums: true, Index: true, Seed: f.sb.InodeSeed(n.ino, 0),
		HashVersion: f.sb.DefHashVersion, HashSeed: f.sb.HashSeed,
	}
	plan, err := params.Plan(entries, true, fill)
	if err != nil {
		return err
	}
	plan.Self, plan.Parent = n.ino, d.parent.ino
	l.plan = plan
	if l.extents, err = f.takeExtents(uint64(plan.Blocks())); err != nil {
		return err
	}
	n.size = uint64(plan.Blocks()) * blockSize
	defer func() { l.plan = nil }()
	e := l.extents
	if plan.Indexed() {
		n.rest().indexed = true
	}
	return plan.Write(func(i uint32, b []byte) error {
		for e[0].End() <= uint64(i) {
			e = e[1:]
		}
		f.digest.Write(b[len(b)-4:]) // the block's checksum
		return f.stage.write(int64(e[0].Physical+uint64(i-e[0].Logical))*blockSize, b)
	})
}

// takeExtents gives n blocks for a file of metadata.
func (f *finisher) takeExtents(n uint64) (list []disk.Extent, err error) {
	runs, err := f.space.takeAll(n, min(n, 64))
	logical := uint32(0)
	for _, r := range runs {
		list = append(list, disk.Extent{Logical: logical, Len: uint32(r.len()), Physical: r.start})
		logical += uint32(r.len())
	}
	return list, err
}

// takeBlock gives one block.
func (f *finisher) takeBlock() (uint64, error) {
	runs, err := f.space.takeAll(1, 1)
	if err != nil {
		return 0, err
	}
	return runs[0].start, nil
}

// layNodes gives blocks to what else belongs to an inode: long targets of links,
// attributes, extents that do not fit into it.
func (f *finisher) layNodes() error {
	if err := f.layNode(f.root); err != nil {
		return err
	}
	for _, n := range f.nodes {
		if err := f.layNode(n); err != nil {
			return err
		}
	}
	return f.stage.flush()
}

func (f *finisher) layNode(n *node) error {
	if n.blocks > 4*disk.MaxExtent { // more extents than an inode holds
		n.rest().extents = []disk.Extent{{Len: n.blocks, Physical: n.start}}
		n.start, n.blocks = 0, 0
	}
	m := n.more
	if m == nil {
		return nil
	}
	if len(m.link) >= len(disk.Inode{}.Block) {
		at, err := f.takeBlock()
		if err != nil {
			return err
		}
		n.start, n.blocks = at, 1
		b := make([]byte, blockSize)
		copy(b, m.link)
		if err := f.stage.write(int64(at*blockSize), b); err != nil {
			return err
		}
	}
	if m.attrBlock != nil {
		at, err := f.takeBlock()
		if err != nil {
			return err
		}
		m.attrAt = at
		xattr.SetBlockChecksum(m.attrBlock, f.sb.ChecksumBase(), at)
		if err := f.stage.write(int64(at*blockSize), m.attrBlock); err != nil {
			return err
		}
		m.attrBlock = nil
	}
	if l := f.plans[n]; l != nil {
		m.extents = l.extents
	}
	if len(m.extents) > 0 {
		return f.layExtents(n)
	}
	return nil
}

// layExtents makes the extent tree of a file whose blocks are not one run.
func (f *finisher) layExtents(n *node) error {
	m := n.more
	t := disk.Tree{
		BlockSize: blockSize, Checksums: true, Seed: f.sb.InodeSeed(n.ino, 0), Alloc: f.takeBlock,
		Write: func(block uint64, b []byte) error { return f.stage.write(int64(block*blockSize), b) },
	}
	root, nodes, err := t.Build(m.extents)
	if err != nil {
		return err
	}
	m.tree, m.treeNodes = &root, uint32(nodes)
	return nil
}

// journal writes the journal's superblock: the rest of it is a hole.
func (f *finisher) journal() error {
	n := uint32(0)
	for _, s := range f.plan.journal {
		n += uint32(s.len())
	}
	b, err := jbd2.Format(jbd2.FormatConfig{BlockSize: blockSize, Blocks: n, Wide: true, Checksums: true, UUID: f.sb.UUID})
	if err != nil {
		return err
	}
	return f.stage.write(int64(f.plan.journal[0].start*blockSize), b)
}
