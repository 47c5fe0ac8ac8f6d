package ext4

import (
	"hash/maphash"
	"strings"

	"banger/ext4/internal/crc"
	"banger/ext4/internal/dir"
	"banger/ext4/internal/disk"
)

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
		r.problem(ProblemChecksum, at, "is a directory whose block %d has no checksum", n)
	case le.Uint32(t[8:]) != crc.C(r.sum, b[:len(b)-dirTail]):
		r.problem(ProblemChecksum, at, "is a directory whose block %d has a wrong checksum", n)
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
	names := string(b) // one string for all names
	for off := 0; off < end; place++ {
		bad := func(what string) {
			r.problem(ProblemDirectory, at, "is a directory whose block %d has a record that %s, at byte %d", n, what, off)
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
			e := dir.Entry{Ino: ino, Type: typ, Name: names[off+8:][:min(name, rec-8)]}
			if n == 0 && place < 2 {
				if e.Name == [...]string{".", ".."}[place] && b[off+8+name] != 0 {
					r.problem(ProblemDots, at, "is a directory whose %q does not end in a zero byte", e.Name)
				}
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
	d := r.d
	want := [...]string{".", ".."}[place]
	switch {
	case e.Name != want:
		if e.Ino != 0 {
			r.entry(0, at, e)
		}
		return
	case place == 0 && e.Ino != d.ino:
		r.problem(ProblemDots, at, "is a directory whose \".\" is inode %d", e.Ino)
	case place == 1 && e.Ino == 0:
		r.problem(ProblemDots, at, "is a directory whose \"..\" is no inode")
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
		r.problem(ProblemFileType, at, "is a directory whose %q has the type %d", e.Name, e.Type)
	}
}

// entry checks an entry, and counts it.
func (r *dirScan) entry(n, at uint64, e dir.Entry) {
	c, d := r.c, r.d
	problem := func(kind ProblemKind, format string, args ...any) {
		r.problem(kind, at, "has the entry %q, "+format, append([]any{e.Name}, args...)...)
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
