package ext4

import (
	"hash/maphash"
	"slices"
	"strings"

	"banger/ext4/internal/crc"
	"banger/ext4/internal/dir"
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

// leafEnd is where entries end: before a tail with the checksum.
func (r *dirScan) leafEnd() int {
	if r.c.csum() {
		return int(r.c.bs) - dirTail
	}
	return int(r.c.bs)
}

const dirTail = 12 // ext4_dir_entry_tail

// block checks block n of the directory, which lies at at.
func (r *dirScan) block(n, at uint64, b []byte) error {
	end := r.leafEnd()
	switch {
	case r.index != nil && n == 0:
		end = int(r.c.bs) // the second record hides the root of the index
	case r.index != nil && r.index.is(n, indexNode):
		return nil
	case r.index == nil && r.indexed && (n == 0 || le.Uint32(b) == 0 && r.record(b, 0) == int(r.c.bs)):
		if n > 0 {
			return nil // was a node
		}
		end = int(r.c.bs)
	default:
		r.checkTail(n, at, b)
	}
	if r.index != nil && n > 0 {
		r.index.leaf(n, at)
	}
	return r.records(n, at, b, end)
}

// checkTail checks the checksum of a block of entries (checksums.rst).
func (r *dirScan) checkTail(n, at uint64, b []byte) {
	if !r.c.csum() {
		return
	}
	t := b[len(b)-dirTail:]
	switch {
	case le.Uint32(t) != 0 || le.Uint16(t[4:]) != dirTail || t[6] != 0 || t[7] != 0xde:
		r.c.blockProblem(ProblemChecksum, r.d.ino, at, "is a directory whose block %d has no checksum", n)
	case le.Uint32(t[8:]) != crc.C(r.sum, b[:len(b)-dirTail]):
		r.c.blockProblem(ProblemChecksum, r.d.ino, at, "is a directory whose block %d has a wrong checksum", n)
	}
}

// record is the length of the record at off; in blocks of 64 KiB some lengths do not
// fit their field.
func (r *dirScan) record(b []byte, off int) int {
	n := int(le.Uint16(b[off+4:]))
	if r.c.bs < 1<<16 {
		return n
	}
	if n == 0 || n == 1<<16-1 {
		return 1 << 16
	}
	return n&^3 | n&3<<16
}

// records goes through the entries of a block.
func (r *dirScan) records(n, at uint64, b []byte, end int) error {
	typed := r.c.sb.FeatureIncompat&disk.IncompatFiletype != 0
	place := uint64(0)
	for off := 0; off < end; place++ {
		bad := func(what string) {
			r.c.blockProblem(ProblemDirectory, r.d.ino, at, "is a directory whose block %d has a record that %s, at byte %d", n, what, off)
		}
		if end-off < 12 {
			bad("has no room")
			return nil
		}
		rec, name, typ := r.record(b, off), int(b[off+6]), b[off+7]
		if !typed {
			name, typ = int(le.Uint16(b[off+6:])), 0
		}
		ino := le.Uint32(b[off:])
		switch rest := end - off - rec; {
		case rec < 12 || rec%4 != 0:
			bad("has an impossible length")
			return nil
		case rest < 0:
			bad("leaves the block")
			return nil
		case rest > 0 && rest < 12:
			bad("leaves no room for another before the end of the block")
			return nil
		case name+8 > rec && ino != 0, name > dir.MaxName:
			bad("is too short for its name")
			return nil
		}
		if ino != 0 || n == 0 && place < 2 {
			e := dir.Entry{Ino: ino, Type: typ, Name: string(b[off+8:][:min(name, rec-8)])}
			if n == 0 && place < 2 {
				r.dot(int(place), at, e)
			} else {
				r.entry(n, at, e)
			}
		}
		off += rec
	}
	return nil
}

// typed says that entries have types. GNU Hurd has none whatever the features say.
func (r *dirScan) typed() bool {
	const hurd = 1
	return r.c.sb.FeatureIncompat&disk.IncompatFiletype != 0 && r.c.sb.CreatorOS != hurd
}

// dot checks one of the first two entries.
func (r *dirScan) dot(place int, at uint64, e dir.Entry) {
	c, d := r.c, r.d
	want := [...]string{".", ".."}[place]
	switch {
	case e.Name != want:
		if e.Ino != 0 {
			r.entry(0, at, e)
		}
		return
	case place == 0 && e.Ino != d.ino:
		c.blockProblem(ProblemDots, d.ino, at, "is a directory whose \".\" is inode %d", e.Ino)
	case place == 1 && e.Ino == 0:
		c.blockProblem(ProblemDots, d.ino, at, "is a directory whose \"..\" is no inode")
	case place == 1:
		d.dotdot = e.Ino
	}
	if e.Ino == 0 && place == 0 {
		return
	}
	r.dots++
	if place == 0 {
		r.s.found++ // a directory is a name of itself
	}
	if e.Type != disk.FTDir && r.typed() {
		c.blockProblem(ProblemFileType, d.ino, at, "is a directory whose %q has the type %d", e.Name, e.Type)
	}
}

// entry checks an entry, and counts it.
func (r *dirScan) entry(n, at uint64, e dir.Entry) {
	c, d := r.c, r.d
	problem := func(kind ProblemKind, format string, args ...any) {
		c.blockProblem(kind, d.ino, at, "has the entry %q, "+format, append([]any{e.Name}, args...)...)
	}
	s := c.state(e.Ino)
	switch {
	case e.Ino > c.sb.InodesCount || e.Ino < c.sb.FirstIno && e.Ino != disk.RootIno:
		problem(ProblemEntry, "for inode %d, which files cannot have", e.Ino)
		return
	case e.Name == "." || e.Name == "..":
		problem(ProblemName, "not in its place")
		return
	case e.Ino == disk.RootIno:
		problem(ProblemEntry, "for the root")
		return
	case e.Name == "":
		problem(ProblemName, "an empty name")
		return
	case !r.opaque && strings.ContainsAny(e.Name, "/\x00"):
		problem(ProblemName, "a name with a slash or a zero byte")
		return
	case s == nil:
		problem(ProblemEntry, "for inode %d, which is not in use", e.Ino)
		return
	case s.state&inodeBad != 0:
		problem(ProblemEntry, "for inode %d, which is damaged", e.Ino)
	case s.state&inodeValue != 0:
		problem(ProblemEntry, "for inode %d, which holds the value of an attribute", e.Ino)
		return
	case s.links == 0:
		problem(ProblemEntry, "for inode %d, which is deleted", e.Ino)
	}
	if r.index != nil && n > 0 {
		r.index.name(at, e.Name)
	}
	r.names = append(r.names, maphash.String(r.seed, e.Name))
	if r.opaque {
		const block = 16 // of the cipher: names are padded to it
		plain := s.state&inodeEncrypted == 0 && (s.kind == disk.FTRegular || s.kind == disk.FTDir || s.kind == disk.FTSymlink)
		if len(e.Name) < block {
			problem(ProblemName, "too short to be encrypted")
		} else if plain && s.state&inodeBad == 0 {
			problem(ProblemEntry, "for inode %d, which is not encrypted", e.Ino)
		}
	}
	if want := s.kind; r.typed() && want != disk.FTUnknown && e.Type != want && s.state&inodeBad == 0 {
		problem(ProblemFileType, "of type %d; inode %d is of type %d", e.Type, e.Ino, want)
	}
	if s.kind == disk.FTDir {
		if sub := c.dir(e.Ino); sub != nil {
			if sub.parent != 0 {
				problem(ProblemEntry, "for directory %d, which directory %d names", e.Ino, sub.parent)
				s.found++
				return
			}
			sub.parent = d.ino
			r.s.found++ // by its ".."
		}
	}
	s.found++
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
				r.c.blockProblem(ProblemName, r.d.ino, at, "has the entry %q twice", name)
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
