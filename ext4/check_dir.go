package ext4

import (
	"hash/maphash"
	"slices"

	"banger/ext4/internal/disk"
)

// dirBytes is how much of a directory is read at once.
const dirBytes = 256 << 10

// dirScan is the check of the directories, one after the other.
type dirScan struct {
	c    *checker
	seed maphash.Seed
	buf  []byte

	d    *dirCheck
	s    *inodeCheck
	i    disk.Inode
	sum  uint32 // what checksums of its blocks start from
	runs []disk.Extent
	// n is its length in blocks.
	n     uint64
	index *indexScan // nil without an index that makes sense
	// indexed says that it should have one.
	indexed bool
	// opaque says that names are encrypted: any bytes, and hashes of something else.
	opaque bool
	names  []uint64 // hashes, to find those that are there twice
	twice  map[uint64]bool
	dots   int // of "." and "..", those that were seen
	faults int
}

// checkDirs checks the content of all directories (directory.rst), and counts the
// names of each inode.
func (c *checker) checkDirs() error {
	scan := &dirScan{c: c, seed: maphash.MakeSeed(), buf: make([]byte, max(dirBytes, int(c.bs)))}
	for n := range c.dirs {
		if n%256 == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
		}
		if err := scan.check(&c.dirs[n]); err != nil {
			return err
		}
	}
	return nil
}

// check checks one directory.
func (r *dirScan) check(d *dirCheck) error {
	ok, err := r.open(d)
	if !ok {
		return err
	}
	if r.i.Flags&disk.InodeInlineData != 0 {
		return r.inline()
	}
	if r.indexed {
		if r.index, err = r.readIndex(); err != nil {
			return err
		}
	}
	if err := r.blocks(false, r.block); err != nil {
		return err
	}
	if r.dots < 2 {
		r.c.inodeProblem(ProblemDots, d.ino, "is a directory without \".\" and \"..\" in front")
	}
	return r.duplicates()
}

// open makes a directory ready to be read.
func (r *dirScan) open(d *dirCheck) (bool, error) {
	c := r.c
	s := c.state(d.ino)
	i, _, ok, err := c.rawInode(d.ino)
	if !ok || s == nil || !i.IsDir() || s.state&inodeBad != 0 {
		return false, err
	}
	*r = dirScan{c: c, seed: r.seed, buf: r.buf, runs: r.runs[:0], names: r.names[:0], d: d, s: s, i: i, sum: c.sb.InodeSeed(d.ino, i.Generation)}
	r.indexed = c.v.hasIndex(&r.i)
	r.opaque = i.Flags&disk.InodeEncrypted != 0
	if i.Flags&disk.InodeInlineData != 0 {
		return true, nil
	}
	w := &mapWalk{c: c, ino: d.ino, s: s, i: &r.i, quiet: true, data: func(e disk.Extent) { r.runs = append(r.runs, e) }}
	if err := w.walk(); err != nil {
		return false, err
	}
	r.n = min((i.Size+c.bs-1)/c.bs, w.end)
	if s.state&inodeSharing != 0 {
		// It shares blocks with others, which may be many: see checker.again.
		if c.again -= int(min(r.n, 1<<20)); c.again <= 0 {
			c.note("directory %d was not checked: too many blocks are shared", d.ino)
			return false, nil
		}
	}
	return true, nil
}

// find gives the block of the file system that is block n of the directory.
func (r *dirScan) find(n uint64) (uint64, bool) {
	k, _ := slices.BinarySearchFunc(r.runs, n, func(e disk.Extent, n uint64) int {
		if e.End() <= n {
			return -1
		}
		return 1
	})
	if k == len(r.runs) || uint64(r.runs[k].Logical) > n || r.runs[k].Unwritten {
		return 0, false
	}
	return r.runs[k].Physical + n - uint64(r.runs[k].Logical), true
}

// blocks calls f for each block of the directory. Unless it is quiet, it reports holes.
func (r *dirScan) blocks(quiet bool, f func(n, at uint64, b []byte) error) error {
	c, next := r.c, uint64(0)
	for _, e := range r.runs {
		from, to := uint64(e.Logical), min(e.End(), r.n)
		if from >= r.n {
			break
		}
		if (from > next || e.Unwritten) && !quiet {
			c.inodeProblem(ProblemDirectory, r.d.ino, "is a directory with a hole at its block %d", min(next, from))
		}
		next = to
		for at := from; at < to && !e.Unwritten; {
			k := min(to-at, uint64(len(r.buf))/c.bs)
			b := r.buf[:k*c.bs]
			ok, err := c.read(e.Physical+at-from, b)
			if err != nil {
				return err
			}
			for n := uint64(0); ok && n < k; n++ {
				if err := f(at+n, e.Physical+at-from+n, b[n*c.bs:][:c.bs]); err != nil {
					return err
				}
			}
			at += k
		}
	}
	return nil
}

// duplicates reports names that are there twice. Their hashes are compared; names are
// looked at only where two are the same.
func (r *dirScan) duplicates() error {
	slices.Sort(r.names)
	r.twice = nil
	for k := 1; k < len(r.names); k++ {
		if r.names[k] == r.names[k-1] {
			if r.twice == nil {
				r.twice = make(map[uint64]bool)
			}
			r.twice[r.names[k]] = false
		}
	}
	if r.twice == nil {
		return nil
	}
	if r.i.Flags&disk.InodeInlineData != 0 {
		r.c.inodeProblem(ProblemName, r.d.ino, "is a directory with a name twice")
		return nil
	}
	return r.again()
}

// again looks for the names in r.twice.
func (r *dirScan) again() error {
	return r.quietly(func(at uint64, _ uint32, name []byte) {
		h := maphash.Bytes(r.seed, name)
		if seen, ok := r.twice[h]; ok {
			if seen {
				r.problem(ProblemName, at, "has the entry %q twice", name)
			}
			r.twice[h] = true
		}
	})
}

// quietly goes through the entries of a directory that has been checked, as far as
// they make sense.
func (r *dirScan) quietly(f func(at uint64, ino uint32, name []byte)) error {
	typed := r.c.sb.FeatureIncompat&disk.IncompatFiletype != 0
	return r.blocks(true, func(_, at uint64, b []byte) error {
		for off, end := 0, r.leafEnd(); off+12 <= end; {
			rec, name := r.record(b, off), int(b[off+6])
			if !typed {
				name = int(le.Uint16(b[off+6:]))
			}
			if rec < 12 || rec%4 != 0 || off+rec > len(b) || 8+name > rec {
				return nil
			}
			if ino := le.Uint32(b[off:]); ino != 0 {
				f(at, ino, b[off+8:][:name])
			}
			off += rec
		}
		return nil
	})
}

// maxFaults is how many problems of one directory are told: what was no directory at
// all would fill the report.
const maxFaults = 20

func (r *dirScan) problem(kind ProblemKind, at uint64, format string, args ...any) {
	if r.faults++; r.faults > maxFaults {
		r.c.report.Omitted++
		return
	}
	r.c.blockProblem(kind, r.d.ino, at, format, args...)
}

// inline checks a directory inside its inode (inlinedata.rst).
func (r *dirScan) inline() error {
	c, d := r.c, r.d
	_, raw, ok, err := c.rawInode(d.ino)
	if !ok {
		return err
	}
	first, rest, err := c.v.inlineParts(d.ino, &r.i, raw)
	if err != nil {
		return nil // reported with the inode
	}
	d.dotdot = le.Uint32(first)
	r.s.found++ // for "."
	for k, b := range [][]byte{first[4:], rest} {
		if len(b) > 0 && (k == 0 || len(b) >= 12) {
			if err := r.records(uint64(k)+1, 0, b, len(b)); err != nil {
				return err
			}
		}
	}
	return r.duplicates()
}
