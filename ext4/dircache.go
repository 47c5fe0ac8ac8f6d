package ext4

import (
	"strings"
	"sync"
	"sync/atomic"

	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

// dirCache keeps what was worked out about the directories that were used last, so
// that a path through them, or a walk over all of their entries, does not do it
// again for each name. It is for images that do not change. It has two generations,
// as cache has. A nil cache keeps nothing.
type dirCache struct {
	mu         sync.Mutex
	young, old map[uint32]*openDir
	// paths has the directories that names led to, links followed.
	paths map[string]uint32

	tables [64]atomic.Pointer[inodeTable]
}

// inodeTable is where a group's inodes are.
type inodeTable struct {
	group uint32
	block uint64
}

func (c *dirCache) table(group uint32) (uint64, bool) {
	if c == nil {
		return 0, false
	}
	t := c.tables[group%uint32(len(c.tables))].Load()
	if t == nil || t.group != group {
		return 0, false
	}
	return t.block, true
}

func (c *dirCache) putTable(group uint32, block uint64) {
	if c != nil {
		c.tables[group%uint32(len(c.tables))].Store(&inodeTable{group, block})
	}
}

// path finds the directory that a name led to before.
func (c *dirCache) path(name string) (uint32, bool) {
	if c == nil {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ino, ok := c.paths[name]
	return ino, ok
}

func (c *dirCache) putPath(name string, ino uint32) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paths == nil || len(c.paths) >= cachedDirs {
		c.paths = make(map[string]uint32, cachedDirs)
	}
	c.paths[strings.Clone(name)] = ino
}

const (
	// cachedDirs is how many directories a generation has.
	cachedDirs = 16
	// cachedExtents and cachedNames bound what each of them may hold.
	cachedExtents = 1 << 14
	cachedNames   = 1 << 18
	// fewBlocks is how many blocks of a directory a quick search reads: those of
	// an index, and a leaf with its neighbour.
	fewBlocks = 6
)

// openDir is a directory in use. It does not change once it is in the cache.
type openDir struct {
	ino    uint32
	params *dir.Params
	blocks *dirBlocks
	// names has the entries of a directory that could be found only by searching
	// all of it; complete says that it has all of them.
	names    map[string]dir.Entry
	complete bool
	slow     atomic.Bool // a search has read much of it
}

// openDir gives a directory that is not inline; i is its inode.
func (v *volume) openDir(ino uint32, i *disk.Inode) (*openDir, error) {
	if d := v.dirs.get(ino); d != nil {
		return d, nil
	}
	blocks, err := v.dirBlocks(ino, i)
	if err != nil {
		return nil, err
	}
	d := &openDir{ino: ino, params: v.dirParams(ino, i), blocks: blocks}
	v.dirs.put(d)
	return d, nil
}

func (c *dirCache) get(ino uint32) *openDir {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.young[ino]; d != nil {
		return d
	}
	d := c.old[ino]
	if d != nil {
		c.add(d)
	}
	return d
}

func (c *dirCache) put(d *openDir) {
	if c == nil || len(d.blocks.m.extents) > cachedExtents {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(d)
}

func (c *dirCache) add(d *openDir) {
	if c.young == nil || len(c.young) >= cachedDirs {
		c.young, c.old = make(map[uint32]*openDir), c.young
	}
	c.young[d.ino] = d
}

// slow notes that a name was found, or not, only by reading much of a directory: it
// has no index, or a damaged one. The second time all its names are collected, so that
// a walk that looks up each of them is not quadratic.
func (c *dirCache) slow(d *openDir, hasIndex bool) {
	if c == nil || d.names != nil || !d.slow.Swap(true) {
		return
	}
	names := make(map[string]dir.Entry)
	err := d.params.Walk(d.blocks, hasIndex, func(_ uint32, e dir.Entry) error {
		if _, twice := names[e.Name]; twice {
			return nil // a search finds the first
		}
		if names[e.Name] = e; len(names) > cachedNames {
			return errTooBig
		}
		return nil
	})
	if err == errTooBig {
		return
	}
	c.put(&openDir{ino: d.ino, params: d.params, blocks: d.blocks, names: names, complete: err == nil})
}

// readCounter counts the blocks that a search reads.
type readCounter struct {
	*dirBlocks
	n int
}

func (r *readCounter) Read(i uint32) ([]byte, error) {
	r.n++
	return r.dirBlocks.Read(i)
}
